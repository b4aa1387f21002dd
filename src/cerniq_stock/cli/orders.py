"""`cerniq-stock order`: taken down, reserved, released, delivered, returned."""

from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from cerniq_stock import validate
from cerniq_stock.cli.call import Call, accepted, command, group
from cerniq_stock.cli.options import By, Key, Limit, Notes, Warehouse, order_items, order_parts
from cerniq_stock.cli.output import Shown, Table
from cerniq_stock.cli.problems import RefusedError
from cerniq_stock.domain.model import OrderStatus
from cerniq_stock.domain.outcomes import OrderLineResult, OrderResult, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

app = group(
    "Orders: each quantity of a line is reserved, released, delivered and returned at most once."
    "\n\nA command is done for all lines or for none."
)

FIGURES = ("ordered", "reserved", "deducted", "released", "returned")

OrderId = Annotated[str, typer.Argument(metavar="ORDER", help="Order's id, a UUID.")]
Lines = Annotated[
    list[str],
    typer.Option(
        "--line",
        metavar="SKU=QTY[UNIT]",
        help="What is ordered; repeatable; the unit, where given, must be the product's.",
    ),
]
Parts = Annotated[
    list[str] | None,
    typer.Option(
        "--line",
        metavar="SKU=QTY|#LINE=QTY",
        help="Only so much of a product, or of a line by its number; repeatable.",
    ),
]


@command(
    app,
    "create",
    "order create --line LAPTOP-14=3 --line FLOUR-000=2.5KG",
    "order create --id 6f1d2c1e-8a52-4b7e-9d0a-3c5f1b2a7e10 --negotiation $N --line LAPTOP-14=3",
)
async def create(
    call: Call,
    line: Lines,
    order: Annotated[
        str | None, typer.Option("--id", metavar="UUID", help="Its id; without it a new one.")
    ] = None,
    negotiation: Annotated[
        str | None, typer.Option(metavar="UUID", help="Negotiation that it comes from.")
    ] = None,
    key: Key = None,
    by: By = None,
    notes: Notes = None,
) -> Shown:
    """Take an order down; nothing is held by that.

    The same order again changes nothing. What its negotiation holds becomes the order's when it
    is reserved.
    """
    lines = order_items(line)
    id_ = uuid4() if order is None else validate.uuid("orderId", order)
    origin = None if negotiation is None else validate.uuid("negotiationId", negotiation)
    async with call.tenant() as (stock, tenant):
        answer = await stock.create_order(
            tenant.id, id_, lines, negotiation_id=origin, key=key, by=by, notes=notes
        )
    return _shown(answer, "taken down")


@command(app, "reserve", "order reserve 6f1d2c1e-8a52-4b7e-9d0a-3c5f1b2a7e10 --by 'sales desk'")
async def reserve(
    call: Call, order: OrderId, key: Key = None, by: By = None, notes: Notes = None
) -> Shown:
    """Hold all that is open of an order, HARD and without end, or nothing.

    What its negotiation holds is converted. Every short line is named.
    """
    id_ = validate.uuid("orderId", order)
    async with call.tenant() as (stock, tenant):
        answer = await stock.reserve_order(tenant.id, id_, key=key, by=by, notes=notes)
    return _shown(answer, "reserved")


@command(
    app,
    "release",
    "order release 6f1d2c1e-8a52-4b7e-9d0a-3c5f1b2a7e10",
    "order release 6f1d2c1e-8a52-4b7e-9d0a-3c5f1b2a7e10 --line LAPTOP-14=1 --key minus-1",
)
async def release(
    call: Call,
    order: OrderId,
    line: Parts = None,
    key: Key = None,
    by: By = None,
    notes: Notes = None,
) -> Shown:
    """Cancel what is outstanding of an order, and give back what is held of it."""
    id_, parts = validate.uuid("orderId", order), order_parts(line)
    async with call.tenant() as (stock, tenant):
        answer = await stock.release_order(tenant.id, id_, parts, key=key, by=by, notes=notes)
    return _shown(answer, "released")


