"""One batch as one transaction: what it refuses, what it leaves, and what happens when it races."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest
from tests.helpers import (
    Held,
    adjust,
    consume,
    count,
    extend,
    negotiation,
    put,
    read_back,
    receive,
    release,
    reserve,
    shop,
    take_back,
    uid,
    until_blocked,
)

from cerniq_stock.domain.model import Tenant
from cerniq_stock.domain.outcomes import (
    ExtendResult,
    LevelResult,
    Refusal,
    Refused,
    ReserveResult,
)
from cerniq_stock.store import transaction
from cerniq_stock.store.begin import PREPARE
from cerniq_stock.store.database import KEY_LOOKUPS, connect
from cerniq_stock.store.ids import id_block
from cerniq_stock.store.queries import SQL
from cerniq_stock.store.transaction import Transaction

TWO_WAREHOUSES = Tenant(uid("tenant"), "Shop", warehouses=("W1", "W2"))
ONE_OF_EACH = [
    reserve("r9", "A=1"),
    release("r1"),
    release("n1"),
    consume("r1"),
    extend("r1"),
    negotiation("n1", "DEAD"),
    receive("A=1"),
    take_back("A=1"),
    adjust("A", 1),
    count("A=1"),
]


async def open_app(dsn: str) -> asyncpg.Connection:
    connection = await connect(dsn, settings=KEY_LOOKUPS)
    await connection.execute(PREPARE)
    return connection


@pytest.fixture
async def app(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await open_app(database)
    yield connection
    await connection.close()


@pytest.fixture
async def other(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await open_app(database)
    yield connection
    await connection.close()


def refused(answer: object) -> Refusal | None:
    if isinstance(answer, ReserveResult):
        return answer.errors[0].code if answer.errors else None
    return answer.code if isinstance(answer, Refused) else None


@pytest.mark.parametrize("command", ONE_OF_EACH, ids=lambda command: type(command).__name__)
async def test_an_unknown_tenant_is_refused(app, superuser, command):
    nobody = Tenant(uuid4(), "Nobody")
    (answer,) = await Transaction(nobody.id, [command]).run(app)
    assert refused(answer) is Refusal.TENANT_NOT_FOUND
    assert not (await read_back(superuser, nobody)).state.negotiations
    assert not app.is_in_transaction()


async def test_every_column_of_a_reservation_is_stored(app, superuser):
    tenant = await put(superuser, shop("A=3"))
    command = replace(
        reserve("r1", "A=5", type="HARD", priority="URGENT", expires_in_h=5),
        requested_by="ana", channel="API", notes="o notă",
    )  # fmt: skip
    (answer,) = await Transaction(tenant, [command]).run(app)
    row = await superuser.fetchrow("SELECT * FROM stock_reservations")
    assert row["created_at"] == row["updated_at"] == answer.expires_at - timedelta(hours=5)
    assert row["expires_at"] == row["first_expires_at"] == answer.expires_at
    expected = {
        "tenant_id": tenant, "id": "r1", "reservation_key": "key-r1", "negotiation_id": uid("n1"),
        "fingerprint": command.fingerprint, "type": "HARD", "priority": "URGENT",
        "status": "ACTIVE", "total_requested": 5, "total_reserved": 3, "extensions": 0,
        "requested_by": "ana", "channel": "API", "notes": "o notă", "released_at": None,
        "errors_json": None,
    }  # fmt: skip
    assert expected.items() <= dict(row).items()
    movement = await superuser.fetchrow("SELECT * FROM stock_movements WHERE type = 'RESERVATION'")
    assert (movement["quantity"], movement["new_available"]) == (-3, 0)
    assert movement["created_by"] == "ana"


async def test_a_batch_that_fails_leaves_nothing(app, superuser, monkeypatch):
    tenant = await put(superuser, shop("A=3"))
    before = await read_back(superuser, Tenant(tenant, "Shop"))

    with monkeypatch.context() as patch:
        write = transaction.write
        patch.setattr(transaction, "write", lambda *args: _then_fail(write, *args))
        with pytest.raises(ZeroDivisionError):
            await Transaction(tenant, [reserve("r1", "A=1"), negotiation("n2", "DEAD")]).run(app)
    assert not app.is_in_transaction()
    assert await read_back(superuser, Tenant(tenant, "Shop")) == before
    (answer,) = await Transaction(tenant, [reserve("r1", "A=1")]).run(app)
    assert answer.success


async def _then_fail(write, *args):
    await write(*args)
    raise ZeroDivisionError


async def test_expiry_is_exact_in_sql(app, superuser):
    """At `expires_at` itself a line is due, a microsecond earlier it is not."""
    tenant = await put(superuser, shop("A=3"))
    (answer,) = await Transaction(tenant, [reserve("r1", "A=2", type="HARD")]).run(app)
    for left, due in ((0, 2), (1, None)):
        now = answer.expires_at - timedelta(microseconds=left)
        rows = await superuser.fetch(SQL["due_of_products"], tenant, [uid("A")], now)
        assert [row["due"] for row in rows] == ([due] if due else [])
        ids = await superuser.fetch(SQL["holders_to_give_way"], tenant, [uid("A")], [1], now, [])
        assert [row["reservation_id"] for row in ids] == (["r1"] if due else [])


async def test_equal_names_in_two_tenants_do_not_meet(app, superuser):
    one = await put(superuser, shop("A=3"))
    two = await put(superuser, shop("A=1", tenant=Tenant(uuid4(), "Other")))
    for tenant, held in ((one, 2), (two, 1)):
        commands = [reserve("r1", "A=2", key="k"), extend("r1", key="e")]
        reserved, extended = await Transaction(tenant, commands).run(app)
        assert reserved.total_reserved == held
        assert isinstance(extended, ExtendResult)
    assert (await Transaction(two, [release("r1")]).run(app))[0].total_released == 1
    assert await superuser.fetchval("SELECT reserved FROM stock_levels WHERE total = 3") == 2


# -- batches against one by one -------------------------------------------------------------


async def test_hard_finds_its_victim_although_another_was_sold_in_the_batch(app, superuser):
    tenant = await put(superuser, shop("A=10"))
    for command in (reserve("r1", "A=5"), reserve("r2", "A=5")):
        await Transaction(tenant, [command]).run(app)
    batch = [consume("r2"), reserve("r3", "A=5", type="HARD")]
    _, answer = await Transaction(tenant, batch).run(app)
    assert answer.total_reserved == 5


async def test_a_refused_command_leaves_no_negotiation(app, superuser):
    tenant = await put(superuser, shop("A=10"))
    await Transaction(tenant, [negotiation("n1", "DEAD", key="k")]).run(app)
    (answer,) = await Transaction(tenant, [negotiation("n7", "DEAD", key="k")]).run(app)
    assert refused(answer) is Refusal.RESERVATION_EXISTS
    assert await superuser.fetchval("SELECT count(*) FROM negotiations") == 1


# -- races ----------------------------------------------------------------------------------


async def race(first, second, *, superuser, held, other, tenant):
    """Run `second` against a `first` that has written and not yet committed; both answers."""
    one = asyncio.create_task(Transaction(tenant, first).run(held))
    await held.here.wait()
    two = asyncio.create_task(Transaction(tenant, second).run(other))
    await until_blocked(superuser, other)
    held.go.set()
    return await one, await two


async def test_the_loser_sees_what_the_winner_left(app, other, superuser):
    tenant = await put(superuser, shop("A=5 B=5"))
    await Transaction(tenant, [reserve("r0", "A=2 B=1")]).run(app)
    _, (two,) = await race(
        [reserve("r1", "A=2", type="HARD"), release("r0", "A=1")],
        [reserve("r2", "B=1 A=4", type="HARD")],
        superuser=superuser, held=Held(app), other=other, tenant=tenant,
    )  # fmt: skip
    # r1 took two of the five; r0 kept one, and gave it up
    assert [(i.reserved_quantity, i.available_before) for i in two.items] == [(1, 4), (3, 2)]


async def test_a_negotiation_ends_with_what_was_reserved_while_it_ended(app, other, superuser):
    tenant = await put(superuser, shop("A=5"))
    _, (two,) = await race(
        [reserve("r1", "A=2")],
        [negotiation("n1", "DEAD")],
        superuser=superuser, held=Held(app), other=other, tenant=tenant,
    )  # fmt: skip
    assert two.released == ("r1",)
    assert await superuser.fetchval("SELECT reserved FROM stock_levels") == 0


async def test_nothing_is_reserved_for_a_negotiation_that_ends(app, other, superuser):
    tenant = await put(superuser, shop("A=5"))
    _, (two,) = await race(
        [negotiation("n1", "DEAD")],
        [reserve("r1", "A=2")],
        superuser=superuser, held=Held(app), other=other, tenant=tenant,
    )  # fmt: skip
    assert refused(two) is Refusal.NEGOTIATION_CLOSED


async def test_the_same_new_level_is_made_twice(app, other, superuser):
    """The loser finds the winner's level, although it was not there when it asked for the locks."""
    tenant = await put(superuser, shop("A=1", tenant=TWO_WAREHOUSES))
    _, (answer,) = await race(
        [receive("A=5", into="W2")], [receive("A=4", into="W2")],
        superuser=superuser, held=Held(app), other=other, tenant=tenant,
    )  # fmt: skip
    assert isinstance(answer, LevelResult)
    assert answer.total == 9


