"""Builders shared by the tests: a small shop, commands with sensible defaults, `fold`, readback."""

import asyncio
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import asyncpg
from hypothesis import settings

from cerniq_stock import wire
from cerniq_stock.domain.commands import (
    Adjust,
    Command,
    Count,
    CreateOrder,
    Extend,
    Item,
    OrderPart,
    Quantity,
    Receive,
    Release,
    Reserve,
    ReserveOrder,
    Return,
    ReturnOrder,
    SetNegotiation,
)
from cerniq_stock.domain.model import (
    NEVER,
    ZERO,
    Level,
    Line,
    Movement,
    Notification,
    Order,
    OrderLine,
    Priority,
    Product,
    ReleaseReason,
    Reservation,
    ReservationType,
    Tenant,
)
from cerniq_stock.domain.outcomes import ReserveResult
from cerniq_stock.domain.work import Changes, State

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile("long", settings.get_profile("default"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def uid(name: str) -> UUID:
    """A UUID that is the same for the same name, in every tenant: leaks between them show."""
    return uuid5(NAMESPACE_OID, name)


# -- commands -------------------------------------------------------------------------------

_NOT_ASKED = {"reservation_id", "key", "fingerprint", "by", "notes", "requested_by", "channel"}


def sealed(command: Command) -> Command:
    """The command with the digest of what it asks, as the service makes it."""
    asked = [getattr(command, f.name) for f in fields(command) if f.name not in _NOT_ASKED]
    if not isinstance(command, (Reserve, ReserveOrder)) and hasattr(command, "reservation_id"):
        asked.append(command.reservation_id)
    digest = blake2b(repr((type(command), asked)).encode(), digest_size=16).digest()
    return replace(command, fingerprint=digest)


def reserve(
    id_: str, items: str | Iterable[Item], *, to: str = "n1", key: str | None = None, **rest: Any
) -> Reserve:
    """`reserve("r1", "A=4 B=0.5")`: hold four of A and half a unit of B for negotiation n1."""
    if isinstance(items, str):
        items = [Item(sku, amount) for sku, amount in amounts(items)]
    rest["type"] = ReservationType(rest.get("type", "SOFT"))
    rest["priority"] = Priority(rest.get("priority", "NORMAL"))
    return sealed(Reserve(id_, key or f"key-{id_}", b"", uid(to), tuple(items), **rest))


def release(
    of: str, items: str | None = None, *, reason: str = "MANUAL", key: str | None = None
) -> Release:
    """Release reservation `r…` or negotiation `n…`, whole or so much of each SKU."""
    part = None if items is None else tuple(Quantity(*pair) for pair in amounts(items))
    ids = (None, uid(of)) if of.startswith("n") else (of, None)
    return sealed(Release(key, b"", None, None, ReleaseReason(reason), *ids, part))


def consume(of: str, items: str | None = None, *, key: str | None = None) -> Release:
    return release(of, items, reason="CONSUMED", key=key)


def extend(of: str, hours: int = 24, *, key: str | None = None) -> Extend:
    return sealed(Extend(key, b"", None, None, of, hours))


def negotiation(name: str, state: str, *, key: str | None = None) -> SetNegotiation:
    return sealed(SetNegotiation(key, b"", None, None, uid(name), state))


def receive(item: str, *, into: str | None = None, key: str | None = None) -> Receive:
    ((sku, amount),) = amounts(item)
    return sealed(Receive(key, b"", None, None, sku, into, amount))


def take_back(item: str, *, into: str | None = None, key: str | None = None) -> Return:
    ((sku, amount),) = amounts(item)
    return sealed(Return(key, b"", None, None, sku, into, amount))


def adjust(
    sku: str, total: Any = 0, blocked: Any = 0, *, into: str | None = None, key: str | None = None
) -> Adjust:
    return sealed(Adjust(key, b"", None, None, sku, into, Decimal(total), Decimal(blocked)))


def count(item: str, *, into: str | None = None, key: str | None = None) -> Count:
    ((sku, amount),) = amounts(item)
    return sealed(Count(key, b"", None, None, sku, into, amount))


def order(name: str, items: str | Iterable[Item], *, of: str | None = None, **rest: Any) -> Command:
    """Take order `o…` down, of negotiation `n…` if any."""
    if isinstance(items, str):
        items = [Item(sku, amount) for sku, amount in amounts(items)]
    key = rest.pop("key", None)
    origin = uid(of) if of else None
    return sealed(CreateOrder(key, b"", None, None, uid(name), origin, tuple(items)))


def reserve_order(name: str, id_: str, *, key: str | None = None) -> ReserveOrder:
    return sealed(ReserveOrder(key, b"", None, None, uid(name), id_))


def of_order(kind: Any, name: str, parts: str | None = None, **rest: Any) -> Any:
    """`of_order(DeductOrder, "o1", "A=2 3=1")`: two of A and one of line 3; all without parts."""
    into, key = rest.pop("into", None), rest.pop("key", None)
    asked = None
    if parts is not None:
        asked = tuple(
            OrderPart(n, line_no=int(x)) if x.isdigit() else OrderPart(n, x)
            for x, n in amounts(parts)
        )
    where = (into,) if kind is ReturnOrder else ()
    return sealed(kind(key, b"", None, None, uid(name), asked, *where))


def amounts(text: str) -> list[tuple[str, Decimal]]:
    """`"A=4 B=0.5"` as pairs."""
    return [(sku, Decimal(n)) for sku, _, n in (word.partition("=") for word in text.split())]


# -- states ---------------------------------------------------------------------------------


def product(sku: str, **changed: Any) -> Product:
    plain = Product(uid(sku), sku, f"Product {sku}", "BUC", "ACTIVE", ZERO, None)
    return plain._replace(**changed)


def shop(
    stock: Mapping[str, Any] | str = "A=10",
    *,
    tenant: Tenant | None = None,
    products: Iterable[Product] = (),
    negotiations: Mapping[str, str] | None = None,
) -> State:
    """A tenant with so much of each SKU in its first warehouse and negotiation n1 in PROPOSAL."""
    tenant = tenant or Tenant(uid("tenant"), "Shop")
    figures = dict(amounts(stock)) if isinstance(stock, str) else dict(stock)
    known = {sku: product(sku) for sku in figures} | {p.sku: p for p in products}
    levels = {
        p.id: (Level(p.id, tenant.warehouses[0], Decimal(figures.get(sku, 0)), ZERO, ZERO, 0),)
        for sku, p in known.items()
    }
    deals = {"n1": "PROPOSAL"} if negotiations is None else negotiations
    return State(tenant, known, levels, {uid(name): state for name, state in deals.items()})


def fold(state: State, changes: Changes) -> State:
    """The state after the changes, as the next load would find it."""
    levels = {product_id: {x.warehouse: x for x in of} for product_id, of in state.levels.items()}
    for level in changes.levels:
        levels[level.product_id][level.warehouse] = level
    place = {name: n for n, name in enumerate(state.tenant.warehouses)}
    reservations = dict(state.reservations)
    reservations |= {made.reservation.id: made.reservation for made in changes.created}
    reservations |= {reservation.id: reservation for reservation in changes.changed}
    return replace(
        state,
        levels={
            product_id: tuple(sorted(of.values(), key=lambda x: place.get(x.warehouse, 99)))
            for product_id, of in levels.items()
        },
        reservations=dict(sorted(reservations.items())),
        negotiations={**state.negotiations, **dict(changes.negotiations)},
        reserve_answers={
            **state.reserve_answers,
            **{m.command.key: (m.command.fingerprint, m.answer) for m in changes.created},
        },
        answers={**state.answers, **{key: (seal, told) for key, seal, told in changes.answers}},
        orders={
            **state.orders,
            **{order.id: order for order in (*changes.new_orders, *changes.changed_orders)},
        },
    )


def with_due(state: State, now: datetime) -> State:
    """Mark what of each level is held by reservations past their expiry."""
    due: dict[tuple[UUID, str], Decimal] = {}
    for line in _lines(r for r in state.reservations.values() if is_due(r, now)):
        place = line.product_id, line.warehouse
        due[place] = due.get(place, ZERO) + line.held
    levels = {
        product_id: tuple(x._replace(due=due.get((product_id, x.warehouse), ZERO)) for x in of)
        for product_id, of in state.levels.items()
    }
    return replace(state, levels=levels)


def check_orders(state: State, movements: Iterable[Movement]) -> None:
    """Each quantity of an order is in one place, and moved once; `movements` are all there are."""
    moved: dict[tuple[UUID | None, UUID, str], Decimal] = {}
    for move in movements:
        place = move.order_id, move.product_id, move.type
        moved[place] = moved.get(place, ZERO) + move.total_delta
    expected = {place: ZERO for place in moved if place[0] is not None}
    for order_ in state.orders.values():
        held = dict.fromkeys((line.line_no for line in order_.lines), ZERO)
        if order_.reservation_id is not None:
            for at in state.reservations[order_.reservation_id].lines:
                held[at.line_no] += at.held
        for line in order_.lines:
            assert min(line.reserved, line.deducted, line.released, line.returned) >= 0
            assert line.reserved + line.deducted + line.released <= line.quantity
            assert line.returned <= line.deducted
            assert line.reserved == held[line.line_no]
            for kind, amount in (("SALE", -line.deducted), ("RETURN", line.returned)):
                place = order_.id, line.product_id, kind
                expected[place] = expected.get(place, ZERO) + amount
    assert {place: moved.get(place, ZERO) for place in expected} == expected
    for reservation in state.reservations.values():
        if reservation.order_id is not None:
            assert state.orders[reservation.order_id].reservation_id == reservation.id
            assert reservation.expires_at == NEVER
            assert reservation.negotiation_id is None


def is_due(reservation: Reservation, now: datetime) -> bool:
    return reservation.status == "ACTIVE" and not reservation.live(now)


def _lines(reservations: Iterable[Reservation]) -> Iterable[Line]:
    return (line for reservation in reservations for line in reservation.lines)


# -- the database ---------------------------------------------------------------------------


async def put(connection: asyncpg.Connection, state: State) -> UUID:
    """Write a fresh state (no reservations yet) as a new tenant; needs a superuser.

    Figures are written by plain SQL, so they are logged as ADJUSTMENT.
    """
    tenant = state.tenant
    await connection.execute(
        "INSERT INTO tenants (id, name, language, warehouses, max_extensions, max_reservation_h)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        *(tenant.id, tenant.name, tenant.language, list(tenant.warehouses)),
        *(tenant.max_extensions, tenant.max_reservation_h),
    )
    await connection.executemany(
        "INSERT INTO products (tenant_id, id, sku, name, unit, status, reorder_point,"
        " expected_restock_date) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        [(tenant.id, *of) for of in state.products.values()],
    )
    await connection.executemany(
        "MERGE INTO stock_levels AS s USING (VALUES ($1::uuid, $2::uuid, $3, $4::numeric,"
        " $5::numeric)) AS v (tenant_id, product_id, warehouse, total, blocked)"
        " ON s.tenant_id = v.tenant_id AND s.product_id = v.product_id"
        " AND s.warehouse = v.warehouse"
        " WHEN MATCHED THEN UPDATE SET total = v.total, blocked = v.blocked"
        " WHEN NOT MATCHED THEN INSERT (tenant_id, product_id, warehouse, total, blocked)"
        " VALUES (v.tenant_id, v.product_id, v.warehouse, v.total, v.blocked)",
        [
            (tenant.id, x.product_id, x.warehouse, x.total, x.blocked)
            for of in state.levels.values()
            for x in of
        ],
    )
    await connection.executemany(
        "INSERT INTO negotiations (tenant_id, id, state) VALUES ($1, $2, $3)",
        [(tenant.id, *deal) for deal in state.negotiations.items()],
    )
    return tenant.id


@dataclass(frozen=True, slots=True)
class Stored:
    """All that the database holds of a tenant."""

    state: State
    movements: tuple[Movement, ...]
    notifications: tuple[Notification, ...]


async def read_back(connection: asyncpg.Connection, tenant: Tenant) -> Stored:
    """Read a tenant's rows as a superuser, without any code of the engine's store."""
    rows = {name: await connection.fetch(sql, tenant.id) for name, sql in _READ.items()}
    products = {row["sku"]: Product(*row) for row in rows["products"]}
    place = {name: n for n, name in enumerate(tenant.warehouses)}
    levels: dict[UUID, tuple[Level, ...]] = {of.id: () for of in products.values()}
    for row in sorted(rows["levels"], key=lambda row: place.get(row["warehouse"], 99)):
        levels[row["product_id"]] += (Level(*row),)
    lines: dict[str, tuple[Line, ...]] = {}
    for id_, *line, agrees in rows["lines"]:
        assert agrees, f"a line of {id_} expires at another time than its reservation"
        lines[id_] = (*lines.get(id_, ()), Line(*line))
    state = State(
        tenant,
        products,
        levels,
        negotiations=dict(rows["negotiations"]),
        reservations={
            row["id"]: _reservation(row, lines.get(row["id"], ())) for row in rows["reservations"]
        },
        reserve_answers={row["reservation_key"]: _first_answer(row) for row in rows["answers"]},
        answers={
            key: (fingerprint, wire.loads_answer(type_, text))
            for key, fingerprint, type_, text in rows["commands"]
        },
        orders=_orders(rows),
    )
    return Stored(
        state,
        tuple(Movement(*row) for row in rows["movements"]),
        tuple(Notification(*row) for row in rows["notifications"]),
    )


def _reservation(row: asyncpg.Record, lines: tuple[Line, ...]) -> Reservation:
    stored = Reservation(*list(row)[:8], lines, *list(row)[8:])
    return stored._replace(expires_at=_end(stored.expires_at))


def _end(at: datetime) -> datetime:
    """What asyncpg makes of `infinity` has no zone."""
    return NEVER if at.tzinfo is None else at


def _orders(rows: Mapping[str, Iterable[asyncpg.Record]]) -> dict[UUID, Order]:
    lines: dict[UUID, tuple[OrderLine, ...]] = {}
    for id_, *line in rows["order_lines"]:
        lines[id_] = (*lines.get(id_, ()), OrderLine(*line))
    orders = {}
    for id_, negotiation_id, reservation_id, status in rows["orders"]:
        orders[id_] = Order(id_, negotiation_id, lines[id_], reservation_id)
        assert orders[id_].status == status, (status, orders[id_])
    return orders


def _first_answer(row: asyncpg.Record) -> tuple[bytes, dict[str, Any]]:
    errors = wire.loads_errors(row["errors_json"])
    items = wire.loads_items(row["items_json"])
    return row["fingerprint"], first_answer(
        row["id"], items, errors, row["total_reserved"], row["total_requested"],
        _end(row["first_expires_at"]),
    )  # fmt: skip


def first_answer(*told: Any) -> dict[str, Any]:
    names = ("id", "items", "errors", "reserved", "requested", "expires_at")
    return dict(zip(names, told, strict=True))


def stored_answer(answer: ReserveResult) -> dict[str, Any]:
    """What the database keeps of the answer to a reservation."""
    return first_answer(
        answer.reservation_id, answer.items, answer.errors, answer.total_reserved,
        answer.total_requested, answer.expires_at,
    )  # fmt: skip


_READ = {
    "products": "SELECT id, sku, name, unit, status, reorder_point, expected_restock_date"
    " FROM products WHERE tenant_id = $1 ORDER BY sku",
    "levels": "SELECT product_id, warehouse, total, reserved, blocked, version"
    " FROM stock_levels WHERE tenant_id = $1",
    "negotiations": "SELECT id, state FROM negotiations WHERE tenant_id = $1",
    "reservations": "SELECT id, reservation_key, negotiation_id, type, priority, status,"
    " created_at, expires_at, extensions, released_at, release_reason, released_by, release_notes,"
    " order_id FROM stock_reservations WHERE tenant_id = $1 ORDER BY id",
    "answers": "SELECT reservation_key, fingerprint, id, items_json, errors_json, total_reserved,"
    " total_requested, first_expires_at FROM stock_reservations WHERE tenant_id = $1",
    "lines": "SELECT l.reservation_id, l.line_no, l.product_id, p.sku, l.warehouse, l.reserved,"
    " l.consumed, l.released, l.expires_at = r.expires_at FROM stock_reservation_lines AS l"
    " JOIN products AS p ON p.tenant_id = $1 AND p.id = l.product_id"
    " JOIN stock_reservations AS r ON r.tenant_id = $1 AND r.id = l.reservation_id"
    " WHERE l.tenant_id = $1"
    " ORDER BY l.reservation_id, l.line_no, l.warehouse",
    "commands": "SELECT key, fingerprint, answer_type, answer_json FROM stock_commands"
    " WHERE tenant_id = $1",
    "movements": "SELECT product_id, sku, warehouse, type, total_delta, reserved_delta,"
    " blocked_delta, previous_available, sequence, reference_type, reference_id, negotiation_id,"
    " order_id, notes, created_by FROM stock_movements WHERE tenant_id = $1"
    " ORDER BY created_at, id",
    "orders": "SELECT id, negotiation_id, reservation_id, status FROM stock_orders"
    " WHERE tenant_id = $1 ORDER BY id",
    "order_lines": "SELECT l.order_id, l.line_no, l.product_id, p.sku, l.quantity, l.reserved,"
    " l.deducted, l.released, l.returned FROM stock_order_lines AS l"
    " JOIN products AS p ON p.tenant_id = $1 AND p.id = l.product_id"
    " WHERE l.tenant_id = $1 ORDER BY l.order_id, l.line_no",
    "notifications": "SELECT type, severity, title, message, entity_type, entity_id"
    " FROM notifications WHERE tenant_id = $1 ORDER BY created_at, id",
}


async def shift_expiry(connection: asyncpg.Connection, tenant_id: UUID, by: Any) -> None:
    """Let time pass for what is held: what would expire in `by` or sooner has expired."""
    for table in ("stock_reservations", "stock_reservation_lines"):
        await connection.execute(
            f"UPDATE {table} SET expires_at = expires_at - $2::interval WHERE tenant_id = $1",
            tenant_id,
            by,
        )


class Held:
    """A connection whose COMMIT waits for `go`; `here` is set when it is reached."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.here, self.go = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    async def execute(self, sql: str, *args: Any) -> str:
        if sql == "COMMIT":
            self.here.set()
            await self.go.wait()
        return await self.connection.execute(sql, *args)


async def until_blocked(superuser: asyncpg.Connection, connection: asyncpg.Connection) -> None:
    """Wait until the connection waits for another one's lock."""
    pid = connection.get_server_pid()
    sql = "SELECT cardinality(pg_blocking_pids($1)) > 0"
    while not await superuser.fetchval(sql, pid):  # noqa: ASYNC110 - the server has no event
        await asyncio.sleep(0.002)
