"""What happens to orders (jobs 29-31): taken down, reserved, released, deducted, returned.

Each quantity of a line is reserved, released, deducted and returned at most once: every step takes
only what the one before has left. Each command is done whole or not at all.
"""

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

from cerniq_stock.domain.commands import (
    CreateOrder,
    DeductOrder,
    Item,
    OrderCommand,
    OrderPart,
    ReleaseOrder,
    Reserve,
    ReserveOrder,
    ReturnOrder,
)
from cerniq_stock.domain.messages import plain
from cerniq_stock.domain.model import (
    ZERO,
    MovementType,
    Order,
    OrderLine,
    OrderStatus,
    ReleaseReason,
    Reservation,
    ReservationType,
)
from cerniq_stock.domain.outcomes import (
    OrderLineResult,
    OrderResult,
    Refusal,
    Refused,
    ReservationError,
)
from cerniq_stock.domain.reserve import (
    first_refusal,
    hold,
    item_refusal,
    line_refusal,
    precision_refusal,
    split,
)
from cerniq_stock.domain.shelf import MAX_TOTAL
from cerniq_stock.domain.work import Reference, Work

KNOWN = "The order was taken down before; nothing changed"
NOTHING_OPEN = "Nothing of the order was left to reserve; nothing changed"
NOTHING_OUTSTANDING = "Nothing of the order was outstanding; nothing changed"
NOTHING_DELIVERED = "Everything that was delivered has come back before; nothing changed"

Amounts = dict[int, Decimal]
"""How much of which line, by `line_no`."""


def change_order(work: Work, command: OrderCommand) -> OrderResult | Refused:
    """Answer one command on an order."""
    order = work.orders.get(command.order_id)
    if isinstance(command, CreateOrder):
        return _create(work, command, order)
    if order is None:
        return Refused(Refusal.ORDER_NOT_FOUND, f"Order {command.order_id} not found")
    match command:
        case ReserveOrder():
            return _reserve(work, command, order)
        case ReleaseOrder():
            return _release(work, command, order)
        case DeductOrder():
            return _deduct(work, command, order)
        case ReturnOrder():
            return _return(work, command, order)
        case _:
            raise AssertionError(command)


# -- taking down ----------------------------------------------------------------------------


def _create(work: Work, command: CreateOrder, known: Order | None) -> OrderResult | Refused:
    if known is not None:
        asked = [(work.products.get(item.sku), item.quantity) for item in command.items]
        same = known.negotiation_id == command.negotiation_id and [
            (line.product_id, line.quantity) for line in known.lines
        ] == [(product and product.id, quantity) for product, quantity in asked]
        if same:
            return _result(known, ZERO, warnings=(KNOWN,))
        return Refused(
            Refusal.ORDER_EXISTS, f"Order {known.id} was taken down before with other lines"
        )
    negotiation = command.negotiation_id
    if negotiation is not None and negotiation not in work.negotiations:
        return Refused(Refusal.NEGOTIATION_NOT_FOUND, f"Negotiation {negotiation} not found")
    lines, errors, refusals = [], [], []
    for line_no, item in enumerate(command.items, 1):
        product = work.products.get(item.sku)
        if product is None or line_refusal(item, product) is Refusal.PRODUCT_NOT_FOUND:
            errors.append(_error(item.sku, Refusal.PRODUCT_NOT_FOUND, line_no, "no such product"))
        else:
            refusals.append(item_refusal(product, item))
            lines.append(OrderLine(line_no, product.id, item.sku, item.quantity))
    refused = first_refusal(refusals)
    if refused is not None:
        return Refused(*refused)
    order = Order(command.order_id, negotiation, tuple(lines))
    if errors:
        return _result(order, ZERO, errors=errors)
    work.orders[order.id] = order
    work.new_orders.add(order.id)
    return _result(order, ZERO)


# -- reserving ------------------------------------------------------------------------------


def _reserve(work: Work, command: ReserveOrder, order: Order) -> OrderResult | Refused:
    """Hold all that is open. What the order's negotiation holds is given to the order first."""
    if order.status is OrderStatus.CANCELLED:
        return _cancelled(order)
    wanted = [line for line in order.lines if line.open]
    if not wanted:
        return _result(order, ZERO, warnings=(NOTHING_OPEN,))
    converted = _of_negotiation(work, order)
    errors = _cannot_hold(work, wanted, converted)
    if errors:
        return _result(order, ZERO, errors=errors)
    before = {line.product_id: work.available(line.product_id) for line in wanted}
    for reservation in converted:
        held = {(line.line_no, line.warehouse): line.held for line in reservation.lines}
        before |= {x.product_id: work.available(x.product_id) for x in reservation.lines}
        work.give_back(
            reservation,
            held,
            ReleaseReason.REPLACED,
            notes=f"replaced by order {order.id}",
            by=command.by,
        )
    fresh = _hold(work, command, order, wanted, before)
    return _result(fresh, sum((line.open for line in wanted), ZERO))


