"""Many callers at once on real PostgreSQL: nothing is sold twice, nothing deadlocks."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from itertools import chain
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from tests.helpers import (
    Held,
    adjust,
    consume,
    extend,
    negotiation,
    of_order,
    order,
    put,
    read_back,
    receive,
    release,
    reserve,
    reserve_order,
    shop,
    until_blocked,
)

from cerniq_stock.domain.commands import (
    Command,
    DeductOrder,
    ReleaseOrder,
    ReserveOrder,
    ReturnOrder,
)
from cerniq_stock.domain.model import Tenant
from cerniq_stock.domain.orders import KNOWN
from cerniq_stock.domain.outcomes import OrderResult, Refusal, ReleaseResult
from cerniq_stock.domain.reserve import REPLAYED
from cerniq_stock.store import transaction
from cerniq_stock.store.begin import PREPARE
from cerniq_stock.store.database import KEY_LOOKUPS, connect
from cerniq_stock.store.queries import SQL
from cerniq_stock.store.transaction import Transaction
from cerniq_stock.store.verify import verify
from cerniq_stock.store.writer import Limits, Writer

CALLERS = 64


class Crowd:
    """Two writers, as if in two processes, and callers with a connection of their own each."""

    def __init__(self, writers: list[Writer], raw: list[asyncpg.Connection]) -> None:
        self.writers, self.raw = writers, raw
        self.free: asyncio.Queue[asyncpg.Connection] = asyncio.Queue()
        for connection in raw:
            self.free.put_nowait(connection)

    async def ask(self, caller: int, tenant: UUID, command: Command) -> Any:
        """Two of three callers go through a writer, the third has a transaction of its own."""
        if caller % 3 < 2:
            return await self.writers[caller % 3].submit(tenant, command)
        connection = await self.free.get()
        try:
            return (await Transaction(tenant, [command]).run(connection))[0]
        finally:
            self.free.put_nowait(connection)


@asynccontextmanager
async def crowd(dsn: str, raw: int = 8) -> AsyncIterator[Crowd]:
    async with AsyncExitStack() as stack:
        writers = [
            await stack.enter_async_context(Writer(dsn, Limits(connections=4, batch=7)))
            for _ in range(2)
        ]
        connections = []
        for _ in range(raw):
            connection = await connect(dsn, settings=KEY_LOOKUPS)
            stack.push_async_callback(connection.close)
            await connection.execute(PREPARE)
            connections.append(connection)
        yield Crowd(writers, connections)


async def sold_and_held(superuser: asyncpg.Connection, tenant: UUID) -> tuple[int, int]:
    """What lines hold or have sold, and what is on the shelf or was sold."""
    held = await superuser.fetchval(
        "SELECT coalesce(sum(held + consumed), 0) FROM stock_reservation_lines"
        " WHERE tenant_id = $1", tenant,
    )  # fmt: skip
    total = await superuser.fetchval(
        "SELECT coalesce(sum(total), 0) FROM stock_levels WHERE tenant_id = $1", tenant
    )
    sold = await superuser.fetchval(
        "SELECT coalesce(-sum(total_delta), 0) FROM stock_movements"
        " WHERE tenant_id = $1 AND type = 'SALE'", tenant,
    )  # fmt: skip
    return held, total + sold


# -- the last units -------------------------------------------------------------------------


@pytest.mark.parametrize("units", [1, 5, 40])
async def test_the_last_units_are_sold_once(database, superuser, units):
    tenant = await put(superuser, shop(f"A={units}"))

    async def buy(caller: int, of: Crowd) -> bool:
        made = await of.ask(caller, tenant, reserve(f"r{caller}", "A=1"))
        if made.success and caller % 2:
            await of.ask(caller + 1, tenant, consume(f"r{caller}"))
        return made.success

    async with crowd(database) as callers:
        won = await asyncio.gather(*(buy(caller, callers) for caller in range(CALLERS)))
    assert sum(won) == min(units, CALLERS)
    assert await sold_and_held(superuser, tenant) == (min(units, CALLERS), units)


async def race_two(
    tenant: UUID,
    connections: list[Any],
    meet: asyncio.Barrier,
    make: Callable[[int], Command] = lambda n: reserve(f"r{n}", "A=1"),
) -> list[bool]:
    """Two transactions for the last unit that meet between reading and writing, if they can."""

    async def write(*args: Any) -> Any:
        # where there is a lock, the other one waits for it instead of coming here
        with suppress(TimeoutError, asyncio.BrokenBarrierError):
            await asyncio.wait_for(meet.wait(), timeout=0.3)
        return await real(*args)

    real = transaction.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transaction, "write", write)
        answers = await asyncio.gather(
            *(
                Transaction(tenant, [make(n)]).run(connection)
                for n, connection in enumerate(connections)
            )
        )
    return [answer.success for (answer,) in answers]


@contextmanager
def no_locks(*, checked: bool) -> Iterator[None]:
    """The engine without the lock on the levels; `checked`: it still counts what it updated."""
    lock, count = "FOR NO KEY UPDATE", "SELECT count(*) FROM levels"
    assert count in SQL["write_holds"]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("lock_levels", "lock_levels_of_products"):
            assert lock in SQL[name]
            patch.setitem(SQL, name, SQL[name].replace(lock, ""))
        if not checked:
            all_of_them = "SELECT cardinality($3::text::uuid[])"
            patch.setitem(SQL, "write_holds", SQL["write_holds"].replace(count, all_of_them))
        yield


async def test_the_lock_is_what_prevents_overselling(database, superuser):
    """Negative control: the same race without the lock sells the last unit twice."""
    async with crowd(database, raw=2) as callers:
        tenant = await put(superuser, shop("A=1"))
        assert sorted(await race_two(tenant, callers.raw, asyncio.Barrier(2))) == [False, True]
        assert await sold_and_held(superuser, tenant) == (1, 1)

        other = await put(superuser, shop("A=1", tenant=Tenant(UUID(int=7), "Other")))
        with no_locks(checked=False):
            assert await race_two(other, callers.raw, asyncio.Barrier(2)) == [True, True]
        assert await sold_and_held(superuser, other) == (2, 1)


async def test_many_callers_oversell_without_the_lock(database, superuser):
    """Negative control of the crowd: it is fit to find what the lock prevents."""
    tenant = await put(superuser, shop("A=8"))
    async with crowd(database) as callers:
        with no_locks(checked=False):
            made = await asyncio.gather(
                *(callers.ask(2, tenant, reserve(f"r{n}", "A=1")) for n in range(CALLERS))
            )
    assert sum(answer.success for answer in made) > 8


async def test_the_second_line_of_defence(database, superuser):
    """Were the lock ever lost, the engine would stop rather than sell what is gone."""
    tenant = await put(superuser, shop("A=1"))
    async with crowd(database, raw=2) as callers:
        with no_locks(checked=True), pytest.raises(AssertionError):
            await race_two(tenant, callers.raw, asyncio.Barrier(2))
    assert await sold_and_held(superuser, tenant) == (1, 1)


async def two_orders(superuser: asyncpg.Connection, callers: Crowd, tenant: Tenant) -> UUID:
    """Two orders that want the only unit."""
    await put(superuser, shop("A=1", tenant=tenant))
    for n in range(2):
        assert (await callers.ask(0, tenant.id, order(f"o{n}", "A=1"))).success
    return tenant.id


@pytest.mark.parametrize("how", ["reserved", "delivered"])
async def test_the_last_unit_is_one_orders(database, superuser, how):
    """And the negative control: without the lock both have it."""
    makes: dict[str, Callable[[int], Command]] = {
        "reserved": lambda n: reserve_order(f"o{n}", f"r{n}"),
        "delivered": lambda n: of_order(DeductOrder, f"o{n}"),
    }
    sold = {"reserved": [(1, 1), (2, 1)], "delivered": [(0, 1), (0, 2)]}[how]
    async with crowd(database, raw=2) as callers:
        tenant = await two_orders(superuser, callers, Tenant(UUID(int=6), "One"))
        meet = asyncio.Barrier(2)
        assert sorted(await race_two(tenant, callers.raw, meet, makes[how])) == [False, True]
        assert await sold_and_held(superuser, tenant) == sold[0]
        assert (await verify(database)).differences == ()

        other = await two_orders(superuser, callers, Tenant(UUID(int=7), "Other"))
        with no_locks(checked=False):
            meet = asyncio.Barrier(2)
            assert await race_two(other, callers.raw, meet, makes[how]) == [True, True]
        assert await sold_and_held(superuser, other) == sold[1]


# -- one order, many callers ----------------------------------------------------------------


async def test_each_quantity_of_an_order_moves_once(database, superuser):
    """Reserved, cancelled, delivered and returned by all at once, in parts and whole."""
    state = shop("A=100 B=100")
    tenant = await put(superuser, state)
    done: Counter[type] = Counter()
    parts = "A=1", "B=1", "3=1", "A=2 B=1", None

    async def ask(caller: int, command: Command, of: Crowd) -> None:
        answer = await of.ask(caller, tenant, command)
        if isinstance(answer, OrderResult):
            done[type(command)] += answer.quantity
            assert bool(answer.quantity) <= answer.success

    async with crowd(database) as callers:
        await callers.ask(0, tenant, order("o1", "A=40 B=30 A=20"))
        made: list[Command] = [reserve_order("o1", f"r{n}") for n in range(CALLERS // 4)]
        for n in range(CALLERS):
            made.append(of_order(ReleaseOrder, "o1", parts[n % 4]))
            made.append(of_order(DeductOrder, "o1", parts[n % 4]))
            made.append(of_order(ReturnOrder, "o1", parts[n % 5]))
        Random(5).shuffle(made)
        await asyncio.gather(*(ask(n, command, callers) for n, command in enumerate(made)))
        assert all(done[kind] for kind in (ReserveOrder, ReleaseOrder, DeductOrder, ReturnOrder))
        await asyncio.gather(
            *(ask(n, of_order(DeductOrder, "o1"), callers) for n in range(CALLERS))
        )
    stored = await read_back(superuser, state.tenant)
    (of,) = stored.state.orders.values()
    assert of.status == "DELIVERED"
    assert done[DeductOrder] == sum(line.deducted for line in of.lines)
    assert done[ReleaseOrder] == sum(line.released for line in of.lines)
    assert done[ReturnOrder] == sum(line.returned for line in of.lines)
    assert done[DeductOrder] + done[ReleaseOrder] == 90
    total = sum(level.total for levels in stored.state.levels.values() for level in levels)
    assert total == 200 - done[DeductOrder] + done[ReturnOrder]
    assert len([r for r in stored.state.reservations.values() if r.order_id]) == 1
    assert (await verify(database)).differences == ()


async def held_up(
    superuser: asyncpg.Connection, tenant: UUID, connections: list[Any], first: Any, second: Any
) -> tuple[Any, Any]:
    """The answers of two commands, the first at its COMMIT when the second starts."""
    early, late = Held(connections[0]), connections[1]
    one = asyncio.create_task(Transaction(tenant, [first]).run(early))
    await early.here.wait()
    two = asyncio.create_task(Transaction(tenant, [second]).run(late))
    await until_blocked(superuser, late)
    early.go.set()
    (before,) = await one
    (after,) = await two
    return before, after


async def test_the_lock_of_an_order_is_what_shows_what_it_holds(database, superuser):
    """Negative control: without it a delivery does not see what is being reserved."""
    state = shop("A=9")
    tenant = await put(superuser, state)
    deliver = of_order(DeductOrder, "o1", "A=1")
    async with crowd(database, raw=2) as callers:
        await callers.ask(0, tenant, order("o1", "A=4"))
        await callers.ask(0, tenant, order("o2", "A=4"))
        reserving = reserve_order("o1", "r1")
        _, sold = await held_up(superuser, tenant, callers.raw, reserving, deliver)
        assert (sold.status, sold.reservation_id) == ("PARTLY_DELIVERED", "r1")

        assert "FOR UPDATE" in SQL["lock_orders"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(SQL, "lock_orders", SQL["lock_orders"].replace("FOR UPDATE", "OFFSET 0"))
            deliver = of_order(DeductOrder, "o2", "A=1")
            reserving = reserve_order("o2", "r2")
            with pytest.raises(AssertionError):
                await held_up(superuser, tenant, callers.raw, reserving, deliver)
    assert (await verify(database)).differences == ()


@pytest.mark.parametrize(("items", "answer"), [("A=4", KNOWN), ("A=5 B=1", Refusal.ORDER_EXISTS)])
async def test_an_order_made_meanwhile_is_found(database, superuser, items, answer):
    """The late one has waited for a level, and looks again for the order."""
    tenant = await put(superuser, shop("A=9 B=9"))
    async with crowd(database, raw=2) as callers:
        commands = order("o1", "A=4"), order("o1", items)
        made, late = await held_up(superuser, tenant, callers.raw, *commands)
    assert made.success
    assert answer == (late.code if answer is Refusal.ORDER_EXISTS else late.warnings[0])


# -- a negotiation gives back while goods are reserved for it -------------------------------


async def release_and_reserve(
    superuser: asyncpg.Connection, tenant: UUID, connections: list[Any], *, first: str
) -> set[str]:
    """Both for one negotiation, the first at its COMMIT when the second starts; who holds then."""
    commands = {"release": release("n1"), "reserve": reserve("r1", "A=2")}
    early, late = Held(connections[0]), connections[1]
    one = asyncio.create_task(Transaction(tenant, [commands.pop(first)]).run(early))
    await early.here.wait()
    two = asyncio.create_task(Transaction(tenant, list(commands.values())).run(late))
    blocked = "SELECT cardinality(pg_blocking_pids($1)) > 0"
    while not (  # noqa: ASYNC110 - the server has no event for it
        two.done() or await superuser.fetchval(blocked, late.get_server_pid())
    ):
        await asyncio.sleep(0.002)
    early.go.set()
    await asyncio.gather(one, two)
    rows = await superuser.fetch(
        "SELECT DISTINCT reservation_id AS id FROM stock_reservation_lines"
        " WHERE tenant_id = $1 AND held > 0", tenant,
    )  # fmt: skip
    return {row["id"] for row in rows}


@pytest.mark.parametrize(
    ("first", "holding"), [("reserve", set()), ("release", {"r1"})], ids=["reserve", "release"]
)
async def test_what_was_reserved_before_a_release_is_released(database, superuser, first, holding):
    tenant = await put(superuser, shop("A=9 B=9"))
    async with crowd(database, raw=2) as callers:
        await callers.ask(0, tenant, reserve("r0", "B=1"))
        assert await release_and_reserve(superuser, tenant, callers.raw, first=first) == holding
    assert (await verify(database)).differences == ()


@asynccontextmanager
async def no_lock_of_negotiations(
    whose: str, connections: list[asyncpg.Connection]
) -> AsyncIterator[None]:
    """Either side goes without its lock."""
    with pytest.MonkeyPatch.context() as patch:
        if whose == "release":
            name = "lock_negotiations_to_change"
            assert "FOR UPDATE" in SQL[name]
            patch.setitem(SQL, name, SQL[name].replace("FOR UPDATE", ""))
        else:
            assert "FOR SHARE" in PREPARE
            for connection in connections:
                await connection.execute("DEALLOCATE share_negotiations")
                await connection.execute(PREPARE.replace("FOR SHARE", ""))
        yield


@pytest.mark.parametrize("whose", ["release", "reserve"])
async def test_the_locks_of_a_negotiation_are_what_releases_all(database, superuser, whose):
    """Negative control: without either, the release overlooks what commits meanwhile."""
    tenant = await put(superuser, shop("A=9 B=9"))
    async with crowd(database, raw=2) as callers:
        await callers.ask(0, tenant, reserve("r0", "B=1"))
        async with no_lock_of_negotiations(whose, callers.raw):
            left = await release_and_reserve(superuser, tenant, callers.raw, first="reserve")
    assert left == {"r1"}


async def overlooked(callers: Crowd, superuser: asyncpg.Connection, tenant: UUID) -> int:
    """Many reserve and release for one negotiation; what was made before a release and outlived it.

    Each tells its moment on the database's clock, read under its locks.
    """
    answers = await asyncio.gather(
        *(
            callers.ask(n, tenant, reserve(f"r{n}", "A=1 B=1") if n % 8 else release("n1"))
            for n in range(4 * CALLERS)
        )
    )
    releases = [answer for answer in answers if isinstance(answer, ReleaseResult)]
    assert any(answer.total_released for answer in releases)
    return await superuser.fetchval(
        "SELECT count(DISTINCT r.id) FROM unnest($2::timestamptz[]) AS release (at)"
        " JOIN stock_reservations AS r ON r.created_at < release.at"
        " WHERE r.tenant_id = $1 AND (r.released_at IS NULL OR r.released_at > release.at)",
        tenant,
        [answer.released_at for answer in releases],
    )


async def test_no_release_overlooks_anything_in_a_crowd(database, superuser):
    tenant = await put(superuser, shop("A=900 B=900"))
    async with crowd(database) as callers:
        assert await overlooked(callers, superuser, tenant) == 0
    assert (await verify(database)).differences == ()


async def test_a_crowd_finds_what_a_release_without_lock_overlooks(database, superuser):
    """Negative control of the crowd."""
    tenant = await put(superuser, shop("A=900 B=900"))
    async with crowd(database) as callers, no_lock_of_negotiations("release", callers.raw):
        assert await overlooked(callers, superuser, tenant) > 0


# -- deadlocks ------------------------------------------------------------------------------


async def deadlocks(superuser: asyncpg.Connection) -> int:
    """Count of the database's deadlocks, once every backend has told its own."""
    sql = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )
    while await superuser.fetchval(sql):  # noqa: ASYNC110 - the server has no event for it
        await asyncio.sleep(0.01)
    return await superuser.fetchval(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )


