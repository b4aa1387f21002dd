"""`cerniq-stock product`: the catalogue."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cerniq_stock.cli.call import Call, command, group
from cerniq_stock.cli.options import AfterSku, Limit, Search, page
from cerniq_stock.cli.output import Shown, Table
from cerniq_stock.cli.product_file import Row, read_products
from cerniq_stock.errors import InvalidInputError

if TYPE_CHECKING:
    from cerniq_stock.service import Stock
    from cerniq_stock.views import TenantView

app = group("The catalogue: import and list products.")


@command(
    app,
    "import",
    "product import products.csv",
    "product import products.csv --dry-run",
    "product import - < products.csv",
)
async def import_(
    call: Call,
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV in UTF-8; - is stdin.")],
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and compare only; write nothing.")
    ] = False,
) -> Shown:
    """Insert or update products by SKU, all of them or none.

    The first line names the columns: sku and name, and as wanted unit, status, price, currency,
    reorder_point, reorder_quantity, expected_restock_date.

    An empty cell, or a column that is left out, stands for the default, also where the product
    exists: importing again without a column sets it back in every product of the file. What shall
    stay must be in the file. The defaults are BUC, ACTIVE, no price, RON, 10, 100 and no date. A
    unit does not change once stock was moved in it: all is refused then. Products that are not in
    the file, and all stock, stay as they are.
    """
    rows = read_products(file)
    call.note(f"{len(rows)} products read")
    async with call.tenant() as (stock, tenant):
        with call.progress() as report:
            report("writing products" if not dry_run else "comparing products", 0, len(rows))
            write = _compare if dry_run else _write
            made = await write(stock, tenant, rows)
    document = {
        "products": len(rows),
        "created": made,
        "updated": len(rows) - made,
        "dryRun": dry_run,
    }
    would = "would be " if dry_run else ""
    text = f"{made} {would}created, {len(rows) - made} {would}updated"
    return Shown(document, (text,))


async def _write(stock: "Stock", tenant: "TenantView", rows: list[Row]) -> int:
    from cerniq_stock.store.catalog import NewProduct  # noqa: PLC0415 - it brings asyncpg

    return await stock.import_products(tenant.id, [NewProduct(**row.values) for row in rows])


async def _compare(stock: "Stock", tenant: "TenantView", rows: list[Row]) -> int:
    """Find out what writing would do. A unit that may not change is refused here too."""
    known = await stock.availability(tenant.id, [row.values["sku"] for row in rows])
    for row in rows:
        there: Any = known.get(row.values["sku"])
        unit = row.values.get("unit", "BUC")
        if there is not None and there.unit != unit and await _was_moved(stock, tenant, there.sku):
            raise InvalidInputError(
                "unit", f"The unit of {there.sku} stays {there.unit}: its stock was moved in it"
            )
    return len(rows) - len(known)


async def _was_moved(stock: "Stock", tenant: "TenantView", sku: str) -> bool:
    return bool(await stock.movements(tenant.id, sku=sku, limit=1))


@command(app, "list", "product list", "product list --search laptop --json")
async def list_products(
    call: Call,
    search: Search = None,
    after: AfterSku = None,
    limit: Limit = 100,
) -> Shown:
    """List products by SKU, with their figures over all warehouses."""
    wanted = page(search, after, limit)
    async with call.tenant() as (stock, tenant):
        found = await stock.products(tenant.id, **wanted)
    if len(found) >= limit:
        call.note(f"There may be more: --after {found[-1].sku}")
    columns = ("SKU", "name", "available", "unit", "total", "price", "", "status")
    rows = [
        (
            *(x.sku, x.name, x.stock_available, x.unit, x.stock_total),
            *(x.price, x.currency if x.price is not None else None, x.status),
        )
        for x in found
    ]
    return Shown(found, (Table(columns, rows, "No products"),))