def _of_negotiation(work: Work, order: Order) -> list[Reservation]:
    if order.negotiation_id is None:
        return []
    found = [r for r in work.reservations.values() if r.negotiation_id == order.negotiation_id]
    return sorted((r for r in found if r.live(work.now)), key=lambda r: r.id)


def _cannot_hold(
    work: Work, wanted: Sequence[OrderLine], converted: Sequence[Reservation]
) -> list[ReservationError]:
    """Name every line that could not be held whole, were all before it held."""
    ours = {reservation.id for reservation in converted}
    left: dict[UUID, Decimal] = {}
    for reservation in converted:
        for ours_line in reservation.lines:
            id_ = ours_line.product_id
            left[id_] = left.get(id_, ZERO) + ours_line.held
    for product_id in {line.product_id for line in wanted}:
        soft = [x.held for r, x in work.soft_lines(product_id) if r.id not in ours]
        left[product_id] = sum(soft, left.get(product_id, ZERO)) + work.available(product_id)
    errors = []
    for line in wanted:
        product = work.products[line.sku]
        if line_refusal(Item(line.sku, line.open), product) is not None:
            text = "discontinued"
            errors.append(_error(line.sku, Refusal.PRODUCT_DISCONTINUED, line.line_no, text))
        elif line.open > left[line.product_id]:
            errors.append(_short(line, line.open, left[line.product_id]))
        left[line.product_id] -= min(line.open, left[line.product_id])
    return errors


def _hold(
    work: Work,
    command: ReserveOrder,
    order: Order,
    wanted: Sequence[OrderLine],
    before: dict[UUID, Decimal],
) -> Order:
    # the only one the order ever gets: from now on nothing of it is open
    claim = Reserve(
        command.reservation_id,
        f"res_{command.reservation_id}",
        command.fingerprint,
        None,
        tuple(Item(line.sku, line.open) for line in wanted),
        ReservationType.HARD,
        expires_in_h=None,
        requested_by=command.by,
        notes=command.notes,
        order_id=order.id,
    )
    answer = hold(work, claim, before, [line.line_no for line in wanted])
    assert answer.total_reserved == answer.total_requested, answer
    amounts = {line.line_no: line.open for line in wanted}
    lines = [
        line._replace(reserved=line.reserved + amounts.get(line.line_no, ZERO))
        for line in order.lines
    ]
    return _keep(work, order._replace(lines=tuple(lines), reservation_id=claim.reservation_id))


# -- releasing, deducting, returning --------------------------------------------------------


def _release(work: Work, command: ReleaseOrder, order: Order) -> OrderResult | Refused:
    if command.parts is None and not any(line.outstanding for line in order.lines):
        return _result(order, ZERO, warnings=(NOTHING_OUTSTANDING,))
    amounts = _asked(work, order, command.parts)
    if not isinstance(amounts, dict):
        return amounts
    held = {line.line_no: min(amounts[line.line_no], line.reserved) for line in _of(order, amounts)}
    _give(work, order, held, ReleaseReason.CANCELLED, command.notes, command.by)
    lines = [
        line._replace(
            released=line.released + amounts.get(line.line_no, ZERO),
            reserved=line.reserved - held.get(line.line_no, ZERO),
        )
        for line in order.lines
    ]
    return _done(work, order, lines, amounts)


def _deduct(work: Work, command: DeductOrder, order: Order) -> OrderResult | Refused:
    """Sell: first what the order holds, the rest from free stock, never below zero."""
    if order.status is OrderStatus.CANCELLED:
        return _cancelled(order)
    if command.parts is None and not any(line.outstanding for line in order.lines):
        return _result(order, ZERO, warnings=(NOTHING_OUTSTANDING,))
    amounts = _asked(work, order, command.parts)
    if not isinstance(amounts, dict):
        return amounts
    held = {line.line_no: min(amounts[line.line_no], line.reserved) for line in _of(order, amounts)}
    rest = {no: amount - held[no] for no, amount in amounts.items() if amount > held[no]}
    errors = _not_free(work, order, rest)
    if errors:
        return _result(order, ZERO, errors=errors)
    _give(work, order, held, ReleaseReason.CONSUMED, command.notes, command.by)
    for line in _of(order, rest):
        _sell(work, command, order, line, rest[line.line_no])
    lines = [
        line._replace(
            deducted=line.deducted + amounts.get(line.line_no, ZERO),
            reserved=line.reserved - held.get(line.line_no, ZERO),
        )
        for line in order.lines
    ]
    return _done(work, order, lines, amounts)


