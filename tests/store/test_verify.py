"""Every rule of `verify` has mutants: break exactly that, and it must be named with its subject."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from itertools import count

import asyncpg
import pytest
from tests.helpers import consume, release, reserve, uid
from tests.store.mutants import MUTANTS, on
from tests.store.order_mutants import ORDER_MUTANTS
from tests.store.trading import NEIGHBOUR, SHOP, harm, open_shop, trade

from cerniq_stock.store import verify as module
from cerniq_stock.store.begin import PREPARE
from cerniq_stock.store.database import KEY_LOOKUPS, connect, create_database, drop_database
from cerniq_stock.store.sweep import SETTINGS, Sweeper
from cerniq_stock.store.transaction import Transaction
from cerniq_stock.store.verify import RULES, verify
from cerniq_stock.store.writer import Writer

_numbers = count(1)


@pytest.fixture(scope="module")
def sound(server: str, template: str) -> Iterator[str]:
    """Name of a database with two tenants' trade, to be cloned and broken."""

    async def make() -> None:
        dsn = await create_database(server, "sound", template=template)
        superuser = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
        app = await connect(dsn, settings=SETTINGS)
        await app.execute(PREPARE)
        for tenant in (SHOP, NEIGHBOUR):
            await open_shop(superuser, tenant)
            await trade(app, tenant)
        await app.close()
        await superuser.close()

    asyncio.run(make())
    yield "sound"
    asyncio.run(drop_database(server, "sound"))


@pytest.fixture
async def traded(server: str, sound: str) -> AsyncIterator[str]:
    """Address of a clone of the sound database."""
    name = f"mutant_{next(_numbers)}"
    yield await create_database(server, name, template=sound)
    await drop_database(server, name)


# -- mutants --------------------------------------------------------------------------------


@pytest.mark.parametrize("mutant", MUTANTS + ORDER_MUTANTS, ids=str)
async def test_a_mutant_is_found(traded, mutant):
    await harm(traded, mutant.sql)
    report = await verify(traded)
    assert not report.ok
    assert {d.tenant_id for d in report.differences} == {SHOP.id}
    found = {(d.rule, d.subject) for d in report.differences}
    assert any(rule == mutant.rule and mutant.subject in subject for rule, subject in found), found
    assert {rule for rule, _ in found} <= RULES.keys()
    if mutant.alone:
        assert {rule for rule, _ in found} == {mutant.rule}
    assert all(d.expected != d.found for d in report.differences)


def test_every_rule_has_a_mutant():
    assert {mutant.rule for mutant in MUTANTS + ORDER_MUTANTS} == set(RULES)


async def test_a_difference_says_what_was_expected_and_found(traded):
    await harm(traded, f"UPDATE stock_levels SET total = total + 1 WHERE {on('A', 'W2')}")
    (difference,) = (await verify(traded)).differences
    assert (difference.subject, difference.expected, difference.found) == (
        "A @ W2", "49.000", "50.000",
    )  # fmt: skip


async def test_a_break_of_the_chain_says_where(traded):
    await harm(
        traded,
        f"UPDATE stock_movements SET previous_available = 7 WHERE {on('B', 'W2')} AND sequence = 1",
    )
    (difference,) = (await verify(traded)).differences
    assert difference.subject == "B @ W2 #1"
    assert (difference.rule, difference.expected, difference.found) == (
        "movement.chain", "0", "7.000",
    )  # fmt: skip


# -- no mutant ------------------------------------------------------------------------------


async def test_a_sound_database_is_sound(traded):
    report = await verify(traded)
    assert report.differences == ()
    assert report.ok
    assert (report.tenants, report.levels, report.reservations) == (2, 14, 28)
    assert report.movements > 50
    assert 0 < report.duration_s < 60


async def test_an_empty_database_is_sound(database):
    report = await verify(database)
    assert report.ok
    assert (report.tenants, report.levels, report.movements, report.reservations) == (0, 0, 0, 0)


