"""What a sync is asked and what it answers, exactly as §4.3 and §4.4, and what READING adds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from cerniq_stock.domain.outcomes import SyncedLevel, Wire
from cerniq_stock.domain.sync import FOR_A_PERSON, Strategy
from cerniq_stock.erp.options import SyncOptions
from cerniq_stock.erp.rows import Remark
from cerniq_stock.erp.source import Watermark
from cerniq_stock.validate import storable

MOST_TOLD = 100
"""Changes that a result names (§4.5)."""
MOST_PLANNED = 10_000
"""Changes that the result of a dry run names: somebody is to judge them."""
MOST_ERRORS = 1_000


class SyncType(StrEnum):
    """How much is read (§4.3)."""

    FULL = "FULL"
    INCREMENTAL = "INCREMENTAL"
    SELECTIVE = "SELECTIVE"
    WEBHOOK = "WEBHOOK"


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """What a run needs to know of an integration. `revision` is its configuration's.

    `spelled` has our way to write SKUs whose letters may have a cedilla there, by `sku_key`.
    """

    tenant_id: UUID
    id: UUID
    erp_system: str
    options: SyncOptions
    warehouses: tuple[str, ...]
    watermark: Watermark | None = None
    revision: int = 1
    spelled: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to synchronise, and how. `strategy` None: as the integration says.

    `accept` takes a snapshot that looks like a mistake. `file` names one below the tenant's folder,
    instead of the usual one.
    """

    kind: SyncType = SyncType.INCREMENTAL
    skus: tuple[str, ...] = ()
    file: str | None = None
    payload: Any = None
    force: bool = False
    accept: bool = False
    dry: bool = False
    strategy: Strategy | None = None


@dataclass(slots=True)
class Statistics(Wire):
    """The figures of §4.4."""

    total_products: int = 0
    products_checked: int = 0
    products_updated: int = 0
    products_created: int = 0
    products_skipped: int = 0
    conflicts_resolved: int = 0
    conflicts_manual: int = 0
    errors_count: int = 0


@dataclass(frozen=True, slots=True)
class StockChange(Wire):
    """One changed field. `warehouse` is None for what a product has as a whole."""

    sku: str
    product_id: UUID
    field: str
    previous_value: Decimal | str | None
    new_value: Decimal | str | None
    source: str
    change_type: str
    warehouse: str | None = None


@dataclass(frozen=True, slots=True)
class StockConflict(Wire):
    """Both sides had changed, or the ERP has less than is firmly promised."""

    sku: str
    field: str
    local_value: Decimal
    erp_value: Decimal
    resolution: str
    requires_manual_review: bool
    warehouse: str | None = None


@dataclass(frozen=True, slots=True)
class SyncError(Wire):
    """Why a row was left alone, or a run ended."""

    sku: str | None
    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class SyncResult(Wire):
    """§4.4. `unknown` are SKUs that only the ERP has, `missing` those it no longer tells of."""

    success: bool
    sync_id: str
    sync_type: str
    erp_system: str
    started_at: datetime
    completed_at: datetime
    duration: int
    statistics: Statistics
    changes: tuple[StockChange, ...]
    conflicts: tuple[StockConflict, ...]
    errors: tuple[SyncError, ...]
    next_sync_recommended: datetime
    warnings: tuple[SyncError, ...] = ()
    unknown: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    changes_count: int = 0
    unknown_count: int = 0
    dry_run: bool = False