def bait(seed: int, count: int) -> list[Command]:
    """Lines in all orders, displacements, releases, ended negotiations, expired holders."""
    random = Random(seed)
    made: list[Command] = []
    for n in range(count):
        id_ = f"s{seed}-{n}"
        skus = random.sample("ABCDEFGH", k=4)
        deal = f"n{random.randrange(4)}"
        match random.randrange(9):
            case 0:
                made.append(release(f"s{random.randrange(4)}-{random.randrange(count)}"))
            case 1:
                made.append(release(deal))
            case 2:
                made.append(negotiation(deal, random.choice(["DEAD", "PROPOSAL", "PROPOSAL"])))
            case 3:
                made.append(adjust(skus[0], random.choice([-1, 1]), 0))
            case 4:
                made.append(extend(f"s{random.randrange(4)}-{random.randrange(count)}", 1))
            case _:
                items = " ".join(f"{sku}={random.randint(1, 3)}" for sku in skus)
                kind = random.choice(["SOFT", "HARD"])
                made.append(reserve(id_, items, to=deal, type=kind, key=f"k{n % 7}-{seed}"))
    return made


async def test_nobody_deadlocks(database, superuser):
    stock = dict.fromkeys("ABCDEFGH", 12)
    deals = {f"n{n}": "PROPOSAL" for n in range(4)}
    state = shop(stock, negotiations=deals)
    tenant = state.tenant
    await put(superuser, state)
    baits = [bait(seed, 120) for seed in range(4)]
    async with crowd(database) as callers:
        await asyncio.gather(
            *(
                callers.ask(caller, tenant.id, command)
                for caller, command in enumerate(chain(*zip(*baits, strict=True)))
            )
        )
    assert await deadlocks(superuser) == 0
    stored = await read_back(superuser, tenant)
    for level in (level for of in stored.state.levels.values() for level in of):
        lines = [line for r in stored.state.reservations.values() for line in r.lines]
        held = sum(line.held for line in lines if line.product_id == level.product_id)
        assert level.reserved == held <= level.total
        moves = [m for m in stored.movements if m.product_id == level.product_id]
        assert sum(m.total_delta for m in moves) == level.total
        assert sorted(m.sequence for m in moves) == list(range(1, level.version + 1))


