"""Questions: how much is available and why, what moved, what was announced."""

from typing import TYPE_CHECKING, Annotated

import typer

from cerniq_stock import validate
from cerniq_stock.cli.call import (
    Call,
    command,
    require_skus,
    require_warehouse,
    top_level,
)
from cerniq_stock.cli.options import Limit, Sku, Skus, moment
from cerniq_stock.cli.output import Part, Shown, Table, when
from cerniq_stock.domain.messages import plain
from cerniq_stock.domain.model import MovementType

if TYPE_CHECKING:
    from cerniq_stock.views import Availability, Explanation

commands = top_level()


@command(
    commands,
    "availability",
    "availability LAPTOP-14",
    "availability LAPTOP-14 MOUSE-USB --json",
)
async def availability(call: Call, skus: Skus) -> Shown:
    """Say how much can be promised now, over all warehouses."""
    async with call.tenant() as (stock, tenant):
        found = await require_skus(stock, tenant, skus)
    answers = [found[sku] for sku in dict.fromkeys(skus)]
    columns = ("SKU", "available", "unit", "total", "reserved", "blocked", "status", "restock")
    rows = [
        (x.sku, x.available, x.unit, x.total, x.reserved, x.blocked, x.status, x.restock_date)
        for x in answers
    ]
    return Shown(answers, (Table(columns, rows),))


@command(commands, "explain", "explain LAPTOP-14")
async def explain(call: Call, sku: Sku) -> Shown:
    """Say why so much of a product is available.

    What is there, what is blocked, and who holds how much until when.
    """
    name = validate.text("sku", sku, most=validate.MAX_SKU)
    async with call.tenant() as (stock, tenant):
        await require_skus(stock, tenant, [name])
        found = await stock.explain(tenant.id, name)
    return Shown(found, _explained(found))


def _explained(found: "Explanation") -> tuple[Part, ...]:
    levels = Table(
        ("warehouse", "total", "reserved", "blocked", "available"),
        [(x.warehouse, x.total, x.reserved, x.blocked, x.available) for x in found.levels],
    )
    holders = Table(
        ("held", "warehouse", "type", "until", "reservation", "by"),
        [
            (
                *(x.held, x.warehouse, f"{x.type} {x.priority}"),
                *(x.expires_at or "never", x.reservation_id, x.requested_by),
            )
            for x in found.holders
        ],
        "Nobody holds any of it",
    )
    return (*_sum(found.availability), "", levels, "", holders)


def _sum(x: "Availability") -> tuple[str, str]:
    """The line that answers the question, and one beside it."""
    sentence = (
        f"{x.sku}: {plain(x.available)} {x.unit} available"
        f" = {plain(x.total)} there - {plain(x.reserved)} reserved - {plain(x.blocked)} blocked"
    )
    state = "" if x.status == "ACTIVE" else f"; the product is {x.status}"
    restock = f"; more expected on {x.restock_date}" if x.restock_date else ""
    return sentence, f"as of {when(x.as_of)}{state}{restock}"


@command(
    commands,
    "movements",
    "movements --sku LAPTOP-14 --limit 20",
    "movements --type sale --since 2026-01-01 --until 2026-02-01 --json",
    "movements --reference DN-1042",
)
async def movements(
    call: Call,
    sku: Annotated[str | None, typer.Option(metavar="SKU", help="Only of this product.")] = None,
    warehouse: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only in this warehouse.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Only with this document or reservation."),
    ] = None,
    order: Annotated[
        str | None, typer.Option(metavar="UUID", help="Only what this order caused.")
    ] = None,
    kind: Annotated[
        MovementType | None,
        typer.Option("--type", case_sensitive=False, help="Only of this kind."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From this date or time on.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Until before this date or time.")
    ] = None,
    before: Annotated[
        str | None, typer.Option(metavar="MOVEMENT", help="Go on before this one.")
    ] = None,
    limit: Limit = 50,
) -> Shown:
    """List what moved, the newest first."""
    start, end = moment("since", since), moment("until", until)
    document = validate.optional_text("reference", reference, most=50)
    before_id = validate.optional_text("before", before, most=26)
    order_id = None if order is None else validate.uuid("orderId", order)
    async with call.tenant() as (stock, tenant):
        require_warehouse(tenant, warehouse)
        if sku is not None:
            await require_skus(stock, tenant, [sku])
        found = await stock.movements(
            tenant.id,
            sku=sku,
            warehouse=warehouse,
            reference_id=document,
            order_id=order_id,
            type=kind,
            since=start,
            until=end,
            before_id=before_id,
            limit=limit,
        )
    if len(found) >= limit:
        call.note(f"There may be more: --before {found[-1].id}")
    columns = ("when", "SKU", "warehouse", "type", "change", "left", "reference")
    rows = [
        (
            *(x.created_at, x.sku, x.warehouse, x.type),
            *(x.quantity, x.new_available, x.reference_id),
        )
        for x in found
    ]
    return Shown(found, (Table(columns, rows, "No movements"),))


@command(commands, "notifications", "notifications", "notifications --limit 5 --json")
async def notifications(call: Call, limit: Limit = 50) -> Shown:
    """List what the tenant's people were told, the newest first."""
    async with call.tenant() as (stock, tenant):
        found = await stock.notifications(tenant.id, limit=limit)
    rows = [(x.created_at, x.severity, x.message) for x in found]
    return Shown(found, (Table(("when", "severity", "message"), rows, "No notifications"),))
