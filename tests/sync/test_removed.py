"""An ERP is removed: what it had blocked is free again, once, and nothing of it comes back."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest

from cerniq_stock.domain.commands import Item
from cerniq_stock.domain.sync import Strategy
from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.secrets import new_key, read_keys
from cerniq_stock.errors import InvalidInputError, NotFoundError, UnavailableError
from cerniq_stock.integrations import Integrations
from cerniq_stock.store import transaction
from cerniq_stock.store.database import create_pool
from cerniq_stock.store.syncing import BusyError, turn
from cerniq_stock.store.transaction import Transaction
from cerniq_stock.sync.review import Resolution, Review
from tests.sync.conftest import Shop
from tests.sync.test_run import sell

KEYS = read_keys(new_key("k1"), None)
SAGA = {"connection": {"baseUrl": "https://a.example", "apiKey": "k", "companyCode": "F"}}
OBLIO = {"connection": {"email": "a@b.example", "secret": "s", "cif": "RO123"}}


@pytest.fixture
async def integrations(shop) -> AsyncIterator[Integrations]:
    async with (
        create_pool(shop.stock.dsn, "cerniq_app", max_size=2) as app,
        create_pool(shop.stock.dsn, "cerniq_operator", max_size=1) as operator,
    ):
        yield Integrations(app, operator, keys=lambda: KEYS, policy=Policy())


async def added(shop: Shop, integrations: Integrations, system: str = "SAGA") -> Shop:
    """The shop with another ERP."""
    config = SAGA if system == "SAGA" else OBLIO
    view = await integrations.add(shop.tenant, system, name=system, config=config)
    return replace(shop, integration=replace(shop.integration, id=view.id, erp_system=system))


async def remembered(shop: Shop) -> list[tuple[str, int]]:
    """What the ERPs' own parts of what is blocked are."""
    rows = await shop.operator.fetch(
        "SELECT p.sku, e.blocked FROM erp_levels AS e JOIN products AS p"
        " ON p.tenant_id = e.tenant_id AND p.id = e.product_id ORDER BY p.sku, e.blocked"
    )
    return [tuple(row) for row in rows]


async def movements(shop: Shop) -> list[tuple]:
    rows = await shop.operator.fetch(
        "SELECT sku, type, total_delta, reserved_delta, blocked_delta, created_by, notes"
        " FROM stock_movements WHERE notes LIKE '%removed' ORDER BY sku, warehouse"
    )
    return [tuple(row) for row in rows]


# -- what is freed ----------------------------------------------------------------------------


async def test_the_erps_part_is_freed_and_what_people_hold_stays(shop, integrations):
    await shop.sync("A=10/7", "A@DEPOT=4/3", "B=5", "C=2.5/2.25")
    await shop.stock.adjust(shop.tenant, "A", blocked=2)
    await shop.stock.reserve(shop.tenant, shop.negotiation, [Item("A", 1)])
    await sell(shop, "A", 1)  # of which the ERP has not heard
    held = {"A@MAIN": "9 1 5", "A@DEPOT": "4 0 1", "B@MAIN": "5 0 0", "C@MAIN": "2.5 0 0.25"}
    assert await shop.levels() == held
    gone = await integrations.remove(shop.tenant, "SAGA")
    assert (gone.erp_system, gone.levels_freed, gone.conflicts_ended) == ("SAGA", 3, 0)
    freed = {"A@MAIN": "9 1 2", "A@DEPOT": "4 0 0", "B@MAIN": "5 0 0", "C@MAIN": "2.5 0 0"}
    assert await shop.levels() == freed
    who = "erp:SAGA", "SAGA was removed"
    assert [(x[0], x[4], *x[5:]) for x in await movements(shop)] == [
        ("A", -1, *who),
        ("A", -3, *who),
        ("C", pytest.approx(-0.25), *who),
    ]
    assert {x[1:4] for x in await movements(shop)} == {("SYNC", 0, 0)}
    assert await remembered(shop) == []
    assert await integrations.listed(shop.tenant) == ()
    assert (await shop.stock.verify()).ok


