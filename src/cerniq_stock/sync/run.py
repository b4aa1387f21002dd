"""One run of an integration: fetch, compare, guard, apply, log (§4.5, READING 20 to 30).

Everything that arrives is staged before anything is changed, so a source that fails in the middle
changes nothing.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

from cerniq_stock import validate, wire
from cerniq_stock.erp.options import check_warehouses
from cerniq_stock.erp.source import Source, Watermark
from cerniq_stock.erp.text import trimmed
from cerniq_stock.errors import CerniqError
from cerniq_stock.store.ids import new_id
from cerniq_stock.store.staging import Staging, staging
from cerniq_stock.sync.applying import Applying, Progress
from cerniq_stock.sync.reading import Reading, Rows
from cerniq_stock.sync.result import (
    MOST_ERRORS,
    MOST_PLANNED,
    MOST_TOLD,
    Asked,
    Integration,
    SyncResult,
    SyncType,
    Tally,
)

LISTED = 1_000
"""SKUs that a result lists, of those that one side does not know."""
_IF_RIGHT = "; if that is right: --accept-snapshot, or acceptSnapshot"
GUARDED = SyncType.FULL, SyncType.INCREMENTAL
"""What nobody has named single products for."""
NEXT = {SyncType.FULL: timedelta(hours=1)}
NEXT_OTHERWISE = timedelta(minutes=15)


class SnapshotRefusedError(CerniqError):
    """A snapshot that looks like a mistake; a person may accept it (READING 27)."""

    code = "SNAPSHOT_REFUSED"
    retryable = False


class Run:
    """One run. Make it, then await `result`, or `applied` for a dry run's plan."""

    def __init__(
        self, dsn: str, integration: Integration, asked: Asked, *, progress: Progress
    ) -> None:
        self.id = new_id()
        self._dsn = dsn
        self._of = integration
        self._asked = asked
        self._strategy = asked.strategy or integration.options.conflict_resolution
        self._progress = progress
        self._tally = Tally(MOST_PLANNED if asked.dry else MOST_TOLD)
        self._started_at = datetime.now(UTC)
        self._unknown: list[str] = []
        self._missing: list[str] = []
        self._unknown_count = 0

    async def result(self, source: Source, *, incremental: bool, by_sku: bool) -> SyncResult:
        """Run to the end. Raises BusyError, SnapshotRefusedError, ErpError, PayloadError."""
        async with self._staging() as staged:
            check_warehouses(self._of.options, self._of.warehouses)
            reading = Reading(staged, self._asked, self._of, self._tally)
            whole = await reading.read(source, incremental=incremental, by_sku=by_sku)
            await self._bring_in(staged, whole=whole, in_part=not whole)
            moves_on = self._moves_on(whole=whole)
            return await self._logged(staged, reading.watermark if moves_on else None, whole=whole)

    def _moves_on(self, *, whole: bool) -> bool:
        """Whether the next reading may go on from where this one ended.

        Changes of which some could not be used are read again, until the next whole reading.
        """
        reads_on = self._asked.kind in (SyncType.FULL, SyncType.INCREMENTAL)
        return reads_on and not self._asked.dry and (whole or not self._tally.errors)

    async def applied(self, sync_id: str) -> SyncResult:
        """Apply what a dry run has planned, where it is as it was. Raises BusyError."""
        async with self._staging() as staged:
            await staged.gather()
            await staged.own("stage_plan", self._of.tenant_id, sync_id)
            await self._bring_in(staged, whole=False, in_part=False)
            return await self._logged(staged, None)

    @asynccontextmanager
    async def _staging(self) -> AsyncIterator[Staging]:
        """Have the integration's turn, and the run written down from its beginning to its end."""
        of, asked = self._of, self._asked
        async with staging(self._dsn, of.tenant_id, of.id) as staged:
            await staged.log("log_cut_off", of.id)
            run = self.id, of.id, of.erp_system, asked.kind.value, self._started_at, asked.dry
            await staged.log("log_start", *run)
            try:
                yield staged
            except BaseException as error:
                await self._broken_off(staged, error)
                raise

    # -- bringing in ------------------------------------------------------------------------

    async def _bring_in(self, staged: Staging, *, whole: bool, in_part: bool) -> None:
        asked, of, options = self._asked, self._of, self._of.options
        await self._progress(10)
        await self._leave_alone(staged)
        counted = await staged.find(
            of.tenant_id,
            of.id,
            force=asked.force,
            use_available=options.use_erp_available,
            prices=options.sync_prices,
            statuses=options.sync_status,
            warehouses=of.warehouses,
            in_part=in_part,
        )
        usable = counted["rows"] - counted["broken"]
        if not asked.accept:
            await self._guard(staged, usable, whole=whole)
        if whole:
            await self._find_missing(staged, counted["remembered"])
        elif asked.skus:
            rows = Rows(of, self._tally)
            wanted = [rows.sku(trimmed(sku)) for sku in asked.skus]
            not_told = await staged.own("not_told", wanted)
            self._missing = sorted(row["sku"] for row in not_told)
        applying = Applying(
            *(self._dsn, of, asked, self._strategy),
            run_id=self.id,
            tally=self._tally,
            progress=self._progress,
        )
        await self._meet_strangers(staged, applying)
        await self._warn_of_others(staged)
        if options.sync_prices and counted["foreign_prices"]:
            await self._warn_of_prices(staged)
        figures = self._tally.statistics
        figures.total_products = counted["rows"]
        figures.products_checked = usable
        levels = (await staged.counted())["levels"]
        figures.products_skipped = figures.products_checked - levels
        has_conflicts = (await staged.log("has_conflicts", of.id))[0][0]
        async with staged.by_keys():
            await applying.levels(staged, all_plain=not has_conflicts)
            await applying.products(staged)
        await self._progress(100)

    async def _leave_alone(self, staged: Staging) -> None:
        """Find the figures that cannot be used."""
        for sku, warehouse in await staged.each("conflicting", MOST_ERRORS):
            text = f"{warehouse}: the same row with other figures"
            self._tally.error(sku, "CONFLICTING_DUPLICATE", text)
        for sku, warehouse in await staged.each("too_much", validate.MAX_STOCK):
            self._tally.error(sku, "TOO_MUCH", f"{warehouse}: more than a level can hold")

    async def _guard(self, staged: Staging, rows: int, *, whole: bool) -> None:
        """Refuse what is more likely a mistake of the source than the truth (READING 27)."""
        if whole:
            await self._guard_rows(staged, rows)
        if self._asked.kind in GUARDED:
            await self._guard_stock(staged, whole=whole)

    async def _guard_rows(self, staged: Staging, rows: int) -> None:
        """Refuse a catalogue that has shrunk too much."""
        of, options = self._of, self._of.options
        if not rows and self._tally.errors:
            raise SnapshotRefusedError(f"None of the rows can be used: {self._errors_in_short()}")
        if not rows:
            raise SnapshotRefusedError(f"The ERP answers with no stock at all{_IF_RIGHT}")
        last = await staged.log("last_snapshot", of.id)
        before = last[0][0] if last else 0
        if rows < options.min_rows_share * before:
            raise SnapshotRefusedError(
                f"The snapshot has {rows:,} rows that can be used, the last one had {before:,}; at"
                f" least {options.min_rows_share:.0%} of them are expected"
                f"{self._errors_in_short(' (')}{_IF_RIGHT}"
            )

    async def _guard_stock(self, staged: Staging, *, whole: bool) -> None:
        """Refuse to empty too much of what can be sold, be it by changes."""
        of, options = self._of, self._of.options
        rows = await staged.each("emptied", of.tenant_id, options.use_erp_available)
        emptied = sum(row["levels"] for row in rows)
        if not emptied or (emptied == 1 and options.max_zero_share):
            return
        if whole:
            rows = await staged.each("stocked", of.tenant_id)
        else:
            rows = await staged.log("stocked_in_all", of.id)
        stocked = sum(row["levels"] for row in rows)
        if emptied > options.max_zero_share * stocked:
            raise SnapshotRefusedError(
                f"The {'snapshot' if whole else 'changes'} would empty {emptied:,} of {stocked:,}"
                f" levels with stock; at most {options.max_zero_share:.0%} are"
                f" expected{_IF_RIGHT}"
            )

    def _errors_in_short(self, opening: str = "") -> str:
        """What is wrong with the rows, the commonest first, and an example of it."""
        tally = self._tally
        if not tally.errors:
            return ""
        counts = ", ".join(f"{code} ({n:,})" for code, n in tally.codes.most_common(3))
        commonest = tally.codes.most_common(1)[0][0]
        example = next(x for x in tally.errors if x.code == commonest)
        of_what = "" if example.sku is None else f"{example.sku}: "
        told = f"{counts}, such as {of_what}{example.message}"
        return f"{opening}{told})" if opening else told

    async def _find_missing(self, staged: Staging, remembered: int) -> None:
        """List what this integration has told of before and no longer does; it is never zeroed."""
        of = self._of
        ((known,),) = await staged.log("count_remembered", of.id)
        if known == remembered:
            return
        for row in await staged.own("missing", of.tenant_id, of.id, more=(LISTED,)):
            if row["whole"]:
                self._missing.append(row["sku"])
            else:
                gone = ", ".join(row["warehouses"])
                self._tally.warn(row["sku"], "LEVEL_MISSING", f"not told of any more: {gone}")
        self._missing = sorted(self._missing)[:LISTED]

    async def _meet_strangers(self, staged: Staging, applying: Applying) -> None:
        """Make the products that only the ERP has, or list them."""
        tenant = self._of.tenant_id
        count = (await staged.counted())["unknown"]
        if not count:
            return
        for sku, ours in await staged.each("unknown_but_for_case", tenant, LISTED):
            text = f"{ours} here differs only by case"
            self._tally.warn(sku, "SKU_DIFFERS_ONLY_BY_CASE", text)
        if self._of.options.create_unknown:
            await applying.make_products(staged, count)
            return
        listed = await staged.each("unknown_skus", LISTED)
        self._unknown = sorted(row["sku"] for row in listed)[:LISTED]
        self._unknown_count = count

    async def _warn_of_others(self, staged: Staging) -> None:
        """Two who tell of one level would take turns at it."""
        if not await staged.log("others", self._of.id):
            return
        told: dict[str, int] = {}
        for system, levels in await staged.each("told_by_others", self._of.tenant_id, self._of.id):
            told[system] = told.get(system, 0) + levels
        for system, levels in sorted(told.items()):
            text = f"{levels:,} of these levels are told by {system}, too; the last one counts"
            self._tally.warn(None, "TOLD_BY_ANOTHER", text)

    async def _warn_of_prices(self, staged: Staging) -> None:
        """A price of no currency is no price in another one than lei."""
        for sku, ours in await staged.each("foreign_prices", self._of.tenant_id, MOST_ERRORS):
            text = f"a price without a currency does not replace one in {ours}"
            self._tally.warn(sku, "PRICE_WITHOUT_CURRENCY", text)

    # -- the end ----------------------------------------------------------------------------

    async def _broken_off(self, staged: Staging, error: BaseException) -> None:
        """Whatever ended it, write it down where that is still possible."""
        code = getattr(error, "code", type(error).__name__)
        said = str(error) if isinstance(error, CerniqError) else "The run was broken off"
        retryable = bool(getattr(error, "retryable", True))
        self._tally.broken_off(code, said, retryable=retryable)
        with suppress(Exception):
            await self._logged(staged, None, failed=True)

    async def _logged(
        self,
        staged: Staging,
        watermark: Watermark | None,
        *,
        whole: bool = False,
        failed: bool = False,
    ) -> SyncResult:
        """Write the run down; the watermark moves in the same step, after the rows are stored."""
        result = self._result(failed=failed)
        status = "FAILED" if failed else "SUCCESS" if result.success else "PARTIAL"
        of, tally = self._of, self._tally
        told = {
            **wire.to_wire(result),
            "whole": whole,
            "asked": {"force": self._asked.force, "strategy": self._strategy},
        }
        async with staged.together():
            await staged.log(
                "log_end",
                *(self.id, status, wire.dumps(result.statistics)),
                *(tally.changes_count, tally.conflicts_count, result.statistics.errors_count),
                result.errors[0].message if failed else None,
                *(result.completed_at, result.duration, wire.dumps(told)),
            )
            if not result.dry_run:
                mark = None if watermark is None else wire.dumps(watermark)
                done = of.id, result.completed_at, status, mark, of.revision
                await staged.log("finish_integration", *done)
        return result

    def _result(self, *, failed: bool) -> SyncResult:
        tally, now = self._tally, datetime.now(UTC)
        return SyncResult(
            success=not failed and not tally.errors,
            sync_id=self.id,
            sync_type=self._asked.kind.value,
            erp_system=self._of.erp_system,
            started_at=self._started_at,
            completed_at=now,
            duration=round((now - self._started_at).total_seconds() * 1_000),
            statistics=tally.statistics,
            changes=tuple(tally.changes),
            conflicts=tuple(tally.conflicts),
            errors=tuple(tally.errors),
            next_sync_recommended=now + NEXT.get(self._asked.kind, NEXT_OTHERWISE),
            warnings=tuple(tally.warnings),
            unknown=tuple(self._unknown),
            missing=tuple(self._missing),
            changes_count=tally.changes_count,
            unknown_count=self._unknown_count,
            dry_run=self._asked.dry,
        )
