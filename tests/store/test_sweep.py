"""The sweep writes down exactly what the domain would, beside whatever else goes on."""

import asyncio
import logging
import random
from collections.abc import Sequence
from datetime import timedelta

import asyncpg
import pytest
from tests.helpers import (
    consume,
    extend,
    fold,
    read_back,
    receive,
    release,
    reserve,
    shift_expiry,
    uid,
    until_blocked,
)
from tests.store.sweeping import TENANT, assert_sound, due, open_shop, run, statuses

from cerniq_stock.domain.commands import Command
from cerniq_stock.domain.model import Tenant
from cerniq_stock.domain.work import Work
from cerniq_stock.store.database import connect
from cerniq_stock.store.sweep import SETTINGS, Sweeper, due_tenants, sweep_all, sweep_tenant
from cerniq_stock.store.transaction import Transaction
from cerniq_stock.store.writer import Writer

# -- exactness ------------------------------------------------------------------------------


async def test_it_does_what_the_domain_does(app, superuser, database):
    await open_shop(superuser, "A=5+5 B=9+0 C=3+4")
    await run(
        app,
        reserve("r1", "A=8 B=2 A=1"),
        reserve("r2", "B=3 C=6", expires_in_h=1),
        reserve("r3", "C=1", expires_in_h=200),
        reserve("r4", "B=2", expires_in_h=2),
        consume("r1", "A=6"),
        release("r2", "B=1"),
        release("r4"),
        reserve("r5", "B=4", expires_in_h=3),
        receive("A=2", into="W2"),
    )
    await shift_expiry(superuser, TENANT.id, timedelta(hours=100))
    before = await read_back(superuser, TENANT)

    assert await sweep_tenant(app, TENANT.id) == 3

    after = await read_back(superuser, TENANT)
    now = await superuser.fetchval("SELECT max(released_at) FROM stock_reservations")
    work = Work(before.state, now)
    for id_ in ("r1", "r2", "r5"):
        work.expire(before.state.reservations[id_])
    changes = work.changes()
    assert after.state == fold(before.state, changes)
    assert after.movements == before.movements + changes.movements
    assert after.notifications == before.notifications
    assert (await statuses(superuser))["r3"] == "ACTIVE"
    await assert_sound(database)


async def test_every_column_is_written(app, superuser):
    await open_shop(superuser, "A=3")
    await run(app, due("r1", "A=2"))
    await sweep_tenant(app, uid("tenant"))
    header = await superuser.fetchrow("SELECT * FROM stock_reservations")
    assert header["released_at"] == header["updated_at"] >= header["expires_at"]
    assert (header["status"], header["release_reason"]) == ("EXPIRED", "EXPIRED")
    assert (header["released_by"], header["release_notes"]) == (None, None)
    level = await superuser.fetchrow("SELECT * FROM stock_levels")
    assert (level["updated_at"], level["reserved"]) == (header["released_at"], 0)
    movement = await superuser.fetchrow("SELECT * FROM stock_movements ORDER BY id DESC LIMIT 1")
    expected = {
        "type": "RELEASE", "quantity": 2, "previous_available": 1, "new_available": 3,
        "sequence": level["version"], "reference_type": "RESERVATION", "reference_id": "r1",
        "negotiation_id": uid("n1"), "notes": "EXPIRED", "created_by": None, "order_id": None,
        "sku": "A", "created_at": header["released_at"],
    }  # fmt: skip
    assert expected.items() <= dict(movement).items()


async def test_movement_ids_ascend_with_the_sequence(app, superuser):
    await open_shop(superuser, "A=50 B=50")
    await run(app, *(due(f"r{n:02}", "A=1 B=1 A=2") for n in range(12)))
    await sweep_tenant(app, uid("tenant"))
    rows = await superuser.fetch(
        "SELECT sku, sequence, id FROM stock_movements WHERE type = 'RELEASE' ORDER BY id"
    )
    assert len(rows) == 36
    for sku in "AB":
        sequences = [row["sequence"] for row in rows if row["sku"] == sku]
        assert sequences == sorted(sequences)


async def test_a_part_that_gave_way_already_is_not_released_again(app, superuser, database):
    await open_shop(superuser, "A=4 B=4")
    await run(app, due("r1", "A=4 B=4"), reserve("r2", "A=3"))
    assert (await statuses(superuser))["r1"] == "ACTIVE"
    assert await sweep_tenant(app, uid("tenant")) == 1
    assert await sweep_tenant(app, uid("tenant")) == 0
    held = await superuser.fetchval("SELECT sum(held) FROM stock_reservation_lines")
    assert (await statuses(superuser), held) == ({"r1": "EXPIRED", "r2": "ACTIVE"}, 3)
    await assert_sound(database)


