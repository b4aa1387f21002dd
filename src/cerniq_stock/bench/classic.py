"""The straightforward way to the same rows: one transaction of eight statements per request.

It is what one writes first, written well: a pool of 30 connections, prepared statements, rows
locked in key order, all lines of a request in one statement each. It leaves out what the engine
does besides (expiry at read, SOFT giving way to HARD, several warehouses), which only helps it.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from cerniq_stock import validate, wire
from cerniq_stock.domain import messages
from cerniq_stock.domain.commands import Item
from cerniq_stock.domain.model import (
    MAY_RESERVE,
    ZERO,
    Priority,
    Product,
    ProductStatus,
    ReservationType,
)
from cerniq_stock.domain.outcomes import (
    ItemResult,
    LineStatus,
    Refusal,
    ReservationError,
    ReserveResult,
)
from cerniq_stock.domain.reserve import partial_warnings
from cerniq_stock.store.database import create_pool
from cerniq_stock.store.ids import new_id

Connection = PoolConnectionProxy

CONNECTIONS = 30
EXPIRES_IN_H = 72


def open_pool(
    dsn: str, connections: int = CONNECTIONS
) -> AbstractAsyncContextManager[asyncpg.Pool]:
    """Connections of the engine's own role and settings."""
    return create_pool(dsn, "cerniq_app", max_size=connections)


class Question(NamedTuple):
    """One checked request."""

    id: str
    key: str
    fingerprint: bytes
    tenant_id: UUID
    negotiation_id: UUID
    items: tuple[Item, ...]


class Held(NamedTuple):
    """One line that takes something: what is written of it."""

    line_no: int
    product: Product
    warehouse: str
    quantity: Decimal
    before: Decimal
    sequence: int


class Classic:
    """Answers each request in a transaction of its own."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def reserve(
        self, tenant_id: UUID, negotiation_id: UUID, items: Iterable[Item], *, key: str
    ) -> ReserveResult:
        """Hold goods, as `Stock.reserve` does for a SOFT reservation of 72 hours."""
        lines = validate.items(items)
        question = Question(
            new_id(),
            validate.text("reservationKey", key, most=validate.MAX_KEY),
            validate.reserve_fingerprint(
                lines,
                negotiation_id,
                ReservationType.SOFT,
                Priority.NORMAL,
                EXPIRES_IN_H,
                None,
            ),
            tenant_id,
            negotiation_id,
            lines,
        )
        async with self._pool.acquire() as connection:
            await connection.execute(f"BEGIN; SET LOCAL app.tenant = '{tenant_id}'")
            try:
                answer = await _decide(connection, question)
            except BaseException:
                await connection.execute("ROLLBACK")
                raise
            await connection.execute("COMMIT")
            return answer


async def _decide(connection: Connection, question: Question) -> ReserveResult:
    known = await connection.fetchrow(
        _LOOK_UP, question.tenant_id, question.key, question.negotiation_id
    )
    assert known is not None
    assert known["id"] is None, "no benchmark repeats a key: answering it again is not measured"
    assert known["state"] in MAY_RESERVE, known["state"]
    skus = [item.sku for item in question.items]
    levels = await connection.fetch(_LOCK, question.tenant_id, skus)
    now = known["now"]
    answer, held = _hold(question, levels, now)
    if held:
        await _take(connection, question, held)
    await _insert_header(connection, question, answer, now)
    if held:
        await _insert_lines(connection, question, held, now)
        await _insert_movements(connection, question, held, now)
        await _tell_if_low(connection, question, held, now)
    return answer


def _hold(
    question: Question, levels: Sequence[asyncpg.Record], now: datetime
) -> tuple[ReserveResult, list[Held]]:
    by_sku = {row["sku"]: row for row in levels}
    items: list[ItemResult] = []
    errors: list[ReservationError] = []
    held: list[Held] = []
    for line_no, item in enumerate(question.items, 1):
        row = by_sku[item.sku]
        before = row["available"]
        taken = min(before, item.quantity) or ZERO
        items.append(_item_result(item, row, taken))
        if taken:
            product = Product(*list(row)[:7])
            sequence = row["version"] + 1
            held.append(Held(line_no, product, row["warehouse"], taken, before, sequence))
        else:
            message = f"No stock available for {item.sku}"
            errors.append(ReservationError(item.sku, Refusal.INSUFFICIENT_STOCK, message, ZERO))
    return _answer(question, tuple(items), tuple(errors), now), held


def _item_result(item: Item, row: asyncpg.Record, taken: Decimal) -> ItemResult:
    if taken == item.quantity:
        status = LineStatus.RESERVED
    else:
        status = LineStatus.PARTIAL if taken else LineStatus.UNAVAILABLE
    before = row["available"]
    return ItemResult(item.sku, row["id"], item.quantity, taken, before, before - taken, status)


def _answer(
    question: Question,
    items: tuple[ItemResult, ...],
    errors: tuple[ReservationError, ...],
    now: datetime,
) -> ReserveResult:
    reserved = sum((item.reserved_quantity for item in items), ZERO)
    requested = sum((item.requested_quantity for item in items), ZERO)
    return ReserveResult(
        success=reserved > 0,
        reservation_id=question.id,
        reservation_key=question.key,
        status="ACTIVE" if reserved == requested else "PARTIAL" if reserved else "FAILED",
        items=items,
        total_reserved=reserved,
        total_requested=requested,
        expires_at=now + timedelta(hours=EXPIRES_IN_H),
        warnings=partial_warnings(items),
        errors=errors,
    )


async def _take(connection: Connection, question: Question, held: list[Held]) -> None:
    await connection.execute(
        _TAKE,
        question.tenant_id,
        [line.product.id for line in held],
        [line.warehouse for line in held],
        [line.quantity for line in held],
    )


async def _insert_header(
    connection: Connection, question: Question, answer: ReserveResult, now: datetime
) -> None:
    await connection.execute(
        _HEADER,
        question.tenant_id,
        question.id,
        question.negotiation_id,
        question.key,
        question.fingerprint,
        "ACTIVE" if answer.success else "FAILED",
        wire.items_json(answer.items),
        wire.errors_json(answer.errors) if answer.errors else None,
        answer.total_requested,
        answer.total_reserved,
        answer.expires_at,
        now,
    )


async def _insert_lines(
    connection: Connection, question: Question, held: list[Held], now: datetime
) -> None:
    await connection.execute(
        _LINES,
        question.tenant_id,
        question.id,
        now + timedelta(hours=EXPIRES_IN_H),
        [line.line_no for line in held],
        [line.warehouse for line in held],
        [line.product.id for line in held],
        [line.quantity for line in held],
    )


async def _insert_movements(
    connection: Connection, question: Question, held: list[Held], now: datetime
) -> None:
    await connection.execute(
        _MOVEMENTS,
        question.tenant_id,
        question.id,
        question.negotiation_id,
        now,
        [new_id() for _ in held],
        [line.product.id for line in held],
        [line.product.sku for line in held],
        [line.warehouse for line in held],
        [line.quantity for line in held],
        [line.before for line in held],
        [line.sequence for line in held],
    )


async def _tell_if_low(
    connection: Connection, question: Question, held: list[Held], now: datetime
) -> None:
    """Notify when a product falls to its reorder point; a ninth statement, once per product."""
    for line in held:
        after = line.before - line.quantity
        product = line.product
        low = after <= product.reorder_point < line.before
        if low and product.status == ProductStatus.ACTIVE:
            note = messages.low_stock("ro", product, after)
            await connection.execute(_NOTIFY, question.tenant_id, new_id(), now, *note)


_LOOK_UP = """
SELECT
    statement_timestamp() AS now,
    (SELECT state FROM negotiations WHERE tenant_id = $1 AND id = $3) AS state,
    (SELECT id FROM stock_reservations WHERE tenant_id = $1 AND reservation_key = $2) AS id
