"""`cerniq-stock erp push` and `erp pushes`: sales told to an ERP, and what became of each."""

from typing import TYPE_CHECKING, Annotated

import typer

from cerniq_stock import validate
from cerniq_stock.cli.call import Call, command, top_level
from cerniq_stock.cli.options import Limit
from cerniq_stock.cli.output import Shown, Table
from cerniq_stock.erp.rows import SystemName
from cerniq_stock.errors import InvalidInputError

if TYPE_CHECKING:
    from cerniq_stock.sync.push import PushResult

commands = top_level()

System = Annotated[
    SystemName, typer.Argument(metavar="SYSTEM", case_sensitive=False, help="Whose ERP it is.")
]

ALL = "all"


@command(
    commands,
    "push",
    "erp push SAP_B1",
    "erp push SAP_B1 --again 01K7Z9V3J0Q4T5X6Y7Z8A9B0CD",
)
async def push(
    call: Call,
    system: System,
    again: Annotated[
        list[str] | None,
        typer.Option(metavar="MOVEMENT", help="One that was refused, or all; repeatable."),
    ] = None,
) -> Shown:
    """Tell an ERP now what was sold, each sale once, where the option push is on.

    What the ERP refuses is listed by `erp pushes` and sent again with --again only; what it does
    not answer waits for the next time.
    """
    from cerniq_stock.erp.connection import may_book  # noqa: PLC0415 - it brings a client

    if not may_book(system):
        raise InvalidInputError("push", f"{system} takes no sales: there is nothing to push")
    wanted = None
    if again and ALL not in again:
        wanted = [validate.made_id("movement", movement) for movement in again]
    async with call.syncs() as (syncs, tenant):
        if again:
            await syncs.pushes.again(tenant.id, system, wanted)
        result = await syncs.pushes.run(tenant.id, system)
    return _result(result)


@command(commands, "pushes", "erp pushes SAP_B1", "erp pushes SAP_B1 --refused")
async def pushes(
    call: Call,
    system: System,
    refused: Annotated[
        bool, typer.Option("--refused", help="Only those that the ERP refused.")
    ] = False,
    limit: Limit = 50,
) -> Shown:
    """List sales that an ERP is told of, the newest first: sending, booked or refused."""
    state = "REFUSED" if refused else None
    async with call.syncs() as (syncs, tenant):
        found = await syncs.pushes.listed(tenant.id, system, state=state, limit=limit)
    columns = ("movement", "SKU", "warehouse", "sold", "when", "state", "document", "tries", "why")
    rows = [
        (
            *(x.movement_id, x.sku, x.warehouse, x.quantity, x.sold_at, x.state),
            *(x.document, x.attempts, x.error),
        )
        for x in found
    ]
    return Shown(found, (Table(columns, rows, "No sales"),))


def _result(result: "PushResult") -> Shown:
    head = (
        f"{result.erp_system}: {result.booked:,} booked, {result.refused:,} refused,"
        f" {result.waiting:,} waiting"
    )
    told = [f"{x.movement_id} {x.sku} {x.code}: {x.message}" for x in result.errors[:20]]
    notes = ("It has ended before all was sent; the next push goes on",) if result.more else ()
    return Shown(result, (head, *told), notes)
