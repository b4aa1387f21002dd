"""Reserve and replace (§2): what can be held, from where, and who gives way."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from uuid import UUID

from cerniq_stock.domain.commands import Item, Reserve
from cerniq_stock.domain.messages import plain
from cerniq_stock.domain.model import (
    DECIMAL_PLACES,
    MAY_RESERVE,
    ZERO,
    Level,
    Line,
    MovementType,
    Product,
    ProductStatus,
    ReleaseReason,
    Reservation,
    ReservationStatus,
    ReservationType,
)
from cerniq_stock.domain.outcomes import (
    ItemResult,
    LineStatus,
    Refusal,
    ReservationError,
    ReserveResult,
)
from cerniq_stock.domain.work import Work, held_by

Refused = tuple[Refusal, str]
PRECEDENCE = {refusal: place for place, refusal in enumerate(Refusal)}

FROM_ONE = range(1, 32_768)
REPLAYED = "idempotent: the key was used before; this is the first answer"


def reserve(work: Work, command: Reserve) -> ReserveResult:
    """Answer one reservation and change the working copy accordingly.

    The order of the checks is the precedence documented in `outcomes.Refusal`.
    """
    told = work.reserve_answers.get(command.key)
    if told is not None:
        return _replay(work, command, *told)
    refused = _refusal(work, command)
    if refused is not None:
        return _refused(work, command, *refused)
    before: dict[UUID, Decimal] = {}
    if command.replaces is not None:
        before = _release_replaced(work, work.reservations[command.replaces], command)
    return hold(work, command, before)


def _replay(
    work: Work, command: Reserve, fingerprint: bytes, answer: ReserveResult
) -> ReserveResult:
    if fingerprint != command.fingerprint:
        return _refused(
            work,
            command,
            Refusal.RESERVATION_EXISTS,
            f"Key {command.key} was used before with another payload",
        )
    return replace(answer, warnings=(*answer.warnings, REPLAYED))


def _refused(work: Work, command: Reserve, code: Refusal, message: str) -> ReserveResult:
    return ReserveResult(
        success=False,
        reservation_id=None,
        reservation_key=command.key,
        status="FAILED",
        items=(),
        total_reserved=ZERO,
        total_requested=sum((item.quantity for item in command.items), ZERO),
        expires_at=work.hours_from_now(command.expires_in_h),
        warnings=(),
        errors=(ReservationError("", code, message),),
    )


def _refusal(work: Work, command: Reserve) -> Refused | None:
    """Why the whole reservation is refused, if it is."""
    assert command.negotiation_id is not None
    assert command.expires_in_h is not None
    state = work.negotiations.get(command.negotiation_id)
    if state is None:
        return (
            Refusal.NEGOTIATION_NOT_FOUND,
            f"Negotiation {command.negotiation_id} not found",
        )
    if state not in MAY_RESERVE:
        return Refusal.NEGOTIATION_CLOSED, f"Cannot reserve stock in state {state}"
    if command.replaces is not None:
        refused = _replaced_refusal(work, command)
        if refused is not None:
            return refused
    limit_h = work.tenant.max_reservation_h
    if command.expires_in_h > limit_h:
        return Refusal.DURATION_LIMIT, f"A reservation may last {limit_h} hours in all"
    refusals = [item_refusal(work.products.get(item.sku), item) for item in command.items]
    return first_refusal(refusals) if any(refusals) else None


def first_refusal(refusals: Iterable[Refused | None]) -> Refused | None:
    """Return the one that comes first in the order of precedence, whichever line it is of."""
    return min(filter(None, refusals), key=lambda refused: PRECEDENCE[refused[0]], default=None)


def item_refusal(product: Product | None, item: Item) -> Refused | None:
    """Bad units and too precise quantities refuse the command: they are mistakes, not shortages."""
    if product is None:
        return None
    if item.unit is not None and item.unit != product.unit:
        return (
            Refusal.UNIT_MISMATCH,
            f"{item.sku} is kept in {product.unit}, not in {item.unit}",
        )
    return precision_refusal(product, item.quantity)


def precision_refusal(product: Product, quantity: Decimal) -> Refused | None:
    """Refuse more decimal places than the product's unit has."""
    places = DECIMAL_PLACES[product.unit]
    if quantity != round(quantity, places):
        return (
            Refusal.QUANTITY_TOO_PRECISE,
            f"{plain(quantity)} {product.unit} of {product.sku}: at most {places} decimal places",
        )
    return None