"""

_LOCK = """
SELECT
    p.id, p.sku, p.name, p.unit, p.status, p.reorder_point, p.expected_restock_date,
    s.warehouse, s.available, s.version
FROM products AS p
JOIN stock_levels AS s ON s.tenant_id = $1 AND s.product_id = p.id
WHERE p.tenant_id = $1 AND p.sku = ANY ($2::text[])
ORDER BY s.product_id, s.warehouse
FOR NO KEY UPDATE OF s
"""

_TAKE = """
UPDATE stock_levels AS s
SET reserved = s.reserved + d.quantity, version = s.version + 1, updated_at = now()
FROM unnest($2::uuid[], $3::text[], $4::numeric[]) AS d (product_id, warehouse, quantity)
WHERE s.tenant_id = $1 AND s.product_id = d.product_id AND s.warehouse = d.warehouse
"""

_HEADER = """
INSERT INTO stock_reservations (
    tenant_id, id, negotiation_id, reservation_key, fingerprint, type, status, priority,
    items_json, errors_json, total_requested, total_reserved, first_expires_at, expires_at,
    created_at, updated_at
)
VALUES ($1, $2, $3, $4, $5, 'SOFT', $6, 'NORMAL', $7, $8, $9, $10, $11, $11, $12, $12)
"""

_LINES = """
INSERT INTO stock_reservation_lines (
    tenant_id, reservation_id, expires_at, line_no, warehouse, product_id, reserved
)
SELECT $1, $2, $3, x.*
FROM unnest($4::smallint[], $5::text[], $6::uuid[], $7::numeric[]) AS x
"""

_MOVEMENTS = """
INSERT INTO stock_movements (
    tenant_id, reference_type, reference_id, negotiation_id, created_at, id, product_id, sku,
    warehouse, type, total_delta, reserved_delta, blocked_delta, previous_available, sequence
)
SELECT
    $1, 'RESERVATION', $2, $3, $4, x.id, x.product_id, x.sku, x.warehouse, 'RESERVATION', 0,
    x.quantity, 0, x.previous, x.sequence
FROM unnest(
    $5::text[], $6::uuid[], $7::text[], $8::text[], $9::numeric[], $10::numeric[], $11::bigint[]
) AS x (id, product_id, sku, warehouse, quantity, previous, sequence)
"""

_NOTIFY = """
INSERT INTO notifications (
    tenant_id, id, created_at, type, severity, title, message, entity_type, entity_id
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