def order_bait(seed: int, count: int) -> list[Command]:
    """The same orders, of few negotiations, with their products in all orders, over and over."""
    random = Random(seed)
    made: list[Command] = []
    for n in range(count):
        number = random.randrange(16)
        name, deal = f"o{number}", f"n{number % 4}"
        skus = Random(number).sample("ABCDEFGH", k=4)
        part = random.choice([None, f"{skus[0]}=1", f"{skus[3]}=1 2=1"])
        match random.randrange(9):
            case 0 | 1:
                made.append(order(name, " ".join(f"{sku}=3" for sku in skus), of=deal))
            case 2 | 3:
                made.append(reserve_order(name, f"q{seed}-{n}"))
            case 4:
                made.append(release(f"n{random.randrange(4)}"))
            case 5:
                kind = random.choice([ReleaseOrder, DeductOrder, ReturnOrder])
                made.append(of_order(kind, name, part, key=f"k{n % 7}-{seed}"))
            case 6:
                made.append(of_order(random.choice([DeductOrder, ReturnOrder]), name, part))
            case _:
                items = " ".join(f"{sku}={random.randint(1, 2)}" for sku in skus[::-1])
                kind = random.choice(["SOFT", "HARD"])
                made.append(reserve(f"s{seed}-{n}", items, to=deal, type=kind))
    return made


