"""One run of an integration: fetch, compare, resolve, apply, log (§4.5, READING 20 to 30).

Everything that arrives is staged before anything is changed, so a source that fails in the middle
changes nothing. What may have to change is applied chunk by chunk, each in a transaction that
locks, decides and writes like any other batch of the engine. A run that dies is simply run again:
what it has applied is remembered and found unchanged.
"""

import asyncio
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from cerniq_stock import validate, wire
from cerniq_stock.domain.commands import SyncLevel
from cerniq_stock.domain.messages import plain
from cerniq_stock.domain.outcomes import Refused, SyncedLevel
from cerniq_stock.domain.sync import Figure, Remembered, Verdict
from cerniq_stock.erp.options import SyncOptions
from cerniq_stock.erp.rows import ErpRow, Parsed
from cerniq_stock.erp.source import Source, Watermark
from cerniq_stock.errors import CerniqError, InvalidInputError
from cerniq_stock.store.ids import id_block, new_id
from cerniq_stock.store.syncing import Incoming, Staging, columns, staging
from cerniq_stock.store.transaction import Transaction
from cerniq_stock.store.writer import Link
from cerniq_stock.sync.result import (
    MOST_TOLD,
    Asked,
    StockChange,
    SyncError,
    SyncResult,
    SyncType,
    Tally,
    told,
)

CHUNK = 1_000
"""Levels of one transaction: what they hold locked is free again within some tens of ms."""
LINKS = 2
"""Transactions side by side: they lock different levels, and PostgreSQL works on one meanwhile."""
RECONNECT_S = 10.0
NEXT = {SyncType.FULL: timedelta(hours=1)}
NEXT_OTHERWISE = timedelta(minutes=15)

Progress = Callable[[int], Awaitable[None]]


class SnapshotRefusedError(CerniqError):
    """A snapshot that looks like a mistake; `forceUpdate` applies it all the same (READING 27)."""

    code = "SNAPSHOT_REFUSED"
    retryable = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """What a run needs to know of an integration. `revision` is its configuration's."""

    tenant_id: UUID
    id: UUID
    erp_system: str
    options: SyncOptions
    warehouses: tuple[str, ...]
    watermark: Watermark | None = None
    revision: int = 1


