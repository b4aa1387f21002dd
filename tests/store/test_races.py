"""Many callers at once on real PostgreSQL: nothing is sold twice, nothing deadlocks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
    put,
    read_back,
    receive,
    release,
    reserve,
    shop,
)
from tests.store.crowd import CALLERS, Crowd, crowd, deadlocks, no_locks, race_two, sold_and_held

from cerniq_stock.domain.commands import Command
from cerniq_stock.domain.model import Tenant
from cerniq_stock.domain.outcomes import ReleaseResult
from cerniq_stock.domain.reserve import REPLAYED
from cerniq_stock.store.begin import PREPARE
from cerniq_stock.store.queries import SQL
from cerniq_stock.store.transaction import Transaction
from cerniq_stock.store.verify import verify

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