async def test_nobody_deadlocks_over_orders(database, superuser):
    deals = {f"n{n}": "PROPOSAL" for n in range(4)}
    tenant = await put(superuser, shop(dict.fromkeys("ABCDEFGH", 25), negotiations=deals))
    baits = [order_bait(seed, 120) for seed in range(4)]
    async with crowd(database) as callers:
        answers = await asyncio.gather(
            *(
                callers.ask(caller, tenant, command)
                for caller, command in enumerate(chain(*zip(*baits, strict=True)))
            )
        )
    assert await deadlocks(superuser) == 0
    assert (await verify(database)).differences == ()
    moved = [x for x in answers if isinstance(x, OrderResult) and x.quantity]
    replaced = "SELECT count(*) FROM stock_reservations WHERE release_reason = 'REPLACED'"
    assert {"RESERVED", "PARTLY_DELIVERED", "DELIVERED"} <= {x.status for x in moved}
    assert await superuser.fetchval(replaced) > 5


async def test_a_deadlock_would_be_seen(database, superuser):
    """Negative control of `deadlocks`."""
    await put(superuser, shop("A=1 B=1"))
    sql = "UPDATE products SET name = 'x' WHERE sku = $1"
    one, two = [
        await asyncpg.connect(
            database, server_settings={"search_path": "cerniq", "deadlock_timeout": "10ms"}
        )
        for _ in range(2)
    ]
    meet = asyncio.Barrier(2)

    async def update(connection: asyncpg.Connection, skus: str) -> None:
        async with connection.transaction():
            await connection.execute(sql, skus[0])
            await meet.wait()
            await connection.execute(sql, skus[1])

    results = await asyncio.gather(update(one, "AB"), update(two, "BA"), return_exceptions=True)
    assert [type(r) for r in results if r is not None] == [asyncpg.DeadlockDetectedError]
    await one.close()
    await two.close()
    assert await deadlocks(superuser) == 1


# -- one key --------------------------------------------------------------------------------


async def test_one_key_from_many_callers_has_one_effect(database, superuser):
    tenant = await put(superuser, shop("A=10"))
    async with crowd(database) as callers:
        for turn in range(5):
            made = await asyncio.gather(
                *(
                    callers.ask(n, tenant, reserve(f"r{turn}-{n}", "A=1", key=f"k{turn}"))
                    for n in range(12)
                )
            )
            assert len({answer.reservation_id for answer in made}) == 1
            first = [answer for answer in made if REPLAYED not in answer.warnings]
            assert len(first) == 1
            again = replace(first[0], warnings=(*first[0].warnings, REPLAYED))
            assert all(answer in (first[0], again) for answer in made)
            got = await asyncio.gather(
                *(callers.ask(n, tenant, receive("A=2", key=f"w{turn}")) for n in range(12))
            )
            assert all(answer == got[0] for answer in got)
    row = await superuser.fetchrow("SELECT total, reserved, version FROM stock_levels")
    assert tuple(row) == (20, 5, 11)
