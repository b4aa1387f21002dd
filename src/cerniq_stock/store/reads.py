"""What can be looked at. Expiry is exact in all of it: no answer depends on when the sweep ran.

Pages follow a key: pass the last row's to get the next page, until one comes back empty. Every
read raises UnavailableError when the database does not answer, and InvalidInputError for text that
no database can hold.
"""

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from uuid import UUID

import asyncpg
import asyncpg.pool

from cerniq_stock import wire
from cerniq_stock.domain.model import ZERO, ReservationStatus
from cerniq_stock.domain.outcomes import OrderLineResult
from cerniq_stock.errors import InvalidInputError, UnavailableError
from cerniq_stock.store.availability import NO_ANSWER
from cerniq_stock.store.database import as_tenant
from cerniq_stock.store.queries import SQL
from cerniq_stock.views import (
    Availability,
    Explanation,
    Holder,
    LevelView,
    LineView,
    MovementView,
    NotificationView,
    OrderView,
    ProductView,
    ReservationView,
    TenantView,
)

Connection = asyncpg.pool.PoolConnectionProxy
Filter = tuple[str, object]
"""A condition with `?` for its value. Without a value there is no condition."""

_LAST_ID = "~"  # sorts after every id
_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"

_SEARCH = 'p.sku ILIKE ? COLLATE "default" OR p.name ILIKE ?'
_PRODUCT = "(SELECT p.id FROM products AS p WHERE p.tenant_id = $1 AND p.sku = ?)"
_HAS_LINE = (
    "EXISTS (SELECT FROM stock_reservation_lines AS l WHERE l.tenant_id = $1"
    f" AND l.reservation_id = r.id AND l.product_id = {_PRODUCT})"
)

# by reference, which has an index: what an order's reservation held, and what had none
_OF_ORDER = (
    "m.reference_id IN (SELECT unnest(ARRAY[o.id::text, o.reservation_id]) FROM stock_orders AS o"
    " WHERE o.tenant_id = $1 AND o.id = ?)"
)

# -- stock ------------------------------------------------------------------------------------


async def levels(
    pool: asyncpg.Pool,
    tenant_id: UUID,
    *,
    skus: Sequence[str] | None = None,
    search: str | None = None,
    after_sku: str | None = None,
    limit: int = 100,
) -> tuple[LevelView, ...]:
    """List levels by SKU and warehouse. `limit` counts products: a page never splits one.

    `search` is part of a SKU or of a name, in any case of letters.
    """
    filters = [("p.sku = ANY (?::text[])", skus), (_SEARCH, _pattern(search))]
    async with _reading(pool, tenant_id) as connection:
        return _levels(
            await _fetch(connection, "levels", tenant_id, after_sku or "", limit, filters)
        )


async def products(
    pool: asyncpg.Pool,
    tenant_id: UUID,
    *,
    search: str | None = None,
    after_sku: str | None = None,
    limit: int = 100,
) -> tuple[ProductView, ...]:
    """List products by SKU with their figures over all warehouses. `search` as in `levels`."""
    filters = [(_SEARCH, _pattern(search))]
    async with _reading(pool, tenant_id) as connection:
        rows = await _fetch(connection, "levels", tenant_id, after_sku or "", limit, filters)
    return tuple(_product(list(of)) for _, of in groupby(rows, key=lambda row: row["id"]))


async def explain(pool: asyncpg.Pool, tenant_id: UUID, sku: str) -> Explanation | None:
    """Say why so much of a SKU is available, all of it at one instant. Unknown: None."""
    async with _reading(pool, tenant_id) as connection:
        await connection.execute(_SNAPSHOT)
        rows = await _fetch(connection, "levels", tenant_id, "", 1, [("p.sku = ?", sku)])
        if not rows:
            return None
        holders = await connection.fetch(SQL["holders"], tenant_id, rows[0]["id"], rows[0]["as_of"])
    return Explanation(_availability(rows), _levels(rows), tuple(Holder(*row) for row in holders))


