"""What people decide: conflicts side by side, dry runs applied by their id."""

from decimal import Decimal

import pytest

from cerniq_stock.cli.problems import ERROR, problem_of
from cerniq_stock.domain.commands import Item
from cerniq_stock.domain.sync import Strategy
from cerniq_stock.errors import CommandFailedError, InvalidInputError, NotFoundError
from cerniq_stock.store.database import create_pool
from cerniq_stock.sync.review import Resolution, Review
from cerniq_stock.sync.syncs import Syncs
from tests.sync.conftest import Known, row
from tests.sync.test_run import sell


@pytest.fixture
async def app(shop):
    async with create_pool(shop.stock.dsn, "cerniq_app", max_size=2) as pool:
        yield pool


@pytest.fixture
def review(shop, app):
    return Review(shop.stock.dsn, app)


@pytest.fixture
async def conflict(shop, review):
    """Agreed on 10, sold 3 here, 12 there."""
    await shop.sync("A=10")
    await sell(shop, "A", 3)
    await shop.by(Strategy.MANUAL).sync("A=12")
    (found,) = await review.conflicts(shop.tenant)
    assert (found.local_value, found.erp_value, found.last_agreed) == (7, 12, 10)
    return found


@pytest.mark.parametrize(
    ("how", "value", "total"),
    [("ACCEPT_ERP", None, 12), ("KEEP_LOCAL", None, 7), ("SET_VALUE", "9", 9)],
)
@pytest.mark.parametrize("kind", [Resolution, str])
async def test_a_person_decides_with_who_and_why(shop, review, conflict, how, value, total, kind):
    told = await review.resolve(
        shop.tenant, conflict.id, kind(how), value=value, by="clerk", because="counted"
    )
    assert (told.resolution, told.resolved_value) == (how, total)
    assert (told.resolved_by, told.resolved_because) == ("clerk", "counted")
    assert await shop.levels() == {"A@MAIN": f"{total} 0 0"}
    again = await shop.by(Strategy.MANUAL).sync("A=12")  # the ERP says nothing new
    assert (again.conflicts, await review.conflicts(shop.tenant)) == ((), ())
    with pytest.raises(InvalidInputError):
        await review.resolve(shop.tenant, conflict.id, Resolution.KEEP_LOCAL, by="clerk")
    assert (await shop.stock.verify()).ok


async def test_nobody_decides_unnamed(shop, review, conflict):
    for nobody in (None, "", " \t", 5, "nul\0", "x" * 101):
        with pytest.raises(InvalidInputError) as refused:
            await review.resolve(shop.tenant, conflict.id, Resolution.ACCEPT_ERP, by=nobody)
        assert refused.value.field == "by"
    assert await review.conflicts(shop.tenant) == (conflict,)


async def test_a_decision_that_is_none_is_refused(shop, review, conflict):
    for nothing in ("accept-erp", "GONE", None, 5):
        with pytest.raises(InvalidInputError, match="ACCEPT_ERP, KEEP_LOCAL, SET_VALUE") as refused:
            await review.resolve(shop.tenant, conflict.id, nothing, by="clerk")
        assert refused.value.field == "how"
    assert await review.conflicts(shop.tenant) == (conflict,)


async def test_what_is_firmly_promised_stays_promised(shop, review, conflict):
    await shop.stock.reserve(shop.tenant, shop.negotiation, [Item("A", 6)], type="HARD")
    with pytest.raises(InvalidInputError, match="firmly"):
        await review.resolve(shop.tenant, conflict.id, Resolution.SET_VALUE, value=5, by="clerk")
    assert len(await review.conflicts(shop.tenant)) == 1
    with pytest.raises(NotFoundError):
        await review.resolve(shop.tenant, conflict.id[::-1], Resolution.KEEP_LOCAL, by="clerk")
    for nothing in ("nothing", "nul\0" * 26, "\udcff" * 26, None):
        with pytest.raises(InvalidInputError, match="conflict is not an id of 26"):
            await review.resolve(shop.tenant, nothing, Resolution.KEEP_LOCAL, by="clerk")


async def test_a_dry_run_is_applied_once_by_its_id(shop, app):
    syncs = Syncs(shop.stock.dsn, app, Known(shop.integration))
    await shop.sync("A=10", "B=10")
    figures = row("A=12", price=Decimal(3), currency="RON"), "B=4", "C=1.25"
    dry = await shop.sync(*figures, dry=True)
    done = await syncs.apply(shop.tenant, dry.sync_id)
    assert await shop.levels() == {"A@MAIN": "12 0 0", "B@MAIN": "4 0 0", "C@MAIN": "1.25 0 0"}
    assert await shop.operator.fetchval("SELECT price FROM products WHERE sku = 'A'") == 3
    assert set(done.changes) == set(dry.changes)
    with pytest.raises(InvalidInputError, match="before"):
        await syncs.apply(shop.tenant, dry.sync_id)
    assert [x.dry_run for x in await syncs.review.runs(shop.tenant)] == [False, True, False]


async def test_what_the_database_cannot_store_is_no_bad_input(shop, app, superuser):
    syncs = Syncs(shop.stock.dsn, app, Known(shop.integration))
    dry = await shop.sync("A=10", dry=True)
    await superuser.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'character_not_in_repertoire'; END $$"
    )
    await superuser.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON stock_movements"
        " FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    with pytest.raises(CommandFailedError) as failed:
        await syncs.apply(shop.tenant, dry.sync_id)
    assert not failed.value.retryable
    assert problem_of(failed.value).exit_code == ERROR


async def test_a_dry_run_whose_stock_has_moved_is_not_applied(shop, app):
    syncs = Syncs(shop.stock.dsn, app, Known(shop.integration))
    await shop.sync("A=10", "B=10")
    dry = await shop.sync("A=12", "B=12", dry=True)
    await sell(shop, "B", 1)
    with pytest.raises(InvalidInputError, match="moved since, of B"):
        await syncs.apply(shop.tenant, dry.sync_id)
    dry = await shop.sync("A=12", "B=12", dry=True)
    await shop.sync("A=11", "B=9", force=True)
    with pytest.raises(InvalidInputError, match="Another sync"):
        await syncs.apply(shop.tenant, dry.sync_id)


async def test_a_sale_in_that_very_moment_is_not_overwritten(shop, review, conflict, monkeypatch):
    """Between the look at the level and the transaction that changes it."""
    as_seen = Review._as_seen

    async def sold_meanwhile(self, *arguments):
        version = await as_seen(self, *arguments)
        await sell(shop, "A", 4)
        return version

    monkeypatch.setattr(Review, "_as_seen", sold_meanwhile)
    with pytest.raises(InvalidInputError, match="there are 3 here"):
        await review.resolve(shop.tenant, conflict.id, Resolution.ACCEPT_ERP, by="clerk")
    assert await shop.levels() == {"A@MAIN": "3 0 0"}
    (seen,) = await review.conflicts(shop.tenant)
    assert seen.local_value == 3