@dataclass(slots=True)
class Tally:
    """What a run has seen so far. Lists are bounded, counts are not.

    What others wrote is kept as it can be stored: without NUL, and without halves of characters.
    """

    most: int = MOST_TOLD
    """Changes that are named."""
    statistics: Statistics = field(default_factory=Statistics)
    changes: list[StockChange] = field(default_factory=list)
    changes_count: int = 0
    conflicts: list[StockConflict] = field(default_factory=list)
    conflicts_count: int = 0
    errors: list[SyncError] = field(default_factory=list)
    warnings: list[SyncError] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)

    def error(self, sku: str | None, code: str, message: str) -> None:
        """Note a row that is left alone."""
        self.statistics.errors_count += 1
        self.codes[code] += 1
        if len(self.errors) < MOST_ERRORS:
            self.errors.append(_noted(sku, code, message))

    def warn(self, sku: str | None, code: str, message: str) -> None:
        """Note what somebody should look at."""
        if len(self.warnings) < MOST_ERRORS:
            self.warnings.append(_noted(sku, code, message))

    def broken_off(self, code: str, message: str, *, retryable: bool) -> None:
        """Note what has ended the run, before all else."""
        self.statistics.errors_count += 1
        self.errors.insert(0, _noted(None, code, message, retryable=retryable))

    def changed(self, change: StockChange) -> None:
        """Note a change."""
        self.changes_count += 1
        self.tell(change)

    def tell(self, change: StockChange) -> None:
        """Name a change that is counted elsewhere, if it is one of the first."""
        if len(self.changes) < self.most:
            self.changes.append(change)

    def conflict(self, conflict: StockConflict) -> None:
        """Note a conflict."""
        self.conflicts_count += 1
        if len(self.conflicts) < MOST_ERRORS:
            self.conflicts.append(conflict)

    def level(self, of: SyncedLevel, erp: Decimal, strategy: Strategy) -> None:
        """Note what became of a level."""
        review = of.verdict in FOR_A_PERSON
        if of.conflict or review:
            how = "MANUAL_REVIEW" if review else strategy.value
            self.conflict(
                StockConflict(
                    of.sku, "stock_total", of.previous_total, erp, how, review, of.warehouse
                )
            )
            if review:
                self.statistics.conflicts_manual += 1
            else:
                self.statistics.conflicts_resolved += 1
        if of.clipped:
            self.warn(of.sku, "COMMITTED_TOO_MUCH", f"{of.warehouse}: more than fits is committed")
        kind = "CONFLICT_RESOLVED" if of.conflict else "UPDATE"
        before = of.previous_total, of.previous_available
        after = of.total, of.available
        for change in _changes(of.sku, of.product_id, of.warehouse, before, after, kind):
            self.changed(change)
        if before != after:
            self.statistics.products_updated += 1
        else:
            self.statistics.products_skipped += 1

    def plain(self, rows: Sequence[Any]) -> list[StockChange]:
        """Count a chunk of levels that were applied together; returns the changes that it names."""
        counts = rows[0]
        self.changes_count += counts["fields"]
        self.statistics.products_updated += counts["updated"]
        self.statistics.products_skipped += counts["decided"] - counts["updated"]
        named: list[StockChange] = []
        for row in rows:
            if row["sku"] is not None:
                place = row["sku"], row["product_id"], row["warehouse"]
                before = row["total"], row["available"]
                after = row["new_total"], row["new_available"]
                named += _changes(*place, before, after, "UPDATE")
        return named


def _noted(sku: str | None, code: str, message: str, *, retryable: bool = False) -> SyncError:
    return SyncError(None if sku is None else storable(sku), code, storable(message), retryable)


def _changes(
    sku: str,
    product_id: UUID,
    warehouse: str,
    before: tuple[Decimal, Decimal],
    after: tuple[Decimal, Decimal],
    kind: str,
) -> list[StockChange]:
    return [
        StockChange(sku, product_id, name, old, new, "ERP", kind, warehouse)
        for name, old, new in zip(("stock_total", "stock_available"), before, after, strict=True)
        if old != new
    ]


def told(remark: Remark) -> str:
    """A remark of a parser as one sentence."""
    what = "" if remark.field is None else f" {remark.field}"
    raw = "" if remark.raw is None else f": {remark.raw}"
    return f"{remark.where}{what}{raw}"
