"""`cerniq-stock erp subscribe`: ERPs that tell of changes by themselves."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cerniq_stock.cli.call import Call, command, top_level
from cerniq_stock.cli.options import System
from cerniq_stock.cli.output import Shown, Table

if TYPE_CHECKING:
    from cerniq_stock.views import SubscriptionView

commands = top_level()


@command(
    commands,
    "subscribe",
    "erp subscribe MICROSOFT_BC --url https://platform.example/hooks/bc",
    "erp subscribe OBLIO --url - < address.txt",
    "erp subscribe OBLIO",
)
async def subscribe(
    call: Call,
    system: System,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where it tells: https; - is stdin, for a secret in it."),
    ] = None,
) -> Shown:
    """Let an ERP tell of changes by itself.

    At an address of yours; without --url it is shown what there is. The address must answer the
    ERP's handshake while this runs (docs/erp.md, Webhooks); nothing here calls it. It is stored
    encrypted, and renewed by the workers' schedules before it ends. MICROSOFT_BC and OBLIO can
    be told so; of the others somebody enters the address at the ERP.
    """
    from cerniq_stock.erp.subscriptions import check_system  # noqa: PLC0415 - it brings a client

    check_system(system)
    given = sys.stdin.read().strip() if url == "-" else url
    async with call.syncs() as (syncs, tenant):
        if given is None:
            view = await syncs.subscriptions.get(tenant.id, system)
        else:
            view = await syncs.subscriptions.subscribe(tenant.id, system, given)
    return Shown(view, (Table(("", ""), _facts(view)),))


@command(commands, "unsubscribe", "erp unsubscribe OBLIO")
async def unsubscribe(call: Call, system: System) -> Shown:
    """Let an ERP tell of nothing any more."""
    async with call.syncs() as (syncs, tenant):
        await syncs.subscriptions.unsubscribe(tenant.id, system)
    document = {"erpSystem": system.value, "unsubscribed": True}
    return Shown(document, (f"{system} tells of nothing any more",))


def _facts(view: "SubscriptionView") -> list[tuple[str, Any]]:
    return [
        ("system", view.erp_system),
        ("tells", view.host),
        ("subscription", view.subscription_id),
        ("made", view.made_at),
        ("renewed", view.renewed_at),
        ("renewed next", view.renew_at),
        ("ends", view.expires_at or "never by itself"),
    ]
