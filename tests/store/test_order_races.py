"""Orders, many callers at once: each quantity moves once, nothing deadlocks."""

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import chain
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from tests.helpers import (
    Held,
    of_order,
    order,
    put,
    read_back,
    release,
    reserve,
    reserve_order,
    shop,
    until_blocked,
)
from tests.store.crowd import CALLERS, Crowd, crowd, deadlocks, no_locks, race_two, sold_and_held

from cerniq_stock.domain.commands import (
    Command,
    DeductOrder,
    ReleaseOrder,
    ReserveOrder,
    ReturnOrder,
)
from cerniq_stock.domain.model import Tenant
from cerniq_stock.domain.orders import KNOWN
from cerniq_stock.domain.outcomes import OrderResult, Refusal
from cerniq_stock.store.queries import SQL
from cerniq_stock.store.transaction import Transaction
from cerniq_stock.store.verify import verify

# -- the last unit --------------------------------------------------------------------------


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


# -- deadlocks ------------------------------------------------------------------------------


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