def _not_free(work: Work, order: Order, rest: Amounts) -> list[ReservationError]:
    left = {line.product_id: work.available(line.product_id) for line in _of(order, rest)}
    errors = []
    for line in _of(order, rest):
        amount = rest[line.line_no]
        if amount > left[line.product_id]:
            errors.append(_short(line, amount, left[line.product_id]))
        left[line.product_id] -= min(amount, left[line.product_id])
    return errors


def _sell(work: Work, command: DeductOrder, order: Order, line: OrderLine, amount: Decimal) -> None:
    before = work.available(line.product_id)
    if work.free(line.product_id) < amount:
        work.expire_holders(line.product_id)
    for index, quantity in split(work.levels[line.product_id], amount):
        work.move(
            line.product_id,
            line.sku,
            index,
            MovementType.SALE,
            total=-quantity,
            reference=_reference(order),
            notes=command.notes,
            by=command.by,
        )
    work.tell_if_low(work.products[line.sku], before, work.available(line.product_id))


def _return(work: Work, command: ReturnOrder, order: Order) -> OrderResult | Refused:
    warehouses = work.tenant.warehouses
    warehouse = command.warehouse or warehouses[0]
    if warehouse not in warehouses:
        return Refused(
            Refusal.WAREHOUSE_UNKNOWN,
            f"No warehouse {warehouse}; there is {', '.join(warehouses)}",
        )
    if command.parts is None and not any(line.deducted for line in order.lines):
        return Refused(Refusal.EXCEEDS_DELIVERED, f"Nothing of order {order.id} was delivered")
    if command.parts is None and all(line.deducted == line.returned for line in order.lines):
        return _result(order, ZERO, warnings=(NOTHING_DELIVERED,))
    amounts = _asked(work, order, command.parts, returns=True)
    if not isinstance(amounts, dict):
        return amounts
    refused = _too_much(work, order, amounts, warehouse)
    if refused is not None:
        return refused
    for line in _of(order, amounts):
        work.move(
            line.product_id,
            line.sku,
            work.index(line.product_id, warehouse),
            MovementType.RETURN,
            total=amounts[line.line_no],
            reference=_reference(order),
            notes=command.notes,
            by=command.by,
        )
    lines = [
        line._replace(returned=line.returned + amounts.get(line.line_no, ZERO))
        for line in order.lines
    ]
    return _done(work, order, lines, amounts)


def _too_much(work: Work, order: Order, amounts: Amounts, warehouse: str) -> Refused | None:
    coming: dict[UUID, Decimal] = {}
    for line in _of(order, amounts):
        coming[line.product_id] = coming.get(line.product_id, ZERO) + amounts[line.line_no]
        here = [x.total for x in work.levels[line.product_id] if x.warehouse == warehouse]
        if sum(here, coming[line.product_id]) > MAX_TOTAL:
            return Refused(
                Refusal.STOCK_LIMIT,
                f"{line.sku} in {warehouse} would have more than {plain(MAX_TOTAL)}",
            )
    return None


# -- how much of which line -----------------------------------------------------------------


def _asked(
    work: Work, order: Order, parts: Sequence[OrderPart] | None, *, returns: bool = False
) -> Amounts | Refused | OrderResult:
    """How much of each line is meant: without parts all there is. Every excess is named."""
    left = {
        line.line_no: line.deducted - line.returned if returns else line.outstanding
        for line in order.lines
    }
    if parts is None:
        return {line_no: amount for line_no, amount in left.items() if amount}
    by_sku: dict[str, list[OrderLine]] = {}
    for line in order.lines:
        by_sku.setdefault(line.sku, []).append(line)
    meant = [_meant(order, by_sku, part) for part in parts]
    refused = first_refusal(
        _part_refusal(work, order, part, lines) for part, lines in zip(parts, meant, strict=True)
    )
    if refused is not None:
        return Refused(*refused)
    amounts: Amounts = {}
    errors: list[ReservationError] = []
    for part, lines in zip(parts, meant, strict=True):
        there = sum((left[line.line_no] for line in lines), ZERO)
        if part.quantity > there:
            errors.append(_excess(lines[0], part.quantity, there, returns=returns))
        wanted = part.quantity
        for line in lines:
            amount = min(wanted, left[line.line_no])
            if amount:
                amounts[line.line_no] = amounts.get(line.line_no, ZERO) + amount
                left[line.line_no] -= amount
                wanted -= amount
    return _result(order, ZERO, errors=errors) if errors else amounts


