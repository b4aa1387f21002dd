"""Brings a level in line with an ERP's figure (§4.5, READING 24, 25). What is SOFT gives way."""

from decimal import Decimal

from cerniq_stock.domain.commands import SyncLevel
from cerniq_stock.domain.messages import shortage
from cerniq_stock.domain.model import ZERO, Level, MovementType, Product
from cerniq_stock.domain.outcomes import Refusal, Refused, SyncedLevel
from cerniq_stock.domain.reserve import precision_refusal
from cerniq_stock.domain.sync import FOR_A_PERSON, Decision, Shelf, Verdict, decide
from cerniq_stock.domain.work import Reference, Synced, Work

LEFT_ALONE = FOR_A_PERSON | {Verdict.MOVED}


def sync_level(work: Work, command: SyncLevel) -> SyncedLevel | Refused:
    """Apply one figure, or say why a person has to look at it."""
    product = work.products.get(command.sku)
    if product is None:
        return Refused(Refusal.PRODUCT_UNKNOWN, f"Product with SKU {command.sku} not found")
    if command.warehouse not in work.tenant.warehouses:
        return Refused(Refusal.WAREHOUSE_UNKNOWN, f"No warehouse {command.warehouse}")
    chosen = None if command.chosen is None else command.chosen.total
    for quantity in (command.figure.total, command.figure.available, chosen):
        refused = None if quantity is None else precision_refusal(product, quantity)
        if refused is not None:
            return Refused(*refused)
    index = work.index(product.id, command.warehouse)
    here = work.levels[product.id][index]
    decision = decided(command, here, soft=_soft(work, product, here))
    if command.version not in (None, here.version):
        decision = Decision(Verdict.MOVED, here.total, here.blocked, command.known)
    displaced = () if _stays(here, decision) else _change(work, command, product, index, decision)
    if decision.verdict is Verdict.SHORT and command.alert:
        work.notifications.append(
            shortage(work.tenant.language, product, here.warehouse, command.figure.total)
        )
    if decision.verdict not in LEFT_ALONE:
        assert decision.remembered is not None
        if decision.remembered != command.known:
            work.synced.append(
                Synced(command.integration_id, product.id, here.warehouse, decision.remembered)
            )
    now = work.levels[product.id][index]
    return SyncedLevel(
        product.sku,
        product.id,
        here.warehouse,
        decision.verdict,
        here.version,
        here.total,
        here.available,
        now.total,
        now.available,
        decision.conflict,
        decision.clipped,
        displaced,
    )


def decided(command: SyncLevel, level: Level, *, soft: Decimal) -> Decision:
    """What becomes of a level of which so much is held SOFT."""
    firm = level.reserved - level.due - soft
    shelf = Shelf(level.total, level.blocked, firm, soft)
    return decide(
        shelf,
        command.figure,
        command.known,
        command.strategy,
        force=command.force,
        chosen=command.chosen,
    )


def may_take(command: SyncLevel, level: Level) -> bool:
    """Whether somebody who holds the level may have to give way: then the holders are needed."""
    if not level.reserved:
        return False
    decision = decided(command, level._replace(due=ZERO), soft=ZERO)
    return decision.verdict is Verdict.SHORT or decision.clipped


def _soft(work: Work, product: Product, here: Level) -> Decimal:
    if not here.reserved:
        return ZERO
    return sum((line.held for _, line in work.soft_lines(product.id, here.warehouse)), ZERO)


def _stays(here: Level, decision: Decision) -> bool:
    return decision.total == here.total and decision.blocked == here.blocked


def _change(
    work: Work, command: SyncLevel, product: Product, index: int, decision: Decision
) -> tuple[str, ...]:
    here = work.levels[product.id][index]
    before = work.available(product.id)
    displaced: list[str] = []
    if _lacking(here, decision) > 0:
        work.expire_holders(product.id)
        lacking = _lacking(work.levels[product.id][index], decision)
        displaced = work.displace(product, lacking, "sync", here.warehouse)
    work.move(
        product.id,
        product.sku,
        index,
        MovementType.SYNC,
        total=decision.total - here.total,
        blocked=decision.blocked - here.blocked,
        reference=Reference("SYNC", command.sync_id),
        notes=command.notes,
        by=command.by,
    )
    work.tell_if_low(product, before, work.available(product.id))
    return tuple(displaced)


def _lacking(here: Level, decision: Decision) -> Decimal:
    return here.reserved + decision.blocked - decision.total
