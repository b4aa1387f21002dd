"""What happens to what is held: extend, release, consume (§3), and negotiations that end."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from cerniq_stock.domain.commands import Extend, Quantity, Release, SetNegotiation
from cerniq_stock.domain.messages import plain
from cerniq_stock.domain.model import (
    ENDS_NEGOTIATION,
    ZERO,
    ReleaseReason,
    Reservation,
    ReservationStatus,
)
from cerniq_stock.domain.outcomes import (
    ExtendResult,
    NegotiationResult,
    Refusal,
    Refused,
    ReleasedItem,
    ReleaseResult,
)
from cerniq_stock.domain.reserve import first_refusal, over_refusal, precision_refusal
from cerniq_stock.domain.work import Work

OVER = "Reservation was already in terminal state"
NOT_FOUND = "Reservation not found - may have been previously released"

Amounts = dict[tuple[int, str], Decimal]


def extend(work: Work, command: Extend) -> ExtendResult | Refused:
    """Move the expiry, at most so often and so far as the tenant allows."""
    reservation = work.reservations.get(command.reservation_id)
    if reservation is None:
        return _not_found(command.reservation_id)
    over = over_refusal(work, reservation)
    if over is not None:
        return Refused(*over)
    if reservation.order_id is not None:
        return _of_order(reservation)
    tenant = work.tenant
    if reservation.extensions >= tenant.max_extensions:
        return Refused(
            Refusal.EXTENSION_LIMIT,
            f"Reservation {reservation.id} was extended {reservation.extensions} times,"
            f" the most this tenant allows",
        )
    expires_at = reservation.expires_at + timedelta(hours=command.hours)
    if expires_at - reservation.created_at > timedelta(hours=tenant.max_reservation_h):
        return Refused(
            Refusal.DURATION_LIMIT,
            f"Reservation {reservation.id} may last {tenant.max_reservation_h} hours in all",
        )
    fresh = reservation._replace(expires_at=expires_at, extensions=reservation.extensions + 1)
    work.reservations[fresh.id] = fresh
    work.changed_reservations.add(fresh.id)
    return ExtendResult(fresh.id, expires_at, fresh.extensions)


def release(work: Work, command: Release) -> ReleaseResult | Refused:
    """Give back or sell, whole or in part, by reservation or by negotiation."""
    if command.negotiation_id is not None:
        return _release_negotiation(work, command, command.negotiation_id)
    assert command.reservation_id is not None
    reservation = work.reservations.get(command.reservation_id)
    sells = command.reason is ReleaseReason.CONSUMED
    if reservation is None:
        return _not_found(command.reservation_id) if sells else _nothing(work, command)
    if not reservation.live(work.now):
        return _release_over(work, command, reservation)
    if reservation.order_id is not None:
        return _of_order(reservation)
    return _release_live(work, command, [reservation])


def _of_order(reservation: Reservation) -> Refused:
    return Refused(
        Refusal.ORDER_HOLDS, f"Reservation {reservation.id} is of order {reservation.order_id}"
    )


def _not_found(reservation_id: str) -> Refused:
    return Refused(Refusal.RESERVATION_NOT_FOUND, f"Reservation {reservation_id} not found")


def _nothing(work: Work, command: Release) -> ReleaseResult:
    """Nothing is held, which is what a release wants: success (§3.5)."""
    return ReleaseResult(
        success=True,
        reservation_id=command.reservation_id or "unknown",
        previous_status="NOT_FOUND",
        new_status=ReservationStatus.RELEASED,
        items_released=(),
        total_released=ZERO,
        reason=command.reason,
        released_at=work.now,
        warnings=(NOT_FOUND,),
    )


def _release_over(
    work: Work, command: Release, reservation: Reservation
) -> ReleaseResult | Refused:
    """Answer for a reservation that ended or expired.

    Selling from it is refused; only that all of it be sold is true of one that was sold.
    """
    previous = reservation.status
    wanted = ReservationStatus.CONSUMED
    if command.reason is ReleaseReason.CONSUMED and (previous != wanted or command.items):
        over = over_refusal(work, reservation)
        assert over is not None
        return Refused(*over)
    items: tuple[ReleasedItem, ...] = ()
    if previous == ReservationStatus.ACTIVE:
        held = _everything(reservation)
        reservation = work.expire(reservation)
        items = _released_items(work, [(reservation, held)])
    return ReleaseResult(
        success=True,
        reservation_id=reservation.id,
        previous_status=previous,
        new_status=reservation.status,
        items_released=items,
        total_released=sum((item.released_quantity for item in items), ZERO),
        reason=command.reason,
        released_at=work.now,
        warnings=() if items else (OVER,),
    )


def _live_refusal(
    work: Work, command: Release, live: Sequence[Reservation], wanted: Mapping[str, Decimal]
) -> Refused | None:
    """Why what is live cannot be released or sold as asked. Selling takes all of it or nothing."""
    if command.reason is ReleaseReason.EXPIRED:
        until = max(reservation.expires_at for reservation in live).isoformat()
        return Refused(Refusal.NOT_EXPIRED, f"Reservation {_ids(live)} lasts until {until}")
    refusals = [
        precision_refusal(work.products[sku], quantity)
        for sku, quantity in wanted.items()
        if sku in work.products
    ]
    if command.reason is ReleaseReason.CONSUMED:
        refusals += [_sale_refusal(live, sku, quantity) for sku, quantity in wanted.items()]
    first = first_refusal(refusals)
    return Refused(*first) if first is not None else None


def _sale_refusal(
    live: Sequence[Reservation], sku: str, quantity: Decimal
) -> tuple[Refusal, str] | None:
    held = sum((line.held for r in live for line in r.lines if line.sku == sku), ZERO)
    if not held:
        return Refusal.NOT_RESERVED, f"Reservation {_ids(live)} does not hold {sku}"
    if quantity > held:
        message = f"Reservation {_ids(live)} holds {plain(held)} of {sku}, not {plain(quantity)}"
        return Refusal.EXCEEDS_RESERVED, message
    return None


def _ids(reservations: Sequence[Reservation]) -> str:
    return ",".join(reservation.id for reservation in reservations)


def _by_sku(items: Sequence[Quantity]) -> dict[str, Decimal]:
    amounts: dict[str, Decimal] = {}
    for item in items:
        amounts[item.sku] = amounts.get(item.sku, ZERO) + item.quantity
    return amounts


def _release_negotiation(
    work: Work, command: Release, negotiation_id: UUID
) -> ReleaseResult | Refused:
    live = [r for r in work.reservations.values() if r.negotiation_id == negotiation_id]
    live = [r for r in live if r.live(work.now)]
    live.sort(key=lambda reservation: reservation.id)
    if live:
        return _release_live(work, command, live)
    if command.reason is ReleaseReason.CONSUMED:
        return Refused(Refusal.RESERVATION_NOT_FOUND, f"Negotiation {negotiation_id} holds nothing")
    return _nothing(work, command)


def _release_live(work: Work, command: Release, live: list[Reservation]) -> ReleaseResult | Refused:
    wanted = _by_sku(command.items) if command.items is not None else None
    refused = _live_refusal(work, command, live, wanted or {})
    if refused is not None:
        return refused
    warnings: list[str] = []
    done: list[tuple[Reservation, Amounts]] = []
    for held in live:
        amounts = _everything(held) if wanted is None else _part(held, wanted)
        after = (
            work.give_back(held, amounts, command.reason, notes=command.notes, by=command.by)
            if amounts
            else held
        )
        done.append((after, amounts))
    for sku, left in (wanted or {}).items():
        if left:
            warnings.append(f"{plain(left)} of {sku} was not reserved and could not be released")
    items = _released_items(work, done)
    return ReleaseResult(
        success=True,
        reservation_id=_ids(live),
        previous_status=ReservationStatus.ACTIVE,
        new_status=_new_status([reservation for reservation, _ in done]),
        items_released=items,
        total_released=sum((item.released_quantity for item in items), ZERO),
        reason=command.reason,
        released_at=work.now,
        warnings=tuple(warnings),
    )


def _new_status(after: list[Reservation]) -> str:
    if any(reservation.status == ReservationStatus.ACTIVE for reservation in after):
        return "PARTIAL"
    return after[-1].status


def _everything(reservation: Reservation) -> Amounts:
    return {(line.line_no, line.warehouse): line.held for line in reservation.lines if line.held}


def _part(reservation: Reservation, wanted: dict[str, Decimal]) -> Amounts:
    """Take what is wanted from the lines in their order; `wanted` keeps what is still missing."""
    amounts: Amounts = {}
    for line in reservation.lines:
        amount = min(line.held, wanted.get(line.sku, ZERO))
        if amount > 0:
            amounts[line.line_no, line.warehouse] = amount
            wanted[line.sku] -= amount
    return amounts


def _released_items(
    work: Work, done: list[tuple[Reservation, Amounts]]
) -> tuple[ReleasedItem, ...]:
    """One entry per SKU, with what is available once all is done."""
    totals: dict[tuple[str, UUID], Decimal] = {}
    for reservation, amounts in done:
        for line in reservation.lines:
            amount = amounts.get((line.line_no, line.warehouse), ZERO)
            if amount:
                product = (line.sku, line.product_id)
                totals[product] = totals.get(product, ZERO) + amount
    return tuple(
        ReleasedItem(sku, product_id, amount, work.available(product_id))
        for (sku, product_id), amount in totals.items()
    )


def set_negotiation(work: Work, command: SetNegotiation) -> NegotiationResult:
    """Record the state; a negotiation that ends gives back all it holds, in the same step."""
    previous = work.negotiations.get(command.negotiation_id)
    work.negotiations[command.negotiation_id] = command.state
    work.changed_negotiations.add(command.negotiation_id)
    released: list[str] = []
    if command.state in ENDS_NEGOTIATION:
        for reservation in list(work.reservations.values()):
            if reservation.negotiation_id == command.negotiation_id and reservation.live(work.now):
                work.give_back(
                    reservation, _everything(reservation), ReleaseReason.DEAD, by=command.by
                )
                released.append(reservation.id)
    return NegotiationResult(
        command.negotiation_id, previous, command.state, tuple(sorted(released))
    )