async def test_an_active_reservation_that_holds_nothing_ends_too(app, superuser):
    await open_shop(superuser, "A=4")
    await run(app, due("r1", "A=1"), due("r2", "A=1"))
    await superuser.execute("DELETE FROM stock_reservation_lines WHERE reservation_id = 'r1'")
    assert await sweep_tenant(app, uid("tenant")) == 2
    assert set((await statuses(superuser)).values()) == {"EXPIRED"}


# -- chunks ---------------------------------------------------------------------------------


async def test_the_longest_overdue_end_first(app, superuser):
    await open_shop(superuser, "A=9")
    await run(app, *(reserve(f"r{n}", "A=1", expires_in_h=9 - n) for n in range(1, 6)))
    await shift_expiry(superuser, uid("tenant"), timedelta(hours=20))
    ended = []
    while await sweep_tenant(app, uid("tenant"), limit=1):
        now = {id_ for id_, status in (await statuses(superuser)).items() if status == "EXPIRED"}
        ended += sorted(now - set(ended))
    assert ended == ["r5", "r4", "r3", "r2", "r1"]


async def test_a_chunk_is_bounded_by_lines_but_takes_whole_reservations(app, superuser):
    await open_shop(superuser, "A=90 B=90")
    await run(app, due("r1", "A=1"), due("r2", "A=1 B=1 A=1 B=1 A=1"), due("r3", "B=1"))
    assert await sweep_tenant(app, uid("tenant"), limit=3) == 2
    assert (await statuses(superuser))["r3"] == "ACTIVE"


async def test_a_backlog_of_a_week_is_worked_off(app, superuser, database):
    await open_shop(superuser, "A=9000+9000 B=9000+9000")
    async with Writer(database) as writer:
        made = [reserve(f"r{n:04}", "A=2 B=3 A=1", expires_in_h=1 + n % 7) for n in range(1_500)]
        await asyncio.gather(*(writer.submit(TENANT.id, command) for command in made))
    await shift_expiry(superuser, TENANT.id, timedelta(days=7))
    assert await sweep_all(database, limit=400) == 1_500
    assert set((await statuses(superuser)).values()) == {"EXPIRED"}
    assert await superuser.fetchval("SELECT sum(reserved) FROM stock_levels") == 0
    transactions = await superuser.fetchval(
        "SELECT count(DISTINCT created_at) FROM stock_movements WHERE type = 'RELEASE'"
    )
    assert transactions == 12
    await assert_sound(database)


async def test_tenants_take_turns(app, superuser, operator, database):
    big, small = (Tenant(uid(name), name) for name in ("big", "small"))
    for tenant, count in ((big, 6), (small, 1)):
        await open_shop(superuser, "A=9", tenant)
        await run(app, *(due(f"{tenant.name}{n}", "A=1") for n in range(count)), tenant=tenant)
    assert set(await due_tenants(operator)) == {big.id, small.id}
    assert await sweep_all(database, limit=1) == 7
    ends = await superuser.fetch(
        "SELECT tenant_id FROM stock_reservations ORDER BY released_at LIMIT 2"
    )
    assert {row["tenant_id"] for row in ends} == {big.id, small.id}
    assert await due_tenants(operator) == []


async def test_one_tenant_can_be_swept_alone(app, superuser, operator, database):
    tenants = [Tenant(uid(name), name) for name in ("big", "small")]
    for tenant in tenants:
        await open_shop(superuser, "A=9", tenant)
        await run(app, due("r1", "A=1"), tenant=tenant)
    assert await sweep_all(database, tenant_id=tenants[0].id) == 1
    assert await due_tenants(operator) == [tenants[1].id]


# -- races ----------------------------------------------------------------------------------


async def test_who_is_extended_in_between_stays(app, superuser, operator):
    await open_shop(superuser, "A=9")
    await run(app, due("r1", "A=1"), due("r2", "A=2"))
    async with superuser.transaction():
        # the extension was decided a moment before the expiry, and commits after the choice
        await superuser.execute("SELECT FROM stock_levels FOR NO KEY UPDATE")
        sweeping = asyncio.create_task(sweep_tenant(app, uid("tenant")))
        await until_blocked(operator, app)
        for table, id_ in (("stock_reservations", "id"), ("stock_reservation_lines",) * 2):
            column = "id" if id_ == "id" else "reservation_id"
            await superuser.execute(
                f"UPDATE {table} SET expires_at = now() + interval '1 day' WHERE {column} = 'r1'"
            )
    assert await sweeping == 1
    assert await statuses(superuser) == {"r1": "ACTIVE", "r2": "EXPIRED"}
    assert await superuser.fetchval("SELECT reserved FROM stock_levels") == 1