@command(
    app,
    "deduct",
    "order deduct 6f1d2c1e-8a52-4b7e-9d0a-3c5f1b2a7e10",
    "order deduct 6f1d2c1e-8a52-4b7e-9d0a-3c5f1b2a7e10 --line '#2=5' --key delivery-1042",
)
async def deduct(
    call: Call,
    order: OrderId,
    line: Parts = None,
    key: Key = None,
    by: By = None,
    notes: Notes = None,
) -> Shown:
    """Sell what was delivered: all that is outstanding of an order, or so much of it.

    What is not reserved comes from free stock. Give each delivery in part a key.
    """
    id_, parts = validate.uuid("orderId", order), order_parts(line)
    async with call.tenant() as (stock, tenant):
        answer = await stock.deduct_order(tenant.id, id_, parts, key=key, by=by, notes=notes)
    return _shown(answer, "deducted")


@command(
    app,
    "return",
    "order return 6f1d2c1e-8a52-4b7e-9d0a-3c5f1b2a7e10 --line LAPTOP-14=1 --key return-77",
)
async def return_(
    call: Call,
    order: OrderId,
    line: Parts = None,
    warehouse: Warehouse = None,
    key: Key = None,
    by: By = None,
    notes: Notes = None,
) -> Shown:
    """Put delivered goods back on the shelf: all of an order, or so much of it."""
    id_, parts = validate.uuid("orderId", order), order_parts(line)
    async with call.tenant() as (stock, tenant):
        answer = await stock.return_order(
            tenant.id, id_, parts, warehouse=warehouse, key=key, by=by, notes=notes
        )
    return _shown(answer, "returned")


@command(
    app,
    "list",
    "order list",
    "order list --status reserved --limit 20 --json",
)
async def list_orders(
    call: Call,
    status: Annotated[
        OrderStatus | None, typer.Option(case_sensitive=False, help="Only in this state.")
    ] = None,
    negotiation: Annotated[
        str | None, typer.Option(metavar="UUID", help="Only of this negotiation.")
    ] = None,
    after: Annotated[
        str | None, typer.Option(metavar="ORDER", help="Go on after this one.")
    ] = None,
    limit: Limit = 50,
) -> Shown:
    """List orders, the newest first."""
    origin = None if negotiation is None else validate.uuid("negotiationId", negotiation)
    after_id = None if after is None else validate.uuid("after", after)
    async with call.tenant() as (stock, tenant):
        found = await stock.orders(
            tenant.id, status=status, negotiation_id=origin, after_id=after_id, limit=limit
        )
    if len(found) >= limit:
        call.note(f"There may be more: --after {found[-1].id}")
    columns = (
        "order",
        "status",
        "lines",
        "ordered",
        "reserved",
        "deducted",
        "released",
        "returned",
    )
    rows = [
        (
            *(x.id, x.status, x.line_count, x.quantity),
            *(x.reserved, x.deducted, x.released, x.returned),
        )
        for x in found
    ]
    return Shown(found, (Table(columns, rows, "No orders"),))


@command(app, "show", "order show 6f1d2c1e-8a52-4b7e-9d0a-3c5f1b2a7e10")
async def show(call: Call, order: OrderId) -> Shown:
    """Show an order with its lines."""
    id_ = validate.uuid("orderId", order)
    async with call.tenant() as (stock, tenant):
        found = await stock.order(tenant.id, id_)
    facts = [
        ("order", found.id),
        ("status", found.status),
        ("negotiation", found.negotiation_id),
        ("reservation", found.reservation_id),
        ("made", found.created_at),
        ("changed", found.updated_at),
    ]
    head = Table(("", ""), [fact for fact in facts if fact[1] is not None])
    return Shown(found, (head, "", _lines(found.lines)))


def _shown(answer: OrderResult | Refused, done: str) -> Shown:
    order = accepted(answer)
    if order.errors:
        message = "; ".join(error.message for error in order.errors)
        raise RefusedError(order.errors[0].code, message, order)
    many = f", {order.quantity.normalize():f} {done}" if order.quantity else f", {done}"
    head = f"Order {order.order_id} {order.status}{many if not order.warnings else ''}"
    return Shown(order, (head, _lines(order.lines)), order.warnings)


def _lines(lines: "Sequence[OrderLineResult]") -> Table:
    columns = ("line", "SKU", *FIGURES)
    rows = [
        (x.line_no, x.sku, x.quantity, x.reserved, x.deducted, x.released, x.returned)
        for x in lines
    ]
    return Table(columns, rows)
