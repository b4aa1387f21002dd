"""Open a batch's transaction: what it names, and the locks that come before those of levels.

Locks are taken in one order everywhere, which is why nothing deadlocks: negotiations by id,
orders by id, levels by (product, warehouse), reservations by id, and only then (in `write`) new
keys.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg

from cerniq_stock.domain.commands import (
    Command,
    CreateOrder,
    Extend,
    KeyedCommand,
    OrderCommand,
    Release,
    Reserve,
    ReserveOrder,
    SetNegotiation,
)
from cerniq_stock.store.queries import SQL

PREPARE = (
    "PREPARE share_negotiations (uuid, uuid[]) AS SELECT FROM negotiations"
    " WHERE tenant_id = $1 AND id = ANY ($2) ORDER BY id FOR SHARE"
)
"""Run once per connection: lets negotiations be locked in the round trip of BEGIN."""


NEW_STATE = ""
"""State of a negotiation row that was made a moment ago, in this transaction."""


class MadeMeanwhileError(Exception):
    """A level of a locked product, or an order, was made while we waited for locks: begin again."""


class Named(NamedTuple):
    """What a batch of commands names."""

    skus: set[str]
    reservations: set[str]
    negotiations: set[UUID]
    ending_negotiations: set[UUID]
    changing_negotiations: set[UUID]
    orders: set[UUID]
    products: set[UUID]
    reserve_keys: list[str]
    keys: list[str]
    locked_orders: list[asyncpg.Record]


def _named(commands: Sequence[Command]) -> Named:
    named = Named(set(), set(), set(), set(), set(), set(), set(), [], [], [])
    for command in commands:
        if isinstance(command, Reserve):
            _name_lines(named, command)
            named.reserve_keys.append(command.key)
            if command.replaces is not None:
                named.reservations.add(command.replaces)
        else:
            _name_keyed(named, command)
            if command.key is not None:
                named.keys.append(command.key)
    return named


def _name_lines(named: Named, command: Reserve | CreateOrder) -> None:
    named.skus.update([item.sku for item in command.items])
    if command.negotiation_id is not None:
        named.negotiations.add(command.negotiation_id)


def _name_keyed(named: Named, command: KeyedCommand) -> None:
    match command:
        case Extend():
            named.reservations.add(command.reservation_id)
        case Release():
            if command.reservation_id is not None:
                named.reservations.add(command.reservation_id)
            if command.negotiation_id is not None:
                named.negotiations.add(command.negotiation_id)
                named.ending_negotiations.add(command.negotiation_id)
        case SetNegotiation():
            named.negotiations.add(command.negotiation_id)
            named.changing_negotiations.add(command.negotiation_id)
            named.ending_negotiations.add(command.negotiation_id)
        case OrderCommand():
            named.orders.add(command.order_id)
            if isinstance(command, CreateOrder):
                _name_lines(named, command)
        case _:
            named.skus.add(command.sku)


async def begin(
    connection: asyncpg.Connection,
    tenant_id: UUID,
    commands: Sequence[Command],
    lock_timeout_ms: int | None,
) -> Named:
    """Open the transaction, name the tenant, lock the negotiations: mostly one round trip.

    Where there are orders, they are locked as well.
    """
    named = _named(commands)
    start = f"BEGIN; SET LOCAL app.tenant = '{tenant_id}';"
    if lock_timeout_ms is not None:
        start += f" SET LOCAL lock_timeout = {lock_timeout_ms};"
    if named.orders:
        await connection.execute(start)
        await _lock_orders(connection, tenant_id, commands, named)
    elif named.ending_negotiations:
        await connection.execute(start)
        await _lock_negotiations(connection, tenant_id, named)
    elif named.negotiations:
        ids = ",".join([id_.hex for id_ in named.negotiations])
        await connection.execute(f"{start} EXECUTE share_negotiations ('{tenant_id}', '{{{ids}}}')")
    else:
        await connection.execute(start)
    return named


async def _lock_negotiations(connection: asyncpg.Connection, tenant_id: UUID, named: Named) -> None:
    if named.ending_negotiations:
        # nobody may reserve for them between now and the reading of what they hold
        if named.changing_negotiations:
            new = sorted(named.changing_negotiations)
            await connection.execute(SQL["insert_negotiations"], tenant_id, new, NEW_STATE)
        await connection.execute(
            SQL["lock_negotiations_to_change"], tenant_id, sorted(named.negotiations)
        )
    elif named.negotiations:
        await connection.execute(SQL["share_negotiations"], tenant_id, sorted(named.negotiations))


async def _lock_orders(
    connection: asyncpg.Connection, tenant_id: UUID, commands: Sequence[Command], named: Named
) -> None:
    """Lock the orders, and before them the negotiations that they come from.

    What the negotiation of an order to be reserved holds is about to change hands.
    """
    rows = await connection.fetch(SQL["about_orders"], tenant_id, list(named.orders))
    origins: dict[UUID, UUID | None] = {row["id"]: row["negotiation_id"] for row in rows}
    made = [x for x in commands if isinstance(x, CreateOrder) and x.order_id not in origins]
    for command in commands:
        if isinstance(command, ReserveOrder):
            # any of several commands may be the one that makes it
            found = {x.negotiation_id for x in made if x.order_id == command.order_id}
            found.add(origins.get(command.order_id))
            changing_hands = [id_ for id_ in found if id_ is not None]
            named.negotiations.update(changing_hands)
            named.ending_negotiations.update(changing_hands)
    await _lock_negotiations(connection, tenant_id, named)
    orders = await connection.fetch(SQL["lock_orders"], tenant_id, list(named.orders))
    if len(orders) != len(rows):
        raise MadeMeanwhileError
    named.locked_orders.extend(orders)
    for row in rows:
        named.products.update(row["products"])
    named.reservations.update(
        row["reservation_id"] for row in orders if row["reservation_id"] is not None
    )