def _replaced_refusal(work: Work, command: Reserve) -> Refused | None:
    old = work.reservations.get(command.replaces or "")
    if old is None or old.negotiation_id != command.negotiation_id:
        return (
            Refusal.RESERVATION_NOT_FOUND,
            f"Reservation {command.replaces} of negotiation {command.negotiation_id} not found",
        )
    return over_refusal(work, old)


def over_refusal(work: Work, reservation: Reservation) -> Refused | None:
    """Refuse what needs a live reservation."""
    if reservation.live(work.now):
        return None
    if reservation.status in (ReservationStatus.ACTIVE, ReservationStatus.EXPIRED):
        return Refusal.RESERVATION_EXPIRED, f"Reservation {reservation.id} has expired"
    return Refusal.RESERVATION_ENDED, f"Reservation {reservation.id} is {reservation.status}"


def _release_replaced(work: Work, old: Reservation, command: Reserve) -> dict[UUID, Decimal]:
    """Free what the old one holds, unless the new one could not hold anything at all.

    Returns what was available of its products before: goods that are given back for a moment do
    not make a product cross its reorder point.
    """
    if not any(_obtainable(work, old, item, command.type) for item in command.items):
        return {}
    before = {line.product_id: work.available(line.product_id) for line in old.lines}
    work.give_back(
        old,
        {(line.line_no, line.warehouse): line.held for line in old.lines if line.held},
        ReleaseReason.REPLACED,
        notes=f"replaced by {command.reservation_id}",
        by=command.requested_by,
    )
    return before


def _obtainable(work: Work, old: Reservation, item: Item, type_: ReservationType) -> bool:
    product = work.products.get(item.sku)
    if product is None or line_refusal(item, product) is not None:
        return False
    return (
        work.available(product.id) > 0
        or any(line.held and line.product_id == product.id for line in old.lines)
        or (type_ is ReservationType.HARD and any(True for _ in work.soft_lines(product.id)))
    )


def hold(
    work: Work,
    command: Reserve,
    earlier: Mapping[UUID, Decimal],
    line_nos: Iterable[int] = FROM_ONE,
) -> ReserveResult:
    """Take each line in turn; a later line of one SKU sees what an earlier one took.

    `earlier` is what was available of products before goods were given back for this.
    """
    lines: list[Line] = []
    items: list[ItemResult] = []
    errors: list[ReservationError] = []
    for line_no, item in zip(line_nos, command.items, strict=False):
        product = work.products.get(item.sku)
        refusal = line_refusal(item, product)
        if product is None or refusal is not None:
            answer = _unavailable(work, item, product)
        else:
            answer = _hold_item(work, command, item, product, line_no, lines)
            _tell_if_low(work, product, answer, earlier)
            if answer.status is LineStatus.UNAVAILABLE:
                refusal = Refusal.INSUFFICIENT_STOCK
        items.append(answer)
        if refusal is not None:
            errors.append(_line_error(item, product, refusal))
    return _conclude(work, command, tuple(lines), tuple(items), tuple(errors))


def _unavailable(work: Work, item: Item, product: Product | None) -> ItemResult:
    known = product is not None and (item.product_id is None or item.product_id == product.id)
    here = work.available(product.id) if known and product is not None else ZERO
    product_id = product.id if known and product is not None else item.product_id
    return ItemResult(item.sku, product_id, item.quantity, ZERO, here, here, LineStatus.UNAVAILABLE)


def _line_error(item: Item, product: Product | None, refusal: Refusal) -> ReservationError:
    if refusal is Refusal.INSUFFICIENT_STOCK:
        return ReservationError(item.sku, refusal, f"No stock available for {item.sku}", ZERO)
    if refusal is Refusal.PRODUCT_DISCONTINUED:
        return ReservationError(item.sku, refusal, f"Product {item.sku} is discontinued")
    if product is not None:
        message = f"SKU {item.sku} is not product {item.product_id}"
        return ReservationError(item.sku, refusal, message)
    return ReservationError(item.sku, refusal, f"Product with SKU {item.sku} not found")


