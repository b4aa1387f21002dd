"""`cerniq-stock reserve` and `replace`."""

from typing import Annotated

import typer

from cerniq_stock import validate
from cerniq_stock.cli.call import Call, command, top_level
from cerniq_stock.cli.options import By, Key, Notes, ReservationId, items
from cerniq_stock.cli.output import Shown, Table, when
from cerniq_stock.cli.problems import RefusedError
from cerniq_stock.domain.model import Priority, ReservationType
from cerniq_stock.domain.outcomes import Refusal, ReserveResult

commands = top_level()

TYPE_HELP = "HARD takes what it lacks from SOFT reservations, never the other way round."
PRIORITY_HELP = "Which SOFT reservations give way first: the lower ones."
AS_BEFORE = " Without it as before."

Lines = Annotated[
    list[str],
    typer.Option(
        "--line",
        metavar="SKU=QTY[UNIT]",
        help="What to hold; repeatable; the unit, where given, must be the product's.",
    ),
]
Hours = Annotated[int, typer.Option(metavar="N", help="How long to hold it, 1 to 168.")]
Channel = Annotated[str | None, typer.Option(metavar="TEXT", help="Where the wish came from.")]


@command(
    commands,
    "reserve",
    "reserve --negotiation 0b6a1a3e-4f0e-4c1f-9f57-0c7f0f5b7a11 --line LAPTOP-14=3",
    "reserve --negotiation $N --line FLOUR-000=2.5KG --line MOUSE-USB=10 --type hard --hours 24",
    "reserve --negotiation $N --line LAPTOP-14=3 --key cart-81 --by 'sales agent' --json",
)
async def reserve(
    call: Call,
    negotiation: Annotated[str, typer.Option(metavar="UUID", help="Negotiation to hold it for.")],
    line: Lines,
    kind: Annotated[
        ReservationType, typer.Option("--type", case_sensitive=False, help=TYPE_HELP)
    ] = ReservationType.SOFT,
    priority: Annotated[
        Priority, typer.Option(case_sensitive=False, help=PRIORITY_HELP)
    ] = Priority.NORMAL,
    hours: Hours = 72,
    key: Key = None,
    by: By = None,
    channel: Channel = None,
    notes: Notes = None,
) -> Shown:
    """Hold goods for a negotiation.

    What is short is held in part: a success, with a warning. Nothing held at all is none.
    """
    wanted = items(line)
    negotiation_id = validate.uuid("negotiationId", negotiation)
    async with call.tenant() as (stock, tenant):
        answer = await stock.reserve(
            tenant.id,
            negotiation_id,
            wanted,
            type=kind,
            priority=priority,
            expires_in_h=hours,
            key=key,
            requested_by=by,
            channel=channel,
            notes=notes,
        )
    return _reserved(answer)


@command(
    commands,
    "replace",
    "replace 01K7Z9V3J0Q4T5X6Y7Z8A9B0CD --line LAPTOP-14=5",
    "replace 01K7Z9V3J0Q4T5X6Y7Z8A9B0CD --line LAPTOP-14=5 --line MOUSE-USB=5 --key cart-81-2",
)
async def replace(
    call: Call,
    reservation: ReservationId,
    line: Lines,
    negotiation: Annotated[
        str | None, typer.Option(metavar="UUID", help="Negotiation of the reservation.")
    ] = None,
    kind: Annotated[
        ReservationType | None,
        typer.Option("--type", case_sensitive=False, help=TYPE_HELP + AS_BEFORE),
    ] = None,
    priority: Annotated[
        Priority | None, typer.Option(case_sensitive=False, help=PRIORITY_HELP + AS_BEFORE)
    ] = None,
    hours: Hours = 72,
    key: Key = None,
    by: By = None,
    channel: Channel = None,
    notes: Notes = None,
) -> Shown:
    """Hold other goods or amounts instead, in one step.

    The new reservation takes over what the old one holds, so that nobody can come in between.
    Where the new one could hold nothing at all, the old one stays as it was.
    """
    wanted = items(line)
    old_id = validate.text("reservationId", reservation, most=26)
    negotiation_id = None if negotiation is None else validate.uuid("negotiationId", negotiation)
    async with call.tenant() as (stock, tenant):
        old = await stock.reservation(tenant.id, old_id)
        negotiation_id = negotiation_id or old.negotiation_id
        if negotiation_id is None:
            raise RefusedError(Refusal.ORDER_HOLDS, f"Reservation {old_id} is of an order")
        answer = await stock.reserve(
            tenant.id,
            negotiation_id,
            wanted,
            type=kind or old.type,
            priority=priority or old.priority,
            expires_in_h=hours,
            replaces=old_id,
            key=key,
            requested_by=by,
            channel=channel,
            notes=notes,
        )
    return _reserved(answer)


def _reserved(answer: ReserveResult) -> Shown:
    if not answer.success:
        raise _nothing_reserved(answer)
    head = f"Reservation {answer.reservation_id} {answer.status}, until {when(answer.expires_at)}"
    columns = ("SKU", "requested", "reserved", "left", "status", "restock")
    rows = [
        (
            *(x.sku, x.requested_quantity, x.reserved_quantity, x.available_after),
            *(x.status, x.backorder_date),
        )
        for x in answer.items
    ]
    refused = tuple(error.message for error in answer.errors)
    return Shown(answer, (head, Table(columns, rows)), (*answer.warnings, *refused))


def _nothing_reserved(answer: ReserveResult) -> RefusedError:
    """The reason is the first that is more than an unknown SKU, if there is one."""
    codes = [error.code for error in answer.errors]
    code = next((code for code in codes if code is not Refusal.PRODUCT_NOT_FOUND), codes[0])
    sentences = [error.message for error in answer.errors]
    message = "; ".join(dict.fromkeys([*sentences, *answer.warnings]))
    # a command that was refused as a whole has nothing to say line by line
    return RefusedError(code, message, answer if answer.items else None)
