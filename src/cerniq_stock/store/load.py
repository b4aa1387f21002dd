"""Lock and load everything that a batch of one tenant's commands may look at.

`begin` has locked the negotiations and orders; levels come next, then reservations.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import asyncpg

from cerniq_stock import wire
from cerniq_stock.domain.batch import wanted_from_holders
from cerniq_stock.domain.commands import Command
from cerniq_stock.domain.model import (
    NEVER,
    ZERO,
    Level,
    Line,
    Order,
    OrderLine,
    Product,
    Reservation,
    Tenant,
)
from cerniq_stock.domain.outcomes import Answer, ReserveResult
from cerniq_stock.domain.reserve import partial_warnings
from cerniq_stock.domain.work import State
from cerniq_stock.store.arrays import plain, quoted, words
from cerniq_stock.store.begin import NEW_STATE, MadeMeanwhileError, Named
from cerniq_stock.store.queries import SQL


class Loaded(NamedTuple):
    """The state under lock (no tenant: no state), and the database's clock after the locks.

    `places` tells where the locked levels stand in their table.
    """

    state: State | None
    now: datetime
    places: Mapping[tuple[UUID, str], str]


async def load(
    connection: asyncpg.Connection, tenant_id: UUID, commands: Sequence[Command], named: Named
) -> Loaded:
    """Lock the levels and reservations, then read what the decision needs."""
    holds: dict[str, list[UUID]] = {}
    if named.reservations or named.ending_negotiations:
        rows = await connection.fetch(
            SQL["products_of_holds"],
            tenant_id,
            list(named.reservations),
            list(named.ending_negotiations),
        )
        holds = {row["id"]: row["products"] for row in rows}
    levels, around = await _lock_and_look(connection, tenant_id, named, holds)
    if not around:
        now: datetime = await connection.fetchval("SELECT statement_timestamp()")
        return Loaded(None, now, {})
    state = _state(tenant_id, levels, around)
    now, due = around[0]["now"], around[0]["due"]
    if due and state.levels:
        state = await _with_due(connection, state, now)
    if named.keys:
        state = await _with_answers(connection, state, named.keys)
    if named.orders:
        state = replace(state, orders=await _orders(connection, tenant_id, named))
    wanted = wanted_from_holders(state, commands, due=due)
    holders = set(holds) | named.reservations
    if wanted:
        holders |= await _holders(connection, tenant_id, wanted, now, holders)
    if holders:
        state = replace(state, reservations=await _reservations(connection, tenant_id, holders))
    places = {(level["id"], level["warehouse"]): level["place"] for level in levels}
    return Loaded(state, now, places)


async def _lock_and_look(
    connection: asyncpg.Connection, tenant_id: UUID, named: Named, holds: dict[str, list[UUID]]
) -> tuple[list[asyncpg.Record], list[asyncpg.Record]]:
    """Lock the levels, then look around.

    Raises MadeMeanwhileError: nothing is locked out of order.
    """
    levels = await _lock_levels(connection, tenant_id, named, holds)
    around = await connection.fetch(
        SQL["look_around"],
        tenant_id,
        words([id_.hex for id_ in named.negotiations]),
        quoted(named.reserve_keys),
        plain({level["id"] for level in levels}),
    )
    if around and around[0]["levels"] not in (None, len(levels)):
        raise MadeMeanwhileError
    return levels, around


async def _lock_levels(
    connection: asyncpg.Connection, tenant_id: UUID, named: Named, holds: dict[str, list[UUID]]
) -> list[asyncpg.Record]:
    """One statement takes every level lock of the batch."""
    if not holds and not named.products:
        return await connection.fetch(SQL["lock_levels"], tenant_id, quoted(list(named.skus)))
    products = named.products.union(*holds.values())
    if named.skus:
        rows = await connection.fetch(SQL["products_of_skus"], tenant_id, list(named.skus))
        products.update(row["id"] for row in rows)
    return await connection.fetch(SQL["lock_levels_of_products"], tenant_id, list(products))


def _state(
    tenant_id: UUID, levels: Sequence[asyncpg.Record], around: Sequence[asyncpg.Record]
) -> State:
    first = around[0]
    tenant = Tenant(
        tenant_id,
        first["name"],
        first["language"],
        tuple(first["warehouses"]),
        first["max_extensions"],
        first["max_reservation_h"],
    )
    products: dict[str, Product] = {}
    by_product: dict[UUID, tuple[Level, ...]] = {}
    for id_, sku, name, unit, status, reorder_point, restock, *figures, _ in levels:
        if sku not in products:
            products[sku] = Product(id_, sku, name, unit, status, reorder_point, restock)
            by_product[id_] = ()
        by_product[id_] += (Level(id_, *figures),)
    if len(tenant.warehouses) > 1:
        place = {name: n for n, name in enumerate(tenant.warehouses)}
        by_product = {
            id_: tuple(sorted(of, key=lambda x: place.get(x.warehouse, len(place))))
            for id_, of in by_product.items()
        }
    return State(
        tenant,
        products,
        by_product,
        negotiations={
            id_: state
            for id_, state in zip(first["ids"] or (), first["states"] or (), strict=True)
            if state != NEW_STATE
        },
        reserve_answers={
            row["reservation_key"]: (row["fingerprint"], _told(row))
            for row in around
            if row["id"] is not None
        },
    )


def _told(row: asyncpg.Record) -> ReserveResult:
    """Rebuild the first answer to a reservation."""
    items = wire.loads_items(row["items_json"])
    reserved = sum((item.reserved_quantity for item in items), ZERO)
    requested = sum((item.requested_quantity for item in items), ZERO)
    return ReserveResult(
        success=reserved > 0,
        reservation_id=row["id"],
        reservation_key=row["reservation_key"],
        status="FAILED" if not reserved else "ACTIVE" if reserved == requested else "PARTIAL",
        items=items,
        total_reserved=reserved,
        total_requested=requested,
        expires_at=row["first_expires_at"],
        warnings=partial_warnings(items),
        errors=wire.loads_errors(row["errors_json"]),
    )


async def _with_due(connection: asyncpg.Connection, state: State, now: datetime) -> State:
    """Mark what of each level is held by reservations past their expiry."""
    rows = await connection.fetch(SQL["due_of_products"], state.tenant.id, list(state.levels), now)
    due: dict[tuple[UUID, str], Decimal] = {
        (row["product_id"], row["warehouse"]): row["due"] for row in rows
    }
    if not due:
        return state
    levels = {
        id_: tuple(level._replace(due=due.get((id_, level.warehouse), ZERO)) for level in of)
        for id_, of in state.levels.items()
    }
    return replace(state, levels=levels)


async def _with_answers(connection: asyncpg.Connection, state: State, keys: Sequence[str]) -> State:
    rows = await connection.fetch(SQL["told_answers"], state.tenant.id, keys)
    answers: dict[str, tuple[bytes, Answer]] = {
        row["key"]: (
            row["fingerprint"],
            wire.loads_answer(row["answer_type"], row["answer_json"]),
        )
        for row in rows
    }
    return replace(state, answers=answers)


async def _orders(
    connection: asyncpg.Connection, tenant_id: UUID, named: Named
) -> dict[UUID, Order]:
    """Read the lines of the locked orders.

    Raises MadeMeanwhileError: nothing is locked out of order.
    """
    headers = named.locked_orders
    lines: dict[UUID, list[OrderLine]] = {}
    rows = await connection.fetch(SQL["lines_of_orders"], tenant_id, list(named.orders))
    for id_, *line in rows:
        lines.setdefault(id_, []).append(OrderLine(*line))
    if lines.keys() - {row["id"] for row in headers}:
        raise MadeMeanwhileError
    return {
        id_: Order(id_, negotiation_id, tuple(lines[id_]), reservation_id)
        for id_, negotiation_id, reservation_id in headers
    }


async def _holders(
    connection: asyncpg.Connection,
    tenant_id: UUID,
    wanted: dict[UUID, Decimal],
    now: datetime,
    loaded: set[str],
) -> set[str]:
    amounts = list(wanted.values())
    rows = await connection.fetch(
        SQL["holders_to_give_way"], tenant_id, list(wanted), amounts, now, list(loaded)
    )
    return {row["reservation_id"] for row in rows}


async def _reservations(
    connection: asyncpg.Connection, tenant_id: UUID, ids: Iterable[str]
) -> dict[str, Reservation]:
    """Lock the headers, then read the lines in a snapshot of their own."""
    wanted = sorted(ids)
    headers = await connection.fetch(SQL["lock_reservations"], tenant_id, wanted)
    rows = await connection.fetch(SQL["lines_of_reservations"], tenant_id, wanted)
    lines: dict[str, list[Line]] = {}
    for id_, *line in rows:
        lines.setdefault(id_, []).append(Line(*line))
    return {
        row["id"]: Reservation(
            id=row["id"],
            key=row["reservation_key"],
            negotiation_id=row["negotiation_id"],
            type=row["type"],
            priority=row["priority"],
            status=row["status"],
            created_at=row["created_at"],
            # the driver reads `infinity` as a time without a zone
            expires_at=row["expires_at"] if row["order_id"] is None else NEVER,
            lines=tuple(lines.get(row["id"], ())),
            extensions=row["extensions"],
            released_at=row["released_at"],
            release_reason=row["release_reason"],
            released_by=row["released_by"],
            release_notes=row["release_notes"],
            order_id=row["order_id"],
        )
        for row in headers
    }
