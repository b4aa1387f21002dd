"""Applies what was staged: levels that are plain by one statement a chunk, the others one by one.

Each chunk is a transaction that locks, decides and writes like any other batch of the engine. A run
that dies is simply run again: what it has applied is remembered and found unchanged.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any

import asyncpg

from cerniq_stock.domain.commands import SyncLevel
from cerniq_stock.domain.model import DECIMAL_PLACES
from cerniq_stock.domain.outcomes import Refused, SyncedLevel
from cerniq_stock.domain.sync import FOR_A_PERSON, Figure, Remembered, Strategy, Verdict
from cerniq_stock.store.database import plan_again
from cerniq_stock.store.ids import id_block
from cerniq_stock.store.staging import CHUNK, LANES, Bringing, Lane, Staging, lane_of, side_by_side
from cerniq_stock.store.staging import SQL as STAGING
from cerniq_stock.store.syncing import columns
from cerniq_stock.store.transaction import Transaction
from cerniq_stock.store.writer import Link
from cerniq_stock.sync.reading import erp_total
from cerniq_stock.sync.result import Asked, Integration, StockChange, Tally

LINKS = 2
"""Transactions side by side: they lock different levels, and PostgreSQL works on one meanwhile."""
RECONNECT_S = 10.0

Progress = Callable[[int], Awaitable[None]]
"""Is told the percentage that is done, from 0 to 100."""
First = Callable[[asyncpg.Connection], Awaitable[None]]
"""Makes what a dry transaction is to suppose."""


class Applying:
    """What one run brings in, and how far it is."""

    def __init__(
        self,
        dsn: str,
        of: Integration,
        asked: Asked,
        strategy: Strategy,
        *,
        run_id: str,
        tally: Tally,
        progress: Progress,
    ) -> None:
        self._dsn = dsn
        self._of = of
        self._asked = asked
        self._strategy = strategy
        self._run_id = run_id
        self._tally = tally
        self._progress = progress
        self._by = f"erp:{of.erp_system}"
        self._done = 0
        self._all = 0

    async def make_products(self, staged: Staging, unknown: int) -> None:
        """Make the products that are unknown, and stage their levels; a dry run does the latter."""
        tenant, unit = self._of.tenant_id, self._of.options.default_unit
        if not self._asked.dry:
            async with staged.by_keys():
                await staged.in_chunks("make_products", "unknown", tenant, more=(unit,))
            told = await staged.each("made_products", tenant, self._tally.most)
        else:
            told = await staged.each("unknown_products", self._tally.most)
        self._tally.statistics.products_created += unknown
        self._tally.changes_count += unknown
        for row in sorted(told, key=itemgetter("sku")):
            made = row["sku"], row["product_id"], "status", None, row["status"], "ERP", "CREATE"
            self._tally.tell(StockChange(*made))
        options = self._of.options.use_erp_available, DECIMAL_PLACES[unit], self._of.warehouses
        await staged.each("compare_made", tenant, *options)

    async def levels(self, staged: Staging, *, all_plain: bool) -> None:
        """Bring the levels in. Not `all_plain`: a person has conflicts open that may be over."""
        self._all = (await staged.counted())["levels"]
        named = await side_by_side(self._plain(lane) for lane in staged.lanes)
        # Whichever lane was faster: a dry run and the run itself name the same. Of what is too much
        # to be named, those are the first whose ids are.
        first = sorted(chain(*named), key=attrgetter("product_id", "warehouse"))
        first = first[: self._tally.most]
        for change in sorted(first, key=attrgetter("sku", "warehouse")):
            self._tally.tell(change)
        links = [Link(self._dsn, RECONNECT_S) for _ in range(LINKS)]
        try:
            async for rows in staged.left_over(LINKS * CHUNK):
                commands = [self._command(row) for row in rows]
                answers = await self._decided(links, commands, await self._would_be(staged, rows))
                await self._told(staged, rows, commands, answers, may_end=not all_plain)
                await self._report(len(rows))
        finally:
            for link in links:
                await link.close()

    async def _plain(self, lane: Lane) -> list[StockChange]:
        """Apply what is plain, and name the first changes.

        What is not plain is marked, and decided one by one later.
        """
        named: list[StockChange] = []
        (counted,) = await lane.fetch("count_staged")
        tally, of, asked = self._tally, self._of, self._asked
        how = Bringing(of.tenant_id, of.id, self._run_id, self._by, asked.force, asked.dry)
        for n, start in enumerate(range(0, counted["levels"], CHUNK), 1):
            if plan_again(n):  # levels may be made, and keys be checked on tables that were empty
                await lane.connection.execute("DISCARD PLANS")
            until = min(start + CHUNK, counted["levels"])
            more = max(tally.most - len(named), 0)
            rows = await lane.apply_plain(how, start, until, told=more)
            named += tally.plain(rows)
            await self._report(rows[0]["decided"])
        return named

    async def _report(self, levels: int) -> None:
        self._done += levels
        await self._progress(10 + 85 * self._done // max(self._all, 1))

    async def _would_be(self, staged: Staging, rows: Sequence[asyncpg.Record]) -> First | None:
        """In a dry run, products have to be supposed that a run would have made by now."""
        if not (self._asked.dry and self._of.options.create_unknown):
            return None
        made = await staged.each("would_be", [row["sku"] for row in rows])
        tenant, unit = self._of.tenant_id, self._of.options.default_unit
        supposed = [(tenant, x["product_id"], x["sku"], unit, x["status"]) for x in made]

        async def first(connection: asyncpg.Connection) -> None:
            await connection.executemany(STAGING["suppose_product"], supposed)

        return first

    async def _decided(
        self, links: Sequence[Link], commands: Sequence[SyncLevel], first: First | None
    ) -> list[Any]:
        parts = [commands[n * CHUNK : (n + 1) * CHUNK] for n in range(LINKS)]
        if first is not None:  # one after the other, as both would suppose the same products
            links = [links[0]]
            parts = [list(commands)]
        answers = await side_by_side(
            link.run(Transaction(self._of.tenant_id, part, dry=self._asked.dry, first=first))
            for link, part in zip(links, parts, strict=True)
            if part
        )
        return list(chain(*answers))

    def _command(self, row: asyncpg.Record) -> SyncLevel:
        known = None
        if row["erp_total"] is not None:
            names = "erp_total", "local_total", "agreed_total", "pending", "blocked"
            known = Remembered(*(row[name] for name in names))
        return SyncLevel(
            None,
            b"",
            self._by,
            None,
            row["sku"],
            row["warehouse"],
            Figure(row["total"], row["available"]),
            known,
            self._strategy,
            self._of.id,
            self._run_id,
            force=self._asked.force,
            alert=not row["open"],
            version=row["version"],
        )

    async def _told(
        self,
        staged: Staging,
        rows: Sequence[asyncpg.Record],
        commands: Sequence[SyncLevel],
        answers: Sequence[Any],
        *,
        may_end: bool,
    ) -> None:
        open_, settled, planned = [], [], []
        for row, command, answer in zip(rows, commands, answers, strict=True):
            if isinstance(answer, Refused):
                self._tally.error(command.sku, answer.code, answer.message)
                continue
            assert isinstance(answer, SyncedLevel), answer
            if answer.verdict is Verdict.MOVED:
                self._tally.error(command.sku, "MOVED", f"{command.warehouse}: it has moved since")
                continue
            self._tally.level(answer, erp_total(command.figure.total), self._strategy)
            if answer.verdict in FOR_A_PERSON:
                open_.append((command, answer))
            else:
                settled.append(answer)
            # all of it: applying is to learn and to ask for the same
            planned.append((row["place"], command, answer))
        if self._asked.dry:
            await self._plan(staged, planned)
            return
        if open_:
            await self._keep(staged, open_)
        if may_end and settled:
            pairs = [(level.product_id, level.warehouse) for level in settled]
            await staged.log("end_conflicts", self._of.id, self._run_id, *columns(pairs, 2))

    async def _plan(
        self, staged: Staging, planned: Sequence[tuple[int, SyncLevel, SyncedLevel]]
    ) -> None:
        levels = [
            (
                place * LANES + lane_of(level.sku),
                *(level.sku, level.warehouse, level.version),
                *(command.figure.total, command.figure.available),
            )
            for place, command, level in planned
        ]
        await staged.log("plan_levels", self._run_id, *columns(levels, 6))

    async def _keep(self, staged: Staging, open_: Sequence[tuple[SyncLevel, SyncedLevel]]) -> None:
        ids = id_block(datetime.now(UTC), len(open_))
        conflicts = [
            (
                *(id_, level.product_id, level.sku, level.warehouse, level.verdict.value),
                *(level.previous_total, erp_total(command.figure.total)),
                *(command.figure.available, command.known and command.known.last_equal),
            )
            for id_, (command, level) in zip(ids, open_, strict=True)
        ]
        of = self._of
        await staged.log(
            "keep_conflicts", of.id, of.erp_system, self._run_id, *columns(conflicts, 9)
        )

    async def products(self, staged: Staging) -> None:
        """Bring prices and states in."""
        tenant, tally = self._of.tenant_id, self._tally
        told = await staged.each("told_product_changes", tally.most)
        for row in sorted(told, key=itemgetter("sku")):
            for name in ("price", "currency", "status"):
                if row[f"new_{name}"] is not None:
                    was, new = row[name], row[f"new_{name}"]
                    change = row["sku"], row["product_id"], name, was, new, "ERP", "UPDATE"
                    tally.tell(StockChange(*change))
        tally.changes_count += sum(
            row["fields"] for row in await staged.each("count_product_changes")
        )
        if self._asked.dry:
            create = self._of.options.create_unknown
            await side_by_side(
                lane.fetch("plan_products", tenant, self._run_id, LANES, lane.number, create)
                for lane in staged.lanes
            )
            return
        await staged.in_chunks("change_products", "products", tenant)