def _levels(rows: Iterable[asyncpg.Record]) -> tuple[LevelView, ...]:
    return tuple(
        LevelView(
            row["sku"],
            row["name"],
            row["unit"],
            row["status"],
            row["warehouse"],
            row["total"],
            row["reserved"],
            row["blocked"],
            row["available"],
            row["reorder_point"],
            row["updated_at"],
        )
        for row in rows
    )


def _product(rows: Sequence[asyncpg.Record]) -> ProductView:
    first = rows[0]
    return ProductView(
        first["id"],
        first["sku"],
        first["name"],
        first["unit"],
        first["status"],
        first["price"],
        first["currency"],
        first["reorder_point"],
        first["reorder_quantity"],
        first["expected_restock_date"],
        *_totals(rows),
    )


def _availability(rows: Sequence[asyncpg.Record]) -> Availability:
    first = rows[0]
    total, reserved, blocked, available = _totals(rows)
    return Availability(
        first["sku"],
        first["id"],
        first["unit"],
        first["status"],
        total,
        reserved,
        blocked,
        available,
        first["expected_restock_date"],
        first["as_of"],
    )


def _totals(rows: Sequence[asyncpg.Record]) -> list[Decimal]:
    """Total, reserved, blocked and available over all warehouses."""
    figures = ("total", "reserved", "blocked", "available")
    return [sum([row[name] for row in rows], ZERO) for name in figures]


# -- reservations -----------------------------------------------------------------------------


async def reservation(
    pool: asyncpg.Pool, tenant_id: UUID, reservation_id: str
) -> ReservationView | None:
    """Look one reservation up, with its first answer and its lines as they are now."""
    async with _reading(pool, tenant_id) as connection:
        await connection.execute(_SNAPSHOT)
        rows = await _fetch(
            connection, "reservations", tenant_id, _LAST_ID, 1, [("r.id = ?", reservation_id)]
        )
        if not rows:
            return None
        header = rows[0]
        answer = await connection.fetchrow(SQL["reservation_answer"], tenant_id, reservation_id)
        assert answer is not None
        live = header["status"] == ReservationStatus.ACTIVE
        lines = await connection.fetch(SQL["reservation_lines"], tenant_id, reservation_id, live)
    return replace(
        ReservationView(*header),
        items=wire.loads_items(answer["items_json"]),
        errors=wire.loads_errors(answer["errors_json"]),
        lines=tuple(LineView(*line) for line in lines),
    )


async def reservations(
    pool: asyncpg.Pool,
    tenant_id: UUID,
    *,
    negotiation_id: UUID | None = None,
    status: str | None = None,
    sku: str | None = None,
    after_id: str | None = None,
    limit: int = 50,
) -> tuple[ReservationView, ...]:
    """List reservations, the newest first, without items, errors and lines.

    `status` is what is shown: past its expiry, a reservation is EXPIRED. With `sku`, those that
    have got any of it.
    """
    filters = [
        ("r.negotiation_id = ?", negotiation_id),
        ("r.shown = ?", status),
        (_HAS_LINE, sku),
    ]
    async with _reading(pool, tenant_id) as connection:
        rows = await _fetch(
            connection, "reservations", tenant_id, after_id or _LAST_ID, limit, filters
        )
    return tuple(ReservationView(*row) for row in rows)


# -- orders -----------------------------------------------------------------------------------


async def order(pool: asyncpg.Pool, tenant_id: UUID, order_id: UUID) -> OrderView | None:
    """Look one order up with its lines, all of it at one instant."""
    async with _reading(pool, tenant_id) as connection:
        await connection.execute(_SNAPSHOT)
        rows = await _fetch(connection, "orders", tenant_id, None, 1, [("o.id = ?", order_id)])
        if not rows:
            return None
        lines = await connection.fetch(SQL["order_lines"], tenant_id, order_id)
    return replace(OrderView(*rows[0]), lines=tuple(OrderLineResult(*line) for line in lines))


async def orders(
    pool: asyncpg.Pool,
    tenant_id: UUID,
    *,
    status: str | None = None,
    negotiation_id: UUID | None = None,
    after_id: UUID | None = None,
    limit: int = 50,
) -> tuple[OrderView, ...]:
    """List orders, the newest first, without lines."""
    filters = [("o.status = ?", status), ("o.negotiation_id = ?", negotiation_id)]
    async with _reading(pool, tenant_id) as connection:
        rows = await _fetch(connection, "orders", tenant_id, after_id, limit, filters)
    return tuple(OrderView(*row) for row in rows)


