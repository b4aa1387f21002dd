"""What becomes of reservations: extend, release, consume, expire; and how they stand."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cerniq_stock import validate
from cerniq_stock.cli.call import Call, accepted, command, group, require_skus, top_level
from cerniq_stock.cli.options import AllTenants, By, Key, Limit, Notes, ReservationId, amounts
from cerniq_stock.cli.output import Shown, Table, when
from cerniq_stock.cli.problems import RefusedError
from cerniq_stock.domain.messages import plain
from cerniq_stock.domain.model import ReleaseReason, ReservationStatus
from cerniq_stock.domain.outcomes import Refusal, Refused, ReleaseResult

if TYPE_CHECKING:
    from cerniq_stock.views import ReservationView

commands = top_level()
app = group("How reservations stand.")

PartLines = Annotated[
    list[str] | None,
    typer.Option("--line", metavar="SKU=QTY", help="Only so much of this product."),
]


@command(
    commands,
    "extend",
    "extend 01K7Z9V3J0Q4T5X6Y7Z8A9B0CD --hours 24",
)
async def extend(
    call: Call,
    reservation: ReservationId,
    hours: Annotated[int, typer.Option(metavar="N", help="So much longer, 1 to 168.")],
    key: Key = None,
    by: By = None,
) -> Shown:
    """Let a live reservation last longer.

    The tenant's rules say how often, and how long in all.
    """
    async with call.tenant() as (stock, tenant):
        answer = accepted(await stock.extend(tenant.id, reservation, hours, key=key, by=by))
    text = f"Reservation {answer.reservation_id} lasts until {when(answer.expires_at)}"
    return Shown(answer, (text,))


@command(
    commands,
    "release",
    "release 01K7Z9V3J0Q4T5X6Y7Z8A9B0CD",
    "release 01K7Z9V3J0Q4T5X6Y7Z8A9B0CD --line LAPTOP-14=1 --key cart-81-less",
    "release --negotiation 0b6a1a3e-4f0e-4c1f-9f57-0c7f0f5b7a11 --reason cancelled",
)
async def release(
    call: Call,
    reservation: Annotated[
        str | None, typer.Argument(metavar="RESERVATION", help="Reservation's id.")
    ] = None,
    negotiation: Annotated[
        str | None,
        typer.Option(metavar="UUID", help="Instead: every reservation of this negotiation."),
    ] = None,
    line: PartLines = None,
    reason: Annotated[
        ReleaseReason, typer.Option(case_sensitive=False, help="Why; CONSUMED sells instead.")
    ] = ReleaseReason.MANUAL,
    key: Key = None,
    by: By = None,
    notes: Notes = None,
) -> Shown:
    """Give back what is held, all of it or in part.

    What is over already is a success with a warning: nothing is held.
    """
    wanted = amounts(line)
    negotiation_id = None if negotiation is None else validate.uuid("negotiationId", negotiation)
    async with call.tenant() as (stock, tenant):
        answer = await stock.release(
            tenant.id,
            reservation_id=reservation,
            negotiation_id=negotiation_id,
            reason=reason,
            items=wanted,
            key=key,
            by=by,
            notes=notes,
        )
    return _released(answer, reservation)


@command(
    commands,
    "consume",
    "consume 01K7Z9V3J0Q4T5X6Y7Z8A9B0CD",
    "consume 01K7Z9V3J0Q4T5X6Y7Z8A9B0CD --line LAPTOP-14=2 --key delivery-311",
)
async def consume(
    call: Call,
    reservation: ReservationId,
    line: PartLines = None,
    key: Key = None,
    by: By = None,
    notes: Notes = None,
) -> Shown:
    """Sell what a live reservation holds, all of it or in part."""
    wanted = amounts(line)
    async with call.tenant() as (stock, tenant):
        answer = await stock.consume(
            tenant.id, reservation, items=wanted, key=key, by=by, notes=notes
        )
    return _released(answer, reservation)


def _released(answer: ReleaseResult | Refused, named: str | None) -> Shown:
    answer = accepted(answer)
    if named is not None and answer.previous_status == "NOT_FOUND":
        # the engine calls it a success, as nothing is held; here somebody typed a wrong id
        raise RefusedError(Refusal.RESERVATION_NOT_FOUND, f"Reservation {named} not found")
    total = plain(answer.total_released)
    head = f"{answer.reservation_id}: {answer.new_status}, {total} in all ({answer.reason})"
    rows = [(x.sku, x.released_quantity, x.available_after) for x in answer.items_released]
    table = Table(("SKU", "quantity", "available now"), rows, "Nothing was held")
    return Shown(answer, (head, table), answer.warnings)


@command(
    commands,
    "expire",
    "expire",
    "expire --all-tenants --json",
)
async def expire(call: Call, *, all_tenants: AllTenants = False) -> Shown:
    """Write down now what is past its time.

    It says how many reservations ended. What is past its time holds nothing anyway, to the
    instant; running processes do this by themselves.
    """
    if all_tenants:
        async with call.stock() as stock:
            ended = await stock.expire()
    else:
        async with call.tenant() as (stock, tenant):
            ended = await stock.expire(tenant.id)
    return Shown({"expired": ended}, (f"{ended} ended",))


@command(
    app,
    "list",
    "reservation list",
    "reservation list --status active --sku LAPTOP-14",
    "reservation list --negotiation 0b6a1a3e-4f0e-4c1f-9f57-0c7f0f5b7a11 --json",
)
async def list_reservations(
    call: Call,
    negotiation: Annotated[
        str | None, typer.Option(metavar="UUID", help="Only of this negotiation.")
    ] = None,
    status: Annotated[
        ReservationStatus | None, typer.Option(case_sensitive=False, help="Only in this state.")
    ] = None,
    sku: Annotated[
        str | None, typer.Option(metavar="SKU", help="Only what holds this product.")
    ] = None,
    after: Annotated[
        str | None, typer.Option(metavar="RESERVATION", help="Go on after this one.")
    ] = None,
    limit: Limit = 50,
) -> Shown:
    """List reservations, the newest first."""
    negotiation_id = None if negotiation is None else validate.uuid("negotiationId", negotiation)
    after_id = validate.optional_text("after", after, most=26)
    async with call.tenant() as (stock, tenant):
        if sku is not None:
            await require_skus(stock, tenant, [sku])
        found = await stock.reservations(
            tenant.id,
            negotiation_id=negotiation_id,
            status=status,
            sku=sku,
            after_id=after_id,
            limit=limit,
        )
    if len(found) >= limit:
        call.note(f"There may be more: --after {found[-1].id}")
    columns = ("reservation", "status", "type", "priority", "held", "until", "by")
    rows = [
        (x.id, x.status, x.type, x.priority, x.total_held, x.expires_at or "never", x.requested_by)
        for x in found
    ]
    return Shown(found, (Table(columns, rows, "No reservations"),))


@command(
    app,
    "show",
    "reservation show 01K7Z9V3J0Q4T5X6Y7Z8A9B0CD",
)
async def show(call: Call, reservation: ReservationId) -> Shown:
    """Show a reservation with its lines."""
    id_ = validate.text("reservationId", reservation, most=26)
    async with call.tenant() as (stock, tenant):
        found = await stock.reservation(tenant.id, id_)
    facts = Table(("", ""), [(name, value) for name, value in _facts(found) if value is not None])
    columns = ("SKU", "warehouse", "reserved", "held", "consumed", "released")
    rows = [(x.sku, x.warehouse, x.reserved, x.held, x.consumed, x.released) for x in found.lines]
    warnings = tuple(error.message for error in found.errors)
    return Shown(found, (facts, "", Table(columns, rows, "It holds no lines")), warnings)


def _facts(found: "ReservationView") -> list[tuple[str, Any]]:
    return [
        ("reservation", found.id),
        ("status", found.status),
        ("type", f"{found.type} {found.priority}"),
        ("negotiation", found.negotiation_id),
        ("order", found.order_id),
        ("key", found.reservation_key),
        ("requested by", found.requested_by),
        ("channel", found.channel),
        ("notes", found.notes),
        ("made", found.created_at),
        ("until", found.expires_at or "never"),
        ("extended", f"{found.extensions} times" if found.extensions else None),
        ("ended", found.released_at),
        ("reason", found.release_reason),
        ("ended by", found.released_by),
        ("end notes", found.release_notes),
    ]
