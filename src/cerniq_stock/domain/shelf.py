"""What happens on the shelf: receive, return, adjust, count."""

from decimal import Decimal

from cerniq_stock.domain.commands import Adjust, Count, LevelCommand, Receive, Return
from cerniq_stock.domain.messages import plain
from cerniq_stock.domain.model import ZERO, Level, MovementType, Product
from cerniq_stock.domain.outcomes import LevelResult, Refusal, Refused
from cerniq_stock.domain.reserve import precision_refusal
from cerniq_stock.domain.work import NO_REFERENCE, Reference, Work

MAX_TOTAL = Decimal("99999999999.999")
"""What a level can hold: the width of its columns."""


def change_level(work: Work, command: LevelCommand) -> LevelResult | Refused:
    """Change one level. SOFT reservations give way to what is really there; HARD do not."""
    product = work.products.get(command.sku)
    if product is None:
        return Refused(Refusal.PRODUCT_UNKNOWN, f"Product with SKU {command.sku} not found")
    warehouses = work.tenant.warehouses
    warehouse = command.warehouse or warehouses[0]
    if warehouse not in warehouses:
        return Refused(
            Refusal.WAREHOUSE_UNKNOWN,
            f"No warehouse {warehouse}; there is {', '.join(warehouses)}",
        )
    for quantity in _quantities(command):
        refused = precision_refusal(product, quantity)
        if refused is not None:
            return Refused(*refused)
    return _apply(work, command, product, warehouse)


def _quantities(command: LevelCommand) -> tuple[Decimal, ...]:
    match command:
        case Adjust():
            return command.total_delta, command.blocked_delta
        case Count():
            return (command.counted,)
        case _:
            return (command.quantity,)


def _deltas(command: LevelCommand, level: Level | None) -> tuple[MovementType, Decimal, Decimal]:
    """The kind of movement and the changes of total and blocked."""
    match command:
        case Receive():
            return MovementType.PURCHASE, command.quantity, ZERO
        case Return():
            return MovementType.RETURN, command.quantity, ZERO
        case Adjust():
            return MovementType.ADJUSTMENT, command.total_delta, command.blocked_delta
        case Count():
            total = level.total if level is not None else ZERO
            return MovementType.ADJUSTMENT, command.counted - total, ZERO


def _apply(
    work: Work, command: LevelCommand, product: Product, warehouse: str
) -> LevelResult | Refused:
    level = next((x for x in work.levels[product.id] if x.warehouse == warehouse), None)
    kind, total, blocked = _deltas(command, level)
    refused = _refusal(work, product, warehouse, level, total, blocked)
    if refused is not None:
        return refused
    before = work.available(product.id)
    index = work.index(product.id, warehouse)
    lacking = blocked - total - work.levels[product.id][index].free
    displaced: list[str] = []
    if lacking > 0:
        work.expire_holders(product.id)
        lacking = blocked - total - work.levels[product.id][index].free
        taker = "stocktake" if isinstance(command, Count) else "adjustment"
        displaced = work.displace(product, lacking, taker, warehouse)
    if total or blocked:
        work.move(
            product.id,
            product.sku,
            index,
            kind,
            total=total,
            blocked=blocked,
            reference=_reference(command),
            notes=command.notes or ("stocktake" if isinstance(command, Count) else None),
            by=command.by,
        )
    work.tell_if_low(product, before, work.available(product.id))
    now = work.levels[product.id][index]
    return LevelResult(
        product.sku,
        product.id,
        warehouse,
        now.total,
        now.reserved,
        now.blocked,
        now.available,
        tuple(displaced),
    )


def _reference(command: LevelCommand) -> Reference:
    match command:
        case Receive() | Return() if command.reference is not None:
            return Reference("DOCUMENT", command.reference)
        case _:
            return NO_REFERENCE


def _refusal(
    work: Work,
    product: Product,
    warehouse: str,
    level: Level | None,
    total: Decimal,
    blocked: Decimal,
) -> Refused | None:
    """Refuse what neither free stock nor SOFT reservations can bear."""
    here = level or Level(product.id, warehouse, ZERO, ZERO, ZERO, 0)
    soft = ZERO
    if blocked - total > here.available:
        soft = sum((line.held for _, line in work.soft_lines(product.id, warehouse)), ZERO)
    firm = here.reserved - here.due - soft
    if (
        here.total + total < firm + here.blocked + blocked
        or here.blocked + blocked < 0
        or here.total + total < 0
    ):
        return Refused(
            Refusal.BELOW_RESERVED,
            f"{product.sku} in {warehouse}: total {plain(here.total + total)} and blocked"
            f" {plain(here.blocked + blocked)} do not fit with {plain(firm)} firmly reserved",
        )
    if here.total + total > MAX_TOTAL:
        return Refused(
            Refusal.STOCK_LIMIT,
            f"{product.sku} in {warehouse} would have {plain(here.total + total)},"
            f" at most {plain(MAX_TOTAL)}",
        )
    return None