def _hold_item(
    work: Work, command: Reserve, item: Item, product: Product, line_no: int, lines: list[Line]
) -> ItemResult:
    product_id, sku, wanted = product.id, product.sku, item.quantity
    reference = held_by(command)
    before = work.available(product_id)
    taken = ZERO
    for index, quantity in _sources(work, command, product, wanted, before):
        level = work.move(
            product_id,
            sku,
            index,
            MovementType.RESERVATION,
            reserved=quantity,
            reference=reference,
            by=command.requested_by,
        )
        lines.append(Line(line_no, product_id, sku, level.warehouse, quantity))
        taken += quantity
    after = work.available(product_id) if taken else before
    if taken == wanted:
        status, restock = LineStatus.RESERVED, None
    else:
        status = LineStatus.PARTIAL if taken else LineStatus.UNAVAILABLE
        restock = product.restock_date
    return ItemResult(sku, product_id, wanted, taken, before, after, status, restock)


def _tell_if_low(
    work: Work, product: Product, answer: ItemResult, earlier: Mapping[UUID, Decimal]
) -> None:
    if answer.available_after <= product.reorder_point:
        before = answer.available_before
        work.tell_if_low(
            product, min(before, earlier.get(product.id, before)), answer.available_after
        )


def line_refusal(item: Item, product: Product | None) -> Refusal | None:
    """Why nothing of a line can be had, whatever there is of the product."""
    if product is None or item.product_id not in (None, product.id):
        return Refusal.PRODUCT_NOT_FOUND
    if product.status == ProductStatus.DISCONTINUED:
        return Refusal.PRODUCT_DISCONTINUED
    return None


def _sources(
    work: Work, command: Reserve, product: Product, wanted: Decimal, available: Decimal
) -> list[tuple[int, Decimal]]:
    """Where to take a line from, after expired and (for HARD) SOFT holders have given way."""
    free = work.free(product.id)
    if free < wanted:
        if free < available:
            work.expire_holders(product.id)
            free = work.free(product.id)
        if free < wanted and command.type is ReservationType.HARD:
            work.displace(product, wanted - free, command.reservation_id)
            free = work.free(product.id)
    return split(work.levels[product.id], wanted) if free else []


def split(levels: list[Level], wanted: Decimal) -> list[tuple[int, Decimal]]:
    """The first warehouse that has all of it, else what there is in the tenant's order.

    Keeping a line in one warehouse saves the customer a second delivery.
    """
    for index, level in enumerate(levels):
        if level.free >= wanted:
            return [(index, wanted)]
    parts: list[tuple[int, Decimal]] = []
    for index, level in enumerate(levels):
        part = min(level.free, wanted)
        if part > 0:
            parts.append((index, part))
            wanted -= part
    return parts


def _conclude(
    work: Work,
    command: Reserve,
    lines: tuple[Line, ...],
    items: tuple[ItemResult, ...],
    errors: tuple[ReservationError, ...],
) -> ReserveResult:
    reservation = Reservation(
        command.reservation_id,
        command.key,
        command.negotiation_id,
        command.type,
        command.priority,
        ReservationStatus.ACTIVE if lines else ReservationStatus.FAILED,
        work.now,
        work.hours_from_now(command.expires_in_h),
        lines,
        order_id=command.order_id,
    )
    requested = sum([item.requested_quantity for item in items], ZERO)
    reserved = sum([item.reserved_quantity for item in items], ZERO)
    full = reserved == requested
    answer = ReserveResult(
        bool(lines),
        reservation.id,
        reservation.key,
        "ACTIVE" if full else "PARTIAL" if lines else "FAILED",
        items,
        reserved,
        requested,
        reservation.expires_at,
        partial_warnings(items) if lines and not full else (),
        errors,
    )
    work.add_reservation(reservation, command, answer)
    return answer


def partial_warnings(items: tuple[ItemResult, ...]) -> tuple[str, ...]:
    """One sentence for each line that was reserved in part (§2.5)."""
    return tuple(
        f"Partial reservation for {item.sku}: requested {plain(item.requested_quantity)},"
        f" reserved {plain(item.reserved_quantity)}"
        for item in items
        if item.status is LineStatus.PARTIAL
    )