class Run:
    """One run. Make it, then await `result`."""

    def __init__(
        self, dsn: str, integration: Integration, asked: Asked, *, progress: Progress
    ) -> None:
        self.id = new_id()
        self._dsn = dsn
        self._of = integration
        self._options = integration.options
        self._asked = asked
        self._strategy = asked.strategy or integration.options.conflict_resolution
        self._progress = progress
        self._tally = Tally()
        self._started_at = datetime.now(UTC)
        self._planned = 0

    async def result(self, source: Source, *, incremental: bool, by_sku: bool) -> SyncResult:
        """Run to the end. Raises BusyError, SnapshotRefusedError, ErpError, PayloadError."""
        async with staging(self._dsn, self._of.tenant_id, self._of.id) as staged:
            try:
                whole = await self._fetch(staged, source, incremental=incremental, by_sku=by_sku)
                return await self._bring_in(staged, source, whole=whole)
            except BaseException as error:
                # whatever ended it, it is written down where that is still possible
                with suppress(Exception):
                    await self._log(staged, self._failed(error), failed=True)
                raise

    # -- fetching ---------------------------------------------------------------------------

    async def _fetch(
        self, staged: Staging, source: Source, *, incremental: bool, by_sku: bool
    ) -> bool:
        """Stage all that the source tells; returns whether that is its whole catalogue."""
        asked, since = self._asked, self._of.watermark
        only: frozenset[str] | None = None
        whole = False
        match asked.kind:
            case _ if asked.plan is not None:
                pages = source.everything()
            case SyncType.SELECTIVE if not asked.skus:
                raise InvalidInputError("skus", "A SELECTIVE sync names its SKUs")
            case SyncType.SELECTIVE if by_sku:
                pages = source.of_skus(asked.skus)
            case SyncType.SELECTIVE:
                pages, only = source.everything(), frozenset(asked.skus)
            case SyncType.WEBHOOK:
                pages = source.announced(asked.payload)
            case SyncType.INCREMENTAL if incremental and since is not None:
                pages = source.changed(since)
            case _:
                pages, whole = source.everything(), True
        await self._stage(staged, pages, only)
        await staged.gather()
        if asked.plan is not None:
            await staged.own("stage_plan", asked.plan.sync_id)
        await self._progress(10)
        return whole

    async def _stage(
        self, staged: Staging, pages: AsyncIterator[Parsed], only: frozenset[str] | None
    ) -> None:
        async for page in pages:
            rows = [
                row
                for found in page.rows
                if (only is None or found.sku in only) and (row := self._row(found)) is not None
            ]
            for remark in page.errors:
                self._tally.error(remark.sku, str(remark.code), told(remark))
                warehouse = self._warehouse(remark.warehouse)
                if remark.sku is not None and warehouse is not None:
                    # of several lots the others are no sum
                    lot = _lot(remark.warehouse, remark.lot)
                    rows.append(
                        (_nfc(remark.sku), warehouse, lot, None, None, None, None, None, True)
                    )
            for remark in page.warnings:
                self._tally.warn(remark.sku, str(remark.code), told(remark))
            await staged.add(rows)

    def _row(self, row: ErpRow) -> Incoming | None:
        warehouse = self._warehouse(row.warehouse)
        if warehouse is None:
            where = f"{row.where}: no warehouse {row.warehouse} here, and none it is mapped to"
            self._tally.error(row.sku, "UNKNOWN_WAREHOUSE", where)
            return None
        if row.total < 0:
            text = f"{row.where}: total {plain(row.total)} is applied as 0"
            self._tally.warn(row.sku, "NEGATIVE_TOTAL", text)
        return (
            _nfc(row.sku),
            warehouse,
            _lot(row.warehouse, row.lot),
            row.total,
            row.available,
            row.price,
            row.currency,
            row.status,
            False,
        )

    def _warehouse(self, theirs: str | None) -> str | None:
        """Our name of the ERP's warehouse; None where there is none."""
        if theirs is None:
            return self._options.default_warehouse or self._of.warehouses[0]
        ours = self._options.warehouses.get(theirs, theirs)
        return ours if ours in self._of.warehouses else None

    # -- bringing in ------------------------------------------------------------------------

    async def _bring_in(self, staged: Staging, source: Source, *, whole: bool) -> SyncResult:
        asked, of = self._asked, self._of
        for sku, warehouse in await staged.fetch("conflicting", 1_000):
            text = f"{warehouse}: the same row with other figures"
            self._tally.error(sku, "CONFLICTING_DUPLICATE", text)
        for sku, warehouse in await staged.fetch("too_much", validate.MAX_STOCK):
            self._tally.error(sku, "TOO_MUCH", f"{warehouse}: more than a level can hold")
        (counted,) = await staged.fetch("count_figures")
        if whole and not asked.force:
            await self._guard(staged, counted["rows"])
        unknown = [row["sku"] for row in await staged.own("unknown_skus", 1_000_000)]
        if self._options.create_unknown and unknown and not asked.dry:
            unknown = await self._create(staged, unknown)
        candidates = await staged.find(
            of.id, force=asked.force, use_available=self._options.use_erp_available
        )
        figures = self._tally.statistics
        figures.total_products = counted["rows"]
        figures.products_checked = counted["rows"] - counted["broken"]
        figures.products_skipped = figures.products_checked - candidates
        missing: list[str] = []
        if whole:
            missing = [row["sku"] for row in await staged.own("missing_skus", of.id, 1_000)]
        await self._apply(staged, candidates)
        await self._change_products(staged)
        await self._progress(100)
        result = self._done(tuple(unknown[:1_000]), tuple(missing))
        reads_on = asked.kind in (SyncType.FULL, SyncType.INCREMENTAL) and asked.plan is None
        moves_on = reads_on and not asked.dry
        await self._log(staged, result, source.watermark if moves_on else None, whole=whole)
        return result

    async def _guard(self, staged: Staging, rows: int) -> None:
        """Refuse what is more likely a mistake of the source than the truth (READING 27)."""
        of, options = self._of, self._options
        if not rows and self._tally.errors:
            first = self._tally.errors[0]
            raise SnapshotRefusedError(
                f"None of the rows can be used; of the first, {first.sku}: {first.message}"
            )
        if not rows:
            raise SnapshotRefusedError("The ERP answers with no stock at all")
        last = await staged.own("last_snapshot", of.id)
        before = last[0][0] if last else 0
        if rows < options.min_rows_share * before:
            raise SnapshotRefusedError(
                f"The snapshot has {rows:,} rows, the last one had {before:,}; at least"
                f" {options.min_rows_share:.0%} of them are expected"
            )
        ((stocked, emptied),) = await staged.own("zeroing")
        if emptied > options.max_zero_share * stocked and emptied > 1:
            raise SnapshotRefusedError(
                f"The snapshot would empty {emptied:,} of {stocked:,} levels with stock; at most"
                f" {options.max_zero_share:.0%} are expected"
            )

    async def _create(self, staged: Staging, skus: Sequence[str]) -> list[str]:
        """Make products; returns the SKUs that none can have."""
        made = [sku for sku in skus if len(sku) <= validate.MAX_SKU]
        for start in range(0, len(made), CHUNK):
            part = made[start : start + CHUNK]
            ids = [uuid4() for _ in part]
            await staged.own("create_products", ids, part, self._options.default_unit)
            self._tally.statistics.products_created += len(part)
            for id_, sku in zip(ids, part, strict=True):
                self._tally.changed(
                    StockChange(sku, id_, "status", None, "ACTIVE", "ERP", "CREATE")
                )
        return [sku for sku in skus if len(sku) > validate.MAX_SKU]

    async def _apply(self, staged: Staging, candidates: int) -> None:
        links = [Link(self._dsn, RECONNECT_S) for _ in range(LINKS)]
        done = 0
        may_end = bool((await staged.own("has_conflicts", self._of.id))[0][0])
        try:
            async for rows in staged.candidates(LINKS * CHUNK):
                commands = [self._command(row) for row in rows]
                parts = [commands[n * CHUNK : (n + 1) * CHUNK] for n in range(LINKS)]
                answers = await asyncio.gather(
                    *(
                        link.run(Transaction(self._of.tenant_id, part, dry=self._asked.dry))
                        for link, part in zip(links, parts, strict=True)
                        if part
                    )
                )
                await self._told(staged, commands, list(chain(*answers)), may_end=may_end)
                done += len(rows)
                await self._progress(10 + 85 * done // max(candidates, 1))
        finally:
            for link in links:
                await link.close()

    def _command(self, row: asyncpg.Record) -> SyncLevel:
        known, plan = None, self._asked.plan
        if row["erp_total"] is not None:
            known = Remembered(
                row["erp_total"],
                row["local_total"],
                row["agreed_total"],
                row["pending"],
                row["blocked"],
            )
        return SyncLevel(
            None,
            b"",
            f"erp:{self._of.erp_system}",
            None,
            row["sku"],
            row["warehouse"],
            Figure(row["total"], row["available"]),
            known,
            self._strategy,
            self._of.id,
            self.id,
            force=self._asked.force,
            alert=not row["open"],
            version=None if plan is None else plan.versions[row["sku"], row["warehouse"]],
        )

    async def _told(
        self,
        staged: Staging,
        commands: Sequence[SyncLevel],
        answers: Sequence[Any],
        *,
        may_end: bool,
    ) -> None:
        open_, settled, planned = [], [], []
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(answer, Refused):
                self._tally.error(command.sku, answer.code, answer.message)
                continue
            assert isinstance(answer, SyncedLevel), answer
            if answer.verdict is Verdict.MOVED:
                self._tally.error(command.sku, "MOVED", f"{command.warehouse}: it has moved since")
                continue
            erp = max(command.figure.total, Decimal(0))
            self._tally.level(answer, erp, self._strategy)
            if answer.verdict in (Verdict.REVIEW, Verdict.SHORT):
                open_.append((command, answer))
            else:
                settled.append(answer)
            if answer.verdict in (Verdict.UPDATED, Verdict.RESOLVED):
                planned.append((command, answer))
        if self._asked.dry:
            await self._plan(staged, planned)
            return
        if open_:
            await self._keep(staged, open_)
        if may_end and settled:
            pairs = [(level.product_id, level.warehouse) for level in settled]
            await staged.own("end_conflicts", self._of.id, self.id, *columns(pairs, 2))

    async def _plan(
        self, staged: Staging, planned: Sequence[tuple[SyncLevel, SyncedLevel]]
    ) -> None:
        rows = [
            (
                *(self._planned + n, level.sku, level.warehouse, level.version),
                *(command.figure.total, command.figure.available),
            )
            for n, (command, level) in enumerate(planned, 1)
        ]
        self._planned += len(rows)
        await staged.own("plan_levels", self.id, *columns(rows, 6))

    async def _keep(self, staged: Staging, open_: Sequence[tuple[SyncLevel, SyncedLevel]]) -> None:
        ids = id_block(datetime.now(UTC), len(open_))
        rows = [
            (
                *(id_, level.product_id, level.sku, level.warehouse, level.verdict.value),
                *(level.previous_total, max(command.figure.total, Decimal(0))),
                *(command.figure.available, command.known and command.known.agreed),
            )
            for id_, (command, level) in zip(ids, open_, strict=True)
        ]
        await staged.own(
            "keep_conflicts", self._of.id, self._of.erp_system, self.id, *columns(rows, 9)
        )

    async def _change_products(self, staged: Staging) -> None:
        options = self._options
        rows = await staged.own("product_changes", options.sync_prices, options.sync_status)
        for row in rows:
            for name in ("price", "status"):
                new = row[f"new_{name}"]
                if new is not None and new != row[name]:
                    change = row["sku"], row["id"], name, row[name], new, "ERP", "UPDATE"
                    self._tally.changed(StockChange(*change))
        new = [
            (row["id"], row["new_price"], row["new_currency"], row["new_status"]) for row in rows
        ]
        if self._asked.dry:
            plan = [
                (self._planned + n, row["sku"], *values[1:])
                for n, (row, values) in enumerate(zip(rows, new, strict=True), 1)
            ]
            self._planned += len(plan)
            await staged.own("plan_products", self.id, *columns(plan, 5))
            return
        for start in range(0, len(new), CHUNK):
            await staged.own("change_products", *columns(new[start : start + CHUNK], 4))

    # -- the end ----------------------------------------------------------------------------

    def _done(self, unknown: tuple[str, ...], missing: tuple[str, ...]) -> SyncResult:
        return self._as_result(unknown=unknown, missing=missing)

    def _failed(self, error: BaseException) -> SyncResult:
        code = getattr(error, "code", type(error).__name__)
        told = str(error) if isinstance(error, CerniqError) else "The run was broken off"
        retryable = bool(getattr(error, "retryable", True))
        self._tally.statistics.errors_count += 1
        self._tally.errors.insert(0, SyncError(None, code, told, retryable))
        return self._as_result(failed=True)

    def _as_result(
        self,
        *,
        unknown: tuple[str, ...] = (),
        missing: tuple[str, ...] = (),
        failed: bool = False,
    ) -> SyncResult:
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
            changes=tuple(tally.changes[:MOST_TOLD]),
            conflicts=tuple(tally.conflicts),
            errors=tuple(tally.errors),
            next_sync_recommended=now + NEXT.get(self._asked.kind, NEXT_OTHERWISE),
            warnings=tuple(tally.warnings),
            unknown=unknown,
            missing=missing,
            changes_count=tally.changes_count,
            dry_run=self._asked.dry,
        )

    async def _log(
        self,
        staged: Staging,
        result: SyncResult,
        watermark: Watermark | None = None,
        *,
        whole: bool = False,
        failed: bool = False,
    ) -> None:
        """Write the run down; the watermark moves in the same step, after the rows are stored."""
        status = "FAILED" if failed else "SUCCESS" if result.success else "PARTIAL"
        of = self._of
        async with staged.together():
            await staged.own(
                "log_run",
                *(self.id, of.id, of.erp_system, result.sync_type, status),
                wire.dumps(result.statistics),
                *(self._tally.changes_count, self._tally.conflicts_count),
                result.statistics.errors_count,
                result.errors[0].message if failed else None,
                *(result.started_at, result.completed_at, result.duration, result.dry_run),
                wire.dumps(
                    {
                        **wire.to_wire(result),
                        "whole": whole,
                        "asked": {"force": self._asked.force, "strategy": self._strategy},
                    }
                ),
            )
            if not result.dry_run:
                mark = None if watermark is None else wire.dumps(watermark)
                await staged.own(
                    "finish_integration", of.id, result.completed_at, status, mark, of.revision
                )


def _nfc(sku: str) -> str:
    """One of the ways in which Unicode writes the same text."""
    return unicodedata.normalize("NFC", sku)


def _lot(warehouse: str | None, lot: str | None) -> str | None:
    """Two of the ERP's warehouses that are one here are summed like lots."""
    return lot if warehouse is None else f"{warehouse}/{lot or ''}"