# -- the log ----------------------------------------------------------------------------------


async def movements(
    pool: asyncpg.Pool,
    tenant_id: UUID,
    *,
    sku: str | None = None,
    warehouse: str | None = None,
    reference_id: str | None = None,
    order_id: UUID | None = None,
    type: str | None = None,  # noqa: A002 - the name of the column and of the field
    since: datetime | None = None,
    until: datetime | None = None,
    before_id: str | None = None,
    limit: int = 50,
) -> tuple[MovementView, ...]:
    """List movements, the newest first, from `since` on and before `until`."""
    filters = [
        (f"m.product_id = {_PRODUCT}", sku),
        ("m.warehouse = ?", warehouse),
        ("m.reference_id = ?", reference_id),
        (_OF_ORDER, order_id),
        ("m.type = ?", type),
        ("m.created_at >= ?", since),
        ("m.created_at < ?", until),
    ]
    async with _reading(pool, tenant_id) as connection:
        rows = await _fetch(
            connection, "movements", tenant_id, before_id or _LAST_ID, limit, filters
        )
    return tuple(MovementView(*row) for row in rows)


async def notifications(
    pool: asyncpg.Pool, tenant_id: UUID, *, limit: int = 50, before_id: str | None = None
) -> tuple[NotificationView, ...]:
    """List messages for the tenant's people, the newest first."""
    async with _reading(pool, tenant_id) as connection:
        rows = await connection.fetch(SQL["notifications"], tenant_id, before_id or _LAST_ID, limit)
    return tuple(NotificationView(*row) for row in rows)


# -- tenants ----------------------------------------------------------------------------------


async def tenants(pool: asyncpg.Pool) -> tuple[TenantView, ...]:
    """List all tenants by name. `pool` acts as cerniq_operator."""
    return await _tenants(pool, None)


async def tenant(pool: asyncpg.Pool, tenant_id: UUID) -> TenantView | None:
    """Look one tenant up. `pool` acts as cerniq_operator."""
    found = await _tenants(pool, tenant_id)
    return found[0] if found else None


async def _tenants(pool: asyncpg.Pool, tenant_id: UUID | None) -> tuple[TenantView, ...]:
    async with _answering(), pool.acquire() as connection:
        rows = await connection.fetch(SQL["tenants"], tenant_id)
    return tuple(
        TenantView(id_, name, language, tuple(warehouses), *rest)
        for id_, name, language, warehouses, *rest in rows
    )


# -- how --------------------------------------------------------------------------------------


@asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    """Say in the engine's words what the driver raises."""
    try:
        yield
    except NO_ANSWER as error:
        raise UnavailableError("The database does not answer") from error
    except asyncpg.DataError as error:
        raise InvalidInputError("query", str(error)) from error


@asynccontextmanager
async def _reading(pool: asyncpg.Pool, tenant_id: UUID) -> AsyncIterator[Connection]:
    async with _answering(), as_tenant(pool, tenant_id) as connection:
        yield connection


async def _fetch(
    connection: Connection,
    name: str,
    tenant_id: UUID,
    after: str | UUID | None,
    limit: int,
    filters: Sequence[Filter],
) -> list[asyncpg.Record]:
    """Run a named statement with those conditions that have a value.

    Not `$4 IS NULL OR …`: that costs the index that the condition is there for.
    """
    arguments: list[object] = [tenant_id, after, limit]
    conditions = ""
    for condition, value in filters:
        if value is not None:
            arguments.append(value)
            conditions += f"AND ({condition.replace('?', f'${len(arguments)}')}) "
    return await connection.fetch(SQL[name].replace("-- and", conditions), *arguments)


def _pattern(search: str | None) -> str | None:
    """A LIKE pattern that finds the text wherever it stands, taken literally."""
    return None if not search else "%" + re.sub(r"([\\%_])", r"\\\1", search) + "%"
