"""What a sync makes of one level: what both sides knew, what they say now, who gives way (§4.5).

The ERP's last figure is remembered, so an ERP that has not heard of our sales yet is no conflict
(READING 25): it is one only where the ERP's figure and ours have both changed and do not agree.
"""

from decimal import Decimal
from enum import StrEnum

from cerniq_stock.domain.model import ZERO
from cerniq_stock.domain.record import record


class Strategy(StrEnum):
    """Whose figure counts in a conflict (§4.3). MERGE is three-way: both sides' changes count."""

    ERP_WINS = "ERP_WINS"
    LOCAL_WINS = "LOCAL_WINS"
    HIGHER_WINS = "HIGHER_WINS"
    LOWER_WINS = "LOWER_WINS"
    MANUAL = "MANUAL"
    MERGE = "MERGE"


class Verdict(StrEnum):
    """What became of a figure."""

    AGREED = "AGREED"
    """Nothing is to be changed: the ERP says nothing new, or what is known here."""
    UPDATED = "UPDATED"
    """Only the ERP had changed."""
    RESOLVED = "RESOLVED"
    """Both had changed; the strategy decided."""
    REVIEW = "REVIEW"
    """Both had changed; a person decides. Nothing is applied."""
    SHORT = "SHORT"
    """The ERP has less than is firmly promised; a person decides. Nothing is applied."""
    MOVED = "MOVED"
    """The level is not what it was when this was decided. Nothing is applied."""


FOR_A_PERSON = frozenset({Verdict.REVIEW, Verdict.SHORT})
"""A conflict stays open; nothing is applied."""


@record
class Figure:
    """What the ERP says of a level. `available` is None where it knows no reservations."""

    total: Decimal
    available: Decimal | None = None


@record
class Remembered:
    """What is known of a level since the last sync.

    `erp` was the ERP's total and `local` ours right after it. `pending` is what had been changed
    here until then and the ERP has not posted yet. `agreed` is the figure of which both were sure
    last. `blocked` is the ERP's own part of what is blocked here.
    """

    erp: Decimal
    local: Decimal
    agreed: Decimal
    pending: Decimal = ZERO
    blocked: Decimal = ZERO

    @property
    def last_equal(self) -> Decimal:
        """The figure at which both stood last; `agreed` may be one of long before."""
        return self.erp if self.erp == self.local and not self.pending else self.agreed

    @property
    def columns(self) -> tuple[Decimal, ...]:
        """All of it, in order."""
        return self.erp, self.local, self.agreed, self.pending, self.blocked


@record
class Chosen:
    """What a person has decided a level's total to be; None: what it is."""

    total: Decimal | None = None


@record
class Shelf:
    """A level as it stands: `firm` is held for good, `soft` gives way."""

    total: Decimal
    blocked: Decimal
    firm: Decimal
    soft: Decimal


@record
class Decision:
    """What a level shall be. `soft_given` is what SOFT reservations lose by it.

    `conflict` tells that both sides had changed. `clipped`: the ERP has committed more than there
    is besides what is firmly promised here, so less of it is blocked.
    """

    verdict: Verdict
    total: Decimal
    blocked: Decimal
    remembered: Remembered | None
    soft_given: Decimal = ZERO
    conflict: bool = False
    clipped: bool = False


def resolve(strategy: Strategy, local: Decimal, erp: Decimal, merged: Decimal) -> Decimal | None:
    """Whose figure counts; None where a person has to say. `merged` has both sides' changes."""
    match strategy:
        case Strategy.ERP_WINS:
            return erp
        case Strategy.LOCAL_WINS:
            return local
        case Strategy.HIGHER_WINS:
            return max(local, erp)
        case Strategy.LOWER_WINS:
            return min(local, erp)
        case Strategy.MERGE:
            return merged
        case Strategy.MANUAL:
            return None


def decide(
    shelf: Shelf,
    figure: Figure,
    known: Remembered | None,
    strategy: Strategy,
    *,
    force: bool = False,
    chosen: Chosen | None = None,
) -> Decision:
    """Decide what a level becomes. A negative total of the ERP's is applied as zero.

    With `force` the ERP's figure counts, whatever was known, and with `chosen` a person's. Where
    nothing was known, there is nothing that could conflict.
    """
    erp = max(figure.total, ZERO)
    if chosen is not None:
        total = shelf.total if chosen.total is None else chosen.total
        before = known or Remembered(erp, shelf.total, erp)
        return _fitted(shelf, figure, before, total, Remembered(erp, total, erp))
    if known is None or force:
        before = known or Remembered(erp, shelf.total, erp)
        return _fitted(shelf, figure, before, erp, Remembered(erp, erp, erp))
    pending = known.pending + shelf.total - known.local
    moved = erp - known.erp
    posted = _posted(moved, pending)
    left = moved - posted
    if not left:
        # nothing new, or no more than what was changed here: the ERP is catching up
        after = Remembered(erp, shelf.total, known.agreed, pending - posted)
        return _fitted(shelf, figure, known, shelf.total, after)
    if not pending or erp == shelf.total:
        return _fitted(shelf, figure, known, erp, Remembered(erp, erp, erp))
    wanted = resolve(strategy, shelf.total, erp, max(shelf.total + left, ZERO))
    if wanted is None:
        return Decision(Verdict.REVIEW, shelf.total, shelf.blocked, known, conflict=True)
    after = Remembered(erp, wanted, erp)
    if strategy is Strategy.MERGE:
        after = Remembered(erp, wanted, known.agreed, pending - posted)
    return _fitted(shelf, figure, known, wanted, after, conflict=True)


def _posted(moved: Decimal, pending: Decimal) -> Decimal:
    """How much of the ERP's change is taken for its posting of what was changed here.

    As much as there is of the same sign. It may be a sale of the ERP's own, which no figure can
    tell; then it is put right when the ERP posts ours.
    """
    if moved < 0 and pending < 0:
        return max(moved, pending)
    if moved > 0 and pending > 0:
        return min(moved, pending)
    return ZERO


def _fitted(
    shelf: Shelf,
    figure: Figure,
    known: Remembered,
    total: Decimal,
    after: Remembered,
    *,
    conflict: bool = False,
) -> Decision:
    """Make room for the figure: what is firmly promised stays, the rest gives way."""
    own = max(shelf.blocked - known.blocked, ZERO)
    erps = known.blocked
    if figure.available is not None:
        erps = max(max(figure.total, ZERO) - figure.available, ZERO)
    if total < shelf.firm + own:
        return Decision(Verdict.SHORT, shelf.total, shelf.blocked, known, conflict=conflict)
    fits = min(erps, total - shelf.firm - own)
    blocked = own + fits
    verdict = Verdict.RESOLVED if conflict else Verdict.UPDATED
    if total == shelf.total and blocked == shelf.blocked and not conflict:
        verdict = Verdict.AGREED
    return Decision(
        verdict,
        total,
        blocked,
        Remembered(after.erp, after.local, after.agreed, after.pending, fits),
        soft_given=max(shelf.firm + shelf.soft + blocked - total, ZERO),
        conflict=conflict,
        clipped=fits < erps,
    )