async def test_a_level_made_while_waiting_for_its_product(app, other, superuser):
    tenant = await put(superuser, shop("A=1", tenant=TWO_WAREHOUSES))
    _, (two,) = await race(
        [receive("A=5", into="W2"), reserve("r1", "A=5")],
        [reserve("r2", "A=3", type="HARD")],
        superuser=superuser, held=Held(app), other=other, tenant=tenant,
    )  # fmt: skip
    assert two.total_reserved == 3


# -- a COMMIT whose outcome is not known ----------------------------------------------------


class Cut:
    """A connection that is lost at COMMIT: before it arrives, or before its answer does."""

    def __init__(self, connection: asyncpg.Connection, *, committed: bool) -> None:
        self.connection, self.committed = connection, committed

    def __getattr__(self, name: str) -> object:
        return getattr(self.connection, name)

    async def execute(self, sql: str, *args: object) -> str:
        if sql != "COMMIT":
            return await self.connection.execute(sql, *args)
        await self.connection.execute("COMMIT" if self.committed else "ROLLBACK")
        raise asyncpg.ConnectionDoesNotExistError("cut")


BATCHES = {
    "reserve": [reserve("r9", "A=1"), extend("r1", key="e")],
    "nothing to reserve": [reserve("r9", "NONE=1")],
    "receive": [receive("A=1")],
    "release": [release("r1", "A=1")],
    "extend": [extend("r1", key="e")],
    "negotiation": [negotiation("n2", "PROPOSAL", key="k")],
    "end": [negotiation("n1", "DEAD")],
}


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("batch", BATCHES)
async def test_what_was_lost_at_commit_has_one_effect(app, other, superuser, batch, committed):
    tenant = Tenant(await put(superuser, shop("A=5")), "Shop")
    await Transaction(tenant.id, [reserve("r1", "A=3")]).run(app)
    lost = Transaction(tenant.id, BATCHES[batch])
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await lost.run(Cut(app, committed=committed))
    first, after_first = lost.answers, await read_back(superuser, tenant)
    answers = await lost.run(other)
    assert [type(answer) for answer in answers] == [type(answer) for answer in first]
    assert not any(map(refused, answers[-1:])) or batch == "nothing to reserve"
    if committed:
        assert answers == first
        assert await read_back(superuser, tenant) == after_first
    else:
        assert await read_back(superuser, tenant) != after_first


