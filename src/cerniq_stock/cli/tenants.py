"""`cerniq-stock tenant`: the merchants."""

from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from cerniq_stock import validate
from cerniq_stock.cli.call import Call, command, group
from cerniq_stock.cli.output import Shown, Table
from cerniq_stock.errors import InvalidInputError

if TYPE_CHECKING:
    from cerniq_stock.views import TenantView

app = group("Merchants: each sees and moves its own stock only.")

MOST = 32_000


@command(
    app,
    "create",
    "tenant create 'Office Supplies Wholesale'",
    "tenant create 'Engros Birotică' --language ro --warehouses NORD,SUD --max-extensions 2",
)
async def create(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people call it.")],
    id_: Annotated[
        str | None, typer.Option("--id", metavar="UUID", help="Its id; without it a new one.")
    ] = None,
    language: Annotated[
        str, typer.Option(metavar="ro|en", help="Language of its notifications.")
    ] = "ro",
    warehouses: Annotated[
        str, typer.Option(metavar="A,B", help="In the order in which stock is taken.")
    ] = "MAIN",
    max_extensions: Annotated[
        int, typer.Option(metavar="N", help="How often a reservation may be extended.")
    ] = 3,
    max_hours: Annotated[
        int, typer.Option(metavar="N", help="How long a reservation may last in all.")
    ] = 336,
) -> Shown:
    """Make a tenant and print its id."""
    tenant_id = uuid4() if id_ is None else validate.uuid("tenantId", id_)
    _check_limit("maxExtensions", max_extensions, least=0)
    _check_limit("maxHours", max_hours, least=1)
    names = tuple(part.strip() for part in warehouses.split(","))
    async with call.stock() as stock:
        from cerniq_stock.store.catalog import NewTenant  # noqa: PLC0415 - it brings asyncpg

        made = await stock.create_tenant(
            NewTenant(name, tenant_id, language.lower(), names, max_extensions, max_hours)
        )
    return Shown(made, (str(made.id),))


def _check_limit(field: str, value: int, *, least: int) -> None:
    if not least <= value <= MOST:
        raise InvalidInputError(field, f"{field} must be from {least} to {MOST}: {value}")


@command(app, "list", "tenant list", "tenant list --json")
async def list_tenants(call: Call) -> Shown:
    """List the tenants."""
    async with call.stock() as stock:
        tenants = await stock.tenants()
    rows = [(x.id, x.name, x.language, x.warehouses, x.created_at) for x in tenants]
    table = Table(("id", "name", "", "warehouses", "made"), rows, "No tenants")
    return Shown(tenants, (table,))


@command(
    app,
    "show",
    "tenant show",
    "tenant show 5d0c2f0e-8f4b-4a53-9a44-6a1f3a0e9b21 --json",
)
async def show(
    call: Call,
    which: Annotated[
        str | None, typer.Argument(metavar="UUID", help="Without it the tenant worked for.")
    ] = None,
) -> Shown:
    """Show a tenant and its rules."""
    call.options.update({"tenant": which})
    async with call.tenant() as (_, found):
        return Shown(found, (_facts(found),))


def _facts(found: "TenantView") -> Table:
    facts = [
        ("id", found.id),
        ("name", found.name),
        ("language", found.language),
        ("warehouses", found.warehouses),
        ("extensions", f"at most {found.max_extensions}"),
        ("reservations", f"at most {found.max_reservation_h} hours in all"),
        ("made", found.created_at),
    ]
    return Table(("", ""), facts)
