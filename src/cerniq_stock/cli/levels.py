"""`cerniq-stock stock`: what is on the shelf."""

from typing import Annotated

import typer

from cerniq_stock.cli.call import Call, accepted, command, group, require_skus
from cerniq_stock.cli.options import (
    AfterSku,
    Amount,
    By,
    Key,
    Limit,
    Notes,
    Reference,
    Search,
    Sku,
    Warehouse,
    page,
    signed,
)
from cerniq_stock.cli.output import Part, Shown, Table
from cerniq_stock.domain.outcomes import LevelResult, Refused

app = group("Goods on the shelf: look, receive, correct, count.")


@command(
    app,
    "show",
    "stock show",
    "stock show LAPTOP-14 MOUSE-USB",
    "stock show --search laptop --json",
)
async def show(
    call: Call,
    skus: Annotated[
        list[str] | None, typer.Argument(metavar="SKU", help="Only these products.")
    ] = None,
    search: Search = None,
    after: AfterSku = None,
    limit: Limit = 100,
) -> Shown:
    """Show stock by product and warehouse, as it is at this moment."""
    wanted = page(search, after, limit)
    async with call.tenant() as (stock, tenant):
        if skus:
            await require_skus(stock, tenant, skus)
        levels = await stock.levels(tenant.id, skus=skus or None, **wanted)
    if len({level.sku for level in levels}) >= limit:
        call.note(f"There may be more: --after {levels[-1].sku}")
    rows = [
        (x.sku, x.name, x.warehouse, x.total, x.reserved, x.blocked, x.available, x.unit)
        for x in levels
    ]
    columns = ("SKU", "name", "warehouse", "total", "reserved", "blocked", "available", "unit")
    return Shown(levels, (Table(columns, rows, "No products"),))


@command(
    app,
    "receive",
    "stock receive LAPTOP-14 25 --reference DN-1042",
    "stock receive FLOUR-000 12.5 --warehouse NORTH --by warehouse --key DN-1043-1",
    negative=True,
)
async def receive(
    call: Call,
    sku: Sku,
    quantity: Amount,
    warehouse: Warehouse = None,
    reference: Reference = None,
    key: Key = None,
    by: By = None,
    notes: Notes = None,
) -> Shown:
    """Book goods that came in."""
    async with call.tenant() as (stock, tenant):
        answer = await stock.receive(
            tenant.id,
            sku,
            quantity,
            warehouse=warehouse,
            reference=reference,
            key=key,
            by=by,
            notes=notes,
        )
    return _level(answer)


@command(
    app,
    "return",
    "stock return LAPTOP-14 1 --reference RMA-77",
    negative=True,
)
async def take_back(
    call: Call,
    sku: Sku,
    quantity: Amount,
    warehouse: Warehouse = None,
    reference: Reference = None,
    key: Key = None,
    by: By = None,
    notes: Notes = None,
) -> Shown:
    """Book sold goods that came back and can be promised again."""
    async with call.tenant() as (stock, tenant):
        answer = await stock.take_back(
            tenant.id,
            sku,
            quantity,
            warehouse=warehouse,
            reference=reference,
            key=key,
            by=by,
            notes=notes,
        )
    return _level(answer)


@command(
    app,
    "adjust",
    "stock adjust LAPTOP-14 --total -1 --notes 'broken in the store'",
    "stock adjust LAPTOP-14 --blocked +5 --warehouse NORTH --by 'store manager'",
)
async def adjust(
    call: Call,
    sku: Sku,
    total: Annotated[
        str | None, typer.Option(metavar="±N", help="So much more or less is there.")
    ] = None,
    blocked: Annotated[
        str | None, typer.Option(metavar="±N", help="So much more or less cannot be promised.")
    ] = None,
    warehouse: Warehouse = None,
    key: Key = None,
    by: By = None,
    notes: Notes = None,
) -> Shown:
    """Correct a level by differences.

    SOFT reservations give way where less is left than they hold; HARD ones refuse.
    """
    async with call.tenant() as (stock, tenant):
        answer = await stock.adjust(
            tenant.id,
            sku,
            total=signed("total", total),
            blocked=signed("blocked", blocked),
            warehouse=warehouse,
            key=key,
            by=by,
            notes=notes,
        )
    return _level(answer)


@command(
    app,
    "count",
    "stock count LAPTOP-14 24",
    "stock count LAPTOP-14 24 --warehouse NORTH --by 'store keeper' --notes 'yearly stocktake'",
    negative=True,
)
async def count(
    call: Call,
    sku: Sku,
    quantity: Amount,
    warehouse: Warehouse = None,
    key: Key = None,
    by: By = None,
    notes: Notes = None,
) -> Shown:
    """Book a stocktake: what is really there, held and blocked goods included."""
    async with call.tenant() as (stock, tenant):
        answer = await stock.count(
            tenant.id, sku, quantity, warehouse=warehouse, key=key, by=by, notes=notes
        )
    return _level(answer)


def _level(answer: LevelResult | Refused) -> Shown:
    level = accepted(answer)
    columns = ("SKU", "warehouse", "total", "reserved", "blocked", "available")
    row = (
        *(level.sku, level.warehouse),
        *(level.total, level.reserved, level.blocked, level.available),
    )
    parts: tuple[Part, ...] = (Table(columns, [row]),)
    warnings = tuple(f"Reservation {id_} had to give way" for id_ in level.displaced)
    return Shown(level, parts, warnings)