async def test_a_key_written_by_another_process_proves_nothing(app, other, superuser):
    """Two processes got the same keyed command; one of them had others in its batch, too."""
    tenant = await put(superuser, shop("A=5"))
    for id_ in ("r1", "r2"):
        await Transaction(tenant, [reserve(id_, "A=1", expires_in_h=1)]).run(app)
    lost = Transaction(tenant, [extend("r1", key="k"), extend("r2", key="mine")])
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await lost.run(Cut(app, committed=False))
    await Transaction(tenant, [extend("r1", key="k")]).run(app)
    await lost.run(other)
    rows = await superuser.fetch("SELECT id, extensions FROM stock_reservations ORDER BY id")
    assert [row["extensions"] for row in rows] == [1, 1]


async def test_a_key_that_looks_like_an_id_proves_nothing(app, other, superuser):
    tenant = await put(superuser, shop("A=5"))
    await Transaction(tenant, [reserve("r1", "A=1", expires_in_h=1)]).run(app)
    lost = Transaction(tenant, [extend("r1", key="r1")])
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await lost.run(Cut(app, committed=False))
    await lost.run(other)
    assert await superuser.fetchval("SELECT extensions FROM stock_reservations") == 1


def test_ids_of_a_block_sort_in_their_order():
    ids = id_block(datetime.now(UTC), 300_000)
    assert len(set(ids)) == 300_000
    assert ids == sorted(ids)