async def test_who_is_released_in_between_is_not_released_again(app, superuser, operator, database):
    await open_shop(superuser, "A=9")
    await run(app, due("r1", "A=1"), due("r2", "A=2"))
    other = await connect(database, settings=SETTINGS)
    async with superuser.transaction():
        await superuser.execute("SELECT FROM stock_levels FOR NO KEY UPDATE")
        releasing = asyncio.create_task(Transaction(uid("tenant"), [release("r1")]).run(other))
        await until_blocked(operator, other)
        sweeping = asyncio.create_task(sweep_tenant(app, uid("tenant")))
        await until_blocked(operator, app)
    await releasing
    assert await sweeping == 1
    await other.close()
    assert set((await statuses(superuser)).values()) == {"EXPIRED"}
    await assert_sound(database)


async def test_sweeps_take_turns(app, superuser, operator, database):
    await open_shop(superuser, "A=9")
    await run(app, due("r1", "A=1"), due("r2", "A=2"))
    other = await connect(database, settings=SETTINGS)
    async with superuser.transaction():
        await superuser.execute("SELECT FROM stock_levels FOR NO KEY UPDATE")
        first = asyncio.create_task(sweep_tenant(app, uid("tenant"), limit=1))
        await until_blocked(operator, app)
        second = asyncio.create_task(sweep_tenant(other, uid("tenant"), limit=1))
        await until_blocked(operator, other)
    assert (await first, await second) == (1, 1)
    await other.close()


async def test_sweeps_of_many_processes_end_everything_once(superuser, database):
    tenants = [Tenant(uid(f"tenant {n}"), str(n)) for n in range(3)]
    async with Writer(database) as writer:
        for tenant in tenants:
            await open_shop(superuser, "A=400 B=400", tenant)
            made = [due(f"r{n:03}", "A=1 B=2") for n in range(150)]
            await asyncio.gather(*(writer.submit(tenant.id, command) for command in made))
    ended = await asyncio.gather(*(sweep_all(database, limit=20) for _ in range(4)))
    assert sum(ended) == 450
    await assert_sound(database)


async def test_it_races_with_the_writer(superuser, database):
    """Everything that touches the same few levels at once, and nothing is lost or kept."""
    await open_shop(superuser, "A=20+20 B=20+20 C=20+20")
    chance = random.Random(7)

    def script(caller: int) -> Sequence[Command]:
        commands: list[Command] = []
        for n in range(25):
            id_ = f"r{caller:02}-{n:02}"
            items = " ".join(f"{sku}={chance.randint(1, 3)}" for sku in chance.sample("ABC", 2))
            commands.append(reserve(id_, items, expires_in_h=chance.choice((0, 0, 1))))
            commands += chance.choice(([], [release(id_)], [consume(id_)], [extend(id_, 1)]))
        return commands

    async def call(writer: Writer, caller: int) -> None:
        for command in script(caller):
            await writer.submit(TENANT.id, command)

    async with (
        Sweeper(database, interval_s=0.001, limit=5),
        Sweeper(database, interval_s=0.001, limit=3),
        Writer(database) as writer,
    ):
        await asyncio.gather(*(call(writer, caller) for caller in range(12)))
    await sweep_all(database)
    left = await superuser.fetchval(
        "SELECT count(*) FROM stock_reservations WHERE status = 'ACTIVE' AND expires_at <= now()"
    )
    assert left == 0
    assert "EXPIRED" in (await statuses(superuser)).values()
    await assert_sound(database)


# -- rows that contradict each other --------------------------------------------------------


async def without_triggers(superuser: asyncpg.Connection, sql: str) -> None:
    async with superuser.transaction():
        await superuser.execute(f"SET LOCAL session_replication_role = replica; {sql}")


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE stock_levels SET reserved = 0 WHERE product_id = '{product}'",
        "DELETE FROM stock_levels WHERE product_id = '{product}'",
    ],
)
async def test_one_bad_reservation_does_not_hold_the_others_up(
    app, superuser, database, caplog, harm
):
    await open_shop(superuser, "A=90 B=90")
    await run(app, *(due(f"r{n:02}", "B=1" if n == 6 else "A=1") for n in range(20)))
    await without_triggers(superuser, harm.format(product=uid("B")))
    with caplog.at_level(logging.ERROR):
        assert await sweep_all(database) == 19
    assert [id_ for id_, of in (await statuses(superuser)).items() if of == "ACTIVE"] == ["r06"]
    assert "reservation r06" in caplog.text
    assert await sweep_tenant(app, uid("tenant")) == 0