async def test_no_more_is_freed_than_is_blocked(shop, integrations):
    await shop.sync("A=10/7", "B=10/7")
    await shop.stock.adjust(shop.tenant, "A", blocked=-2)
    await shop.stock.adjust(shop.tenant, "B", blocked=-3)
    assert (await integrations.remove(shop.tenant, "SAGA")).levels_freed == 1
    assert await shop.levels() == {"A@MAIN": "10 0 0", "B@MAIN": "10 0 0"}
    assert (await shop.stock.verify()).ok


async def test_what_another_erp_has_committed_stays(shop, integrations):
    other = await added(shop, integrations, "OBLIO")
    await shop.sync("A=10/7", "B=10/7")
    await other.sync("A=10/9")
    assert await shop.levels() == {"A@MAIN": "10 0 4", "B@MAIN": "10 0 3"}
    await integrations.remove(shop.tenant, "SAGA")
    assert await shop.levels() == {"A@MAIN": "10 0 1", "B@MAIN": "10 0 0"}
    assert await remembered(shop) == [("A", 1)]


async def test_added_anew_it_says_the_same_as_the_first_time(shop, integrations):
    for _ in range(3):
        await shop.sync("A=10/7", "B=4/4")
        assert await shop.levels() == {"A@MAIN": "10 0 3", "B@MAIN": "4 0 0"}
        await integrations.remove(shop.tenant, "SAGA")
        shop = await added(shop, integrations)
    assert (await shop.stock.verify()).ok


async def test_open_conflicts_are_over(shop, integrations):
    await shop.sync("A=10", "B=10")
    await sell(shop, "A", 3)
    await shop.by(Strategy.MANUAL).sync("A=12", "B=10")
    assert (await integrations.remove(shop.tenant, "SAGA")).conflicts_ended == 1
    (row,) = await shop.operator.fetch("SELECT resolution, resolved_by FROM sync_conflicts")
    assert tuple(row) == ("GONE", "SAGA was removed")
    async with create_pool(shop.stock.dsn, "cerniq_app", max_size=1) as app:
        review = Review(shop.stock.dsn, app)
        (over,) = await review.conflicts(shop.tenant, ended=True)
        with pytest.raises(InvalidInputError, match="already"):
            await review.resolve(shop.tenant, over.id, Resolution.KEEP_LOCAL, by="clerk")
    assert await shop.levels() == {"A@MAIN": "7 0 0", "B@MAIN": "10 0 0"}


async def test_one_that_never_told_anything(shop, integrations):
    gone = await integrations.remove(shop.tenant, "SAGA")
    assert (gone.levels_freed, gone.conflicts_ended) == (0, 0)
    for tenant in (shop.tenant, uuid4()):
        with pytest.raises(NotFoundError):
            await integrations.remove(tenant, "SAGA")


async def test_switched_off_it_keeps_everything(shop, integrations):
    await shop.sync("A=10/7")
    await integrations.change(shop.tenant, "SAGA", enabled=False)
    assert (await shop.levels(), await remembered(shop)) == ({"A@MAIN": "10 0 3"}, [("A", 3)])


# -- with syncs beside it ---------------------------------------------------------------------


async def test_not_while_a_sync_is_under_way(shop, integrations):
    await shop.sync("A=10/7")
    async with turn(shop.stock.dsn, shop.tenant, shop.integration.id):
        with pytest.raises(BusyError):
            await integrations.remove(shop.tenant, "SAGA")
    assert (await shop.levels(), await remembered(shop)) == ({"A@MAIN": "10 0 3"}, [("A", 3)])
    await integrations.remove(shop.tenant, "SAGA")
    assert await shop.levels() == {"A@MAIN": "10 0 0"}