async def test_one_tenant_can_be_looked_at_alone(traded):
    await harm(traded, f"UPDATE stock_levels SET total = total + 1 WHERE {on('A', 'W2')}")
    assert (await verify(traded, tenant_id=NEIGHBOUR.id)).ok
    report = await verify(traded, tenant_id=SHOP.id)
    assert [d.rule for d in report.differences] == ["level.total"]
    whole = await verify(traded)
    assert report.tenants == 1
    assert 2 * report.levels == whole.levels
    assert 2 * report.movements == whole.movements
    assert 2 * report.reservations == whole.reservations


async def test_differences_are_capped_rule_by_rule(traded, monkeypatch):
    monkeypatch.setattr(module, "DIFFERENCES_MAX", 2)
    await harm(traded, "UPDATE stock_levels SET total = total + 1, version = version + 1")
    await harm(traded, "UPDATE stock_reservations SET release_reason = 'X' WHERE id = 'consumed'")
    found = [(d.rule, d.subject) for d in (await verify(traded)).differences]
    for rule in ("level.total", "level.version"):
        of_rule = [subject for name, subject in found if name == rule]
        assert len(of_rule) == 3
        assert of_rule.index("…") == 2
    assert [subject for name, subject in found if name == "reservation.end"] == ["consumed"] * 2


async def test_progress_is_told(database):
    told: list[tuple[str, int, int]] = []
    await verify(database, progress=lambda *of: told.append(of))
    assert told == [(check, done, 1) for check in module.CHECKS for done in (0, 1)]


async def test_it_runs_beside_traffic(superuser, database):
    """One snapshot: what is being written is seen whole or not at all."""
    await open_shop(superuser, SHOP)
    chance = random.Random(3)
    done = asyncio.Event()

    async def call(writer: Writer, caller: int) -> None:
        for n in range(40):
            id_ = f"r{caller}-{n}"
            sku = chance.choice("AB")
            made = reserve(id_, f"{sku}={chance.randint(1, 9)}", expires_in_h=chance.choice((0, 1)))
            await writer.submit(SHOP.id, made)
            await writer.submit(SHOP.id, chance.choice((release, consume))(id_))

    async def watch() -> int:
        looks = 0
        while not done.is_set():
            assert (await verify(database)).differences == ()
            looks += 1
        return looks

    async with Sweeper(database, interval_s=0.001), Writer(database) as writer:
        watching = asyncio.create_task(watch())
        await asyncio.gather(*(call(writer, caller) for caller in range(8)))
        done.set()
        assert await watching > 0


# -- what others change ---------------------------------------------------------------------

INSERT = (
    "INSERT INTO stock_levels (tenant_id, product_id, warehouse, total)"
    f" VALUES ('{SHOP.id}', '{uid('A')}', '{{}}', {{}})"
)


@pytest.mark.parametrize(
    "sql",
    [
        f"UPDATE stock_levels SET total = total + 5, blocked = 2 WHERE {on('A', 'W2')}",
        INSERT.format("W9", 5),
        (
            f"{INSERT.format('W2', 77)} ON CONFLICT (tenant_id, product_id, warehouse)"
            " DO UPDATE SET total = excluded.total"
        ),
    ],
    ids=["update", "insert", "upsert"],
)
async def test_a_change_behind_the_engine_is_logged_and_sound(traded, sql):
    superuser = await asyncpg.connect(traded, server_settings={"search_path": "cerniq"})
    await superuser.execute(sql.replace("MINE", f"tenant_id = '{SHOP.id}'"))
    await superuser.close()
    assert (await verify(traded)).differences == ()


async def test_the_writer_goes_on_after_a_change_behind_it(traded):
    superuser = await asyncpg.connect(traded, server_settings={"search_path": "cerniq"})
    await superuser.execute("UPDATE stock_levels SET total = total + 5")
    await superuser.close()
    app = await connect(traded, settings=KEY_LOOKUPS)
    await app.execute(PREPARE)
    (answer,) = await Transaction(SHOP.id, [reserve("more", "A=3")]).run(app)
    await app.close()
    assert answer.total_reserved == Decimal(3)
    assert (await verify(traded)).ok
