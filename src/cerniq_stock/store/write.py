"""Write what a batch decided: every row once, in its final state."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from cerniq_stock import wire
from cerniq_stock.domain.model import NEVER, Level, Movement, Reservation
from cerniq_stock.domain.work import Changes, Created
from cerniq_stock.store.arrays import plain, quoted, sparse, words
from cerniq_stock.store.ids import id_block
from cerniq_stock.store.queries import SQL

Columns = list[Any]
Places = Mapping[tuple[UUID, str], str]
"""Where the locked levels stand in their table (`ctid`), by product and warehouse."""


class Proof(NamedTuple):
    """A reservation's or movement's id, or a command's key with the time at which it was stored."""

    id: str
    now: datetime


def _columns(rows: Sequence[Sequence[Any]], width: int) -> Columns:
    return list(zip(*rows, strict=True)) if rows else [()] * width


async def write(
    connection: asyncpg.Connection,
    tenant_id: UUID,
    changes: Changes,
    now: datetime,
    places: Places,
) -> Proof | None:
    """Write the changes. Returns how to find a row that only this batch wrote, if it wrote any."""
    movement_ids = id_block(now, len(changes.movements))
    if changes.movements or changes.created:
        await _write_holds(connection, tenant_id, changes, now, movement_ids, places)
    if changes.new_orders or changes.changed_orders:
        await _write_orders(connection, tenant_id, changes, now)
    if changes.changed:
        await _write_changed(connection, tenant_id, changes.changed, now)
    if changes.negotiations:
        await connection.execute(
            SQL["write_negotiations"], tenant_id, now, *_columns(sorted(changes.negotiations), 2)
        )
    if changes.synced:
        rows = [
            (integration_id, product_id, warehouse, *known.columns)
            for integration_id, product_id, warehouse, known in changes.synced
        ]
        await connection.execute(SQL["write_erp_levels"], tenant_id, now, *_synced_columns(rows))
    if changes.answers:
        answers = [
            (key, fingerprint, type(answer).__name__, wire.dumps(answer))
            for key, fingerprint, answer in changes.answers
        ]
        await connection.execute(SQL["write_answers"], tenant_id, now, *_columns(answers, 4))
    if changes.notifications:
        ids = id_block(now, len(changes.notifications))
        await connection.execute(
            SQL["write_notifications"], tenant_id, now, ids, *_columns(changes.notifications, 6)
        )
    if changes.created:
        return Proof(changes.created[0].reservation.id, now)
    if movement_ids:
        return Proof(movement_ids[0], now)
    return Proof(changes.answers[0][0], now) if changes.answers else None


async def _write_holds(
    connection: asyncpg.Connection,
    tenant_id: UUID,
    changes: Changes,
    now: datetime,
    movement_ids: list[str],
    places: Places,
) -> None:
    old, old_places, new = [], [], []
    for level in changes.levels:
        place = places.get(level[:2])
        if place is None:
            new.append(level)
        else:
            old.append(level)
            old_places.append(place)
    if new:
        await connection.execute(SQL["insert_levels"], tenant_id, *_level_columns(new))
    created = sorted(changes.created, key=lambda made: made.reservation.key)
    updated = await connection.fetchval(
        SQL["write_holds"],
        tenant_id,
        now,
        *_level_columns(old),
        quoted(old_places),
        *_header_columns(created),
        *_line_columns(created),
        words(movement_ids),
        *_movement_columns(changes.movements),
    )
    assert updated == len(old), (updated, len(old))


def _synced_columns(rows: Sequence[Sequence[Any]]) -> Columns:
    integrations, products, warehouses, *figures = _columns(rows, 8)
    return [plain(integrations), plain(products), quoted(warehouses), *map(plain, figures)]


_uuid_text: Callable[[UUID], str] = lru_cache(10_000)(str)
"""The same negotiations come again and again, and Python is slow at writing UUIDs."""


def _level_columns(levels: Sequence[Level]) -> Columns:
    ids, warehouses, total, reserved, blocked, version, _ = _columns(levels, 7)
    return [plain(ids), quoted(warehouses), *map(plain, (total, reserved, blocked, version))]