def _part_refusal(
    work: Work, order: Order, part: OrderPart, lines: Sequence[OrderLine]
) -> tuple[Refusal, str] | None:
    if not lines:
        what = part.sku if part.line_no is None else f"line {part.line_no}"
        return Refusal.NOT_ORDERED, f"Order {order.id} has no {what}"
    return precision_refusal(work.products[lines[0].sku], part.quantity)


def _excess(line: OrderLine, wanted: Decimal, there: Decimal, *, returns: bool) -> ReservationError:
    code = Refusal.EXCEEDS_DELIVERED if returns else Refusal.EXCEEDS_ORDERED
    what = "delivered and not returned" if returns else "outstanding"
    text = f"{plain(wanted)} is more than the {plain(there)} {what}"
    return _error(line.sku, code, line.line_no, text, there)


def _meant(
    order: Order, by_sku: dict[str, list[OrderLine]], part: OrderPart
) -> Sequence[OrderLine]:
    """The lines that a part names. An order's lines are numbered from 1 in their order."""
    if part.line_no is None:
        assert part.sku is not None, part
        return by_sku.get(part.sku, [])
    named = order.lines[part.line_no - 1 : part.line_no]
    return [line for line in named if part.sku in (None, line.sku)]


def _of(order: Order, amounts: Amounts) -> list[OrderLine]:
    return [line for line in order.lines if line.line_no in amounts]


# -- what all of them do --------------------------------------------------------------------


def _give(
    work: Work,
    order: Order,
    held: Amounts,
    reason: ReleaseReason,
    notes: str | None,
    by: str | None,
) -> None:
    """Take so much of each line out of what the order's reservation holds."""
    if not any(held.values()):
        return
    assert order.reservation_id is not None
    reservation = work.reservations[order.reservation_id]
    left = dict(held)
    parts: dict[tuple[int, str], Decimal] = {}
    for line in reservation.lines:
        amount = min(line.held, left.get(line.line_no, ZERO))
        if amount:
            parts[line.line_no, line.warehouse] = amount
            left[line.line_no] -= amount
    assert not any(left.values()), (order, left)
    work.give_back(reservation, parts, reason, notes=notes, by=by)


def _done(work: Work, order: Order, lines: Sequence[OrderLine], amounts: Amounts) -> OrderResult:
    fresh = _keep(work, order._replace(lines=tuple(lines)))
    return _result(fresh, sum(amounts.values(), ZERO))


def _keep(work: Work, order: Order) -> Order:
    work.orders[order.id] = order
    work.changed_orders.add(order.id)
    return order


def _reference(order: Order) -> Reference:
    return Reference("ORDER", str(order.id), order.negotiation_id, order.id)


def _cancelled(order: Order) -> Refused:
    return Refused(Refusal.ORDER_CANCELLED, f"All of order {order.id} was cancelled")


def _short(line: OrderLine, wanted: Decimal, there: Decimal) -> ReservationError:
    text = f"needs {plain(wanted)}, available {plain(there)}"
    return _error(line.sku, Refusal.INSUFFICIENT_STOCK, line.line_no, text, there)


def _error(
    sku: str, code: Refusal, line_no: int, text: str, available: Decimal | None = None
) -> ReservationError:
    return ReservationError(sku, code, f"Line {line_no}, {sku}: {text}", available)


def _result(
    order: Order,
    quantity: Decimal,
    *,
    warnings: tuple[str, ...] = (),
    errors: Sequence[ReservationError] = (),
) -> OrderResult:
    return OrderResult(
        not errors,
        order.id,
        order.status,
        order.reservation_id,
        order.negotiation_id,
        quantity,
        tuple(
            OrderLineResult(
                line.line_no,
                line.sku,
                line.product_id,
                line.quantity,
                line.reserved,
                line.deducted,
                line.released,
                line.returned,
            )
            for line in order.lines
        ),
        warnings,
        tuple(errors),
    )