async def test_no_sync_comes_in_between_nor_after(shop, integrations, monkeypatch):
    await shop.sync("A=10/7")
    step, tried = Transaction.run, []

    async def meanwhile(self, connection):
        with pytest.raises(BusyError):
            await shop.sync("A=10/5")
        tried.append(1)
        return await step(self, connection)

    monkeypatch.setattr(Transaction, "run", meanwhile)
    await integrations.remove(shop.tenant, "SAGA")
    assert tried == [1]
    with pytest.raises(NotFoundError, match="gone"):  # one that had looked it up before
        await shop.sync("A=10/5")
    assert (await shop.levels(), await remembered(shop)) == ({"A@MAIN": "10 0 0"}, [])


async def test_the_turn_is_given_back_with_the_connection(shop, integrations, monkeypatch):
    await shop.sync("A=10/7")
    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "run", _never)
        with pytest.raises(asyncio.CancelledError):
            await integrations.remove(shop.tenant, "SAGA")
    await shop.sync("A=10/6")
    assert await shop.levels() == {"A@MAIN": "10 0 4"}


async def _never(*_):
    raise asyncio.CancelledError


# -- in the middle ----------------------------------------------------------------------------

NAMES = "A@MAIN", "B@MAIN", "C@MAIN"
FREED = dict.fromkeys(NAMES, "10 0 2")


@pytest.fixture
async def cut_off(shop, integrations, superuser, monkeypatch):
    """Of three levels with 3 of the ERP's and 2 of people's the first is freed; then it dies."""

    async def cut_off() -> None:
        await shop.sync("A=10/7", "B=10/7", "C=10/7")
        for sku in "ABC":
            await shop.stock.adjust(shop.tenant, sku, blocked=2)
        step, left = Transaction.run, [1]

        async def dies(self, connection):
            if not left[0]:
                own = await connection.fetchval("SELECT pg_backend_pid()")
                await superuser.execute("SELECT pg_terminate_backend($1, 10000)", own)
            left[0] -= 1
            return await step(self, connection)

        with monkeypatch.context() as patch:
            patch.setattr("cerniq_stock.store.removal.CHUNK", 1)
            patch.setattr(Transaction, "run", dies)
            with pytest.raises(UnavailableError, match="again"):
                await integrations.remove(shop.tenant, "SAGA")
        levels = await shop.levels()
        assert sorted(levels[name] for name in NAMES) == ["10 0 2", "10 0 5", "10 0 5"]

    return cut_off


async def test_what_dies_in_the_middle_is_gone_on_with(shop, integrations, cut_off):
    await cut_off()
    assert min(await remembered(shop), key=lambda x: x[1])[1] == 0, "it still knows all three"
    assert (await integrations.remove(shop.tenant, "SAGA")).levels_freed == 2
    assert await shop.levels() == FREED
    assert [(x[0], x[4]) for x in await movements(shop)] == [("A", -3), ("B", -3), ("C", -3)]
    assert (await shop.stock.verify()).ok


async def test_what_is_not_forgotten_with_it_would_be_freed_twice(
    shop, integrations, cut_off, monkeypatch
):
    """Negative control: were the level written without what is remembered of it."""
    write = transaction.write

    async def forgetful(connection, tenant_id, changes, now, places):
        freeing = any((x.notes or "").endswith("removed") for x in changes.movements)
        kept = replace(changes, synced=()) if freeing else changes
        return await write(connection, tenant_id, kept, now, places)

    monkeypatch.setattr(transaction, "write", forgetful)
    await cut_off()
    await integrations.remove(shop.tenant, "SAGA")
    assert await shop.levels() != FREED


async def test_kept_after_all_it_goes_on_as_if_nothing_had_been(shop, cut_off):
    await cut_off()
    for sku in "ABC":
        await sell(shop, sku, 1)  # of which the ERP has not heard
    result = await shop.sync("A=10/7", "B=10/7", "C=10/7")
    assert (result.conflicts, result.errors) == ((), ())
    assert await shop.levels() == dict.fromkeys(NAMES, "9 0 5")
    assert await remembered(shop) == [("A", 3), ("B", 3), ("C", 3)]