def _header_columns(created: Sequence[Created]) -> Columns:
    rows = [
        (
            reservation.id,
            _uuid_text(reservation.negotiation_id) if reservation.negotiation_id else "NULL",
            reservation.type,
            reservation.status,
            reservation.priority,
            answer.total_requested,
            answer.total_reserved,
            "NULL" if command.expires_in_h is None else command.expires_in_h,
            reservation.key,
            rf"\x{command.fingerprint.hex()}",
            wire.items_json(answer.items),
            wire.errors_json(answer.errors) if answer.errors else None,
            command.requested_by,
            command.channel,
            command.notes,
            None if reservation.order_id is None else _uuid_text(reservation.order_id),
        )
        for reservation, command, answer in created
    ]
    columns = _columns(rows, 16)
    return [
        *map(words, columns[:5]),
        *map(plain, columns[5:8]),
        *map(quoted, columns[8:11]),
        *map(sparse, columns[11:]),
    ]


def _line_columns(created: Sequence[Created]) -> Columns:
    rows = [
        (
            reservation.id,
            line.line_no,
            line.product_id,
            line.reserved,
            "NULL" if command.expires_in_h is None else command.expires_in_h,
            line.warehouse,
        )
        for reservation, command, _ in created
        for line in reservation.lines
    ]
    columns = _columns(rows, 6)
    return [words(columns[0]), *map(plain, columns[1:5]), quoted(columns[5])]


def _movement_columns(movements: Sequence[Movement]) -> Columns:
    (
        product_ids,
        skus,
        warehouses,
        types,
        *figures,
        reference_types,
        reference_ids,
        negotiation_ids,
        order_ids,
        notes,
        by,
    ) = _columns(movements, 15)
    negotiations = [None if id_ is None else _uuid_text(id_) for id_ in negotiation_ids]
    orders = [None if id_ is None else _uuid_text(id_) for id_ in order_ids]
    return [
        plain(product_ids),
        words(types),
        *map(plain, figures),
        quoted(skus),
        quoted(warehouses),
        *map(sparse, (reference_types, reference_ids, negotiations, orders, notes, by)),
    ]


async def _write_orders(
    connection: asyncpg.Connection, tenant_id: UUID, changes: Changes, now: datetime
) -> None:
    for sql, orders in (
        ("insert_orders", changes.new_orders),
        ("write_changed_orders", changes.changed_orders),
    ):
        if orders:
            headers = [(o.id, o.negotiation_id, o.reservation_id, o.status) for o in orders]
            await connection.execute(SQL[sql], tenant_id, now, *_columns(headers, 4))
    if changes.new_orders:
        lines = [
            (o.id, x.line_no, x.product_id, *x[3:]) for o in changes.new_orders for x in o.lines
        ]
        await connection.execute(SQL["insert_order_lines"], tenant_id, *_columns(lines, 8))
    if changes.changed_orders:
        figures = [(o.id, x.line_no, *x[4:]) for o in changes.changed_orders for x in o.lines]
        await connection.execute(SQL["write_changed_order_lines"], tenant_id, *_columns(figures, 6))


def _until(reservation: Reservation) -> datetime:
    """When it ends, as the driver takes it."""
    if reservation.expires_at == NEVER:
        return datetime.max  # noqa: DTZ901 - only this, without a zone, becomes `infinity`
    return reservation.expires_at


async def _write_changed(
    connection: asyncpg.Connection,
    tenant_id: UUID,
    changed: Sequence[Reservation],
    now: datetime,
) -> None:
    lines = [
        (r.id, line.line_no, line.warehouse, line.consumed, line.released, _until(r))
        for r in changed
        for line in r.lines
    ]
    headers = [
        (
            r.id,
            r.status,
            _until(r),
            r.extensions,
            r.released_at,
            r.release_reason,
            r.released_by,
            r.release_notes,
        )
        for r in changed
    ]
    await connection.execute(SQL["write_changed_lines"], tenant_id, *_columns(lines, 6))
    await connection.execute(
        SQL["write_changed_reservations"], tenant_id, now, *_columns(headers, 8)
    )
