"""What keeps the tables of jobs small and whole: retention, lost tickets, gauges."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import asyncpg
import structlog
from pgqueuer.types import JobId

from cerniq_stock.jobs import tickets
from cerniq_stock.jobs.catalogue import CATALOGUE
from cerniq_stock.jobs.metrics import Metrics
from cerniq_stock.jobs.pg_queue import SQL
from cerniq_stock.jobs.rates import Rates
from cerniq_stock.jobs.tickets import Ticket
from cerniq_stock.service import Stock
from cerniq_stock.store.syncing import prune_plans
from cerniq_stock.store.trouble import LOST

log = structlog.get_logger("cerniq_stock.jobs")

EVERY_S = 30.0
GAUGES_EVERY_S = 5.0
PLANS_EVERY_S = 3_600.0
MOST_PICKS = 10
"""So often a job may be begun without an end before nobody begins it again."""


class Upkeep:
    """`pool` acts as cerniq_operator. Of a queue elsewhere it does not show the `depth`."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        stock: Stock,
        rates: Rates,
        metrics: Metrics,
        *,
        depth: bool = True,
    ) -> None:
        self._pool = pool
        self._depth = depth
        self._rates = rates
        self._metrics = metrics
        self._stock = stock
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Let `run` return."""
        self._stopping.set()

    async def run(self) -> None:
        """Go on until stopped, over outages of the database."""
        while not self._stopping.is_set():
            try:
                await self.look()
                if await self._rates.turn("upkeep", EVERY_S):
                    await self.replace_lost()
                    await self.fail_poison()
                    await self.prune()
                if await self._rates.turn("plans", PLANS_EVERY_S):
                    await prune_plans(self._pool)
            except (*LOST, asyncpg.PostgresError, TimeoutError) as error:
                log.warning("upkeep put off", error=repr(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), GAUGES_EVERY_S)

    async def prune(self) -> None:
        """Forget finished jobs by age and by count (§8.1)."""
        async with self._pool.acquire() as connection:
            for kind in CATALOGUE.values():
                keep = kind.retention
                await connection.execute(
                    SQL["prune_by_age"], kind.name, keep.completed_s, keep.failed_s
                )
                await connection.execute(SQL["prune_by_count"], kind.name, keep.completed_count)
            await connection.execute(SQL["prune_log"])
            await connection.execute(SQL["prune_rates"])

    async def replace_lost(self) -> int:
        """Give unfinished jobs without a ticket a new one; returns how many there were."""
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(SQL["lost"])
            if not rows:
                return 0
            issued: list[JobId] = await tickets.queries(connection).enqueue(
                [row["name"] for row in rows],
                list(map(_packed, rows)),
                [tickets.priority(row["priority"], row["turn"]) for row in rows],
                [row["delay"] for row in rows],
            )
            columns = zip(
                *[
                    (row["tenant_id"], row["id"], new)
                    for row, new in zip(rows, issued, strict=True)
                ],
                strict=True,
            )
            await connection.execute(SQL["new_ticket"], *columns)
            log.warning("jobs had lost their tickets", jobs=len(rows))
            return len(rows)

    async def fail_poison(self) -> int:
        """End jobs that were begun more often than any attempts explain; returns how many."""
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(SQL["fail_poison"], MOST_PICKS)
            if rows:
                await tickets.queries(connection).mark_job_as_cancelled(
                    [row["ticket"] for row in rows]
                )
                log.error("jobs whose workers died again and again", jobs=len(rows))
            return len(rows)

    async def look(self) -> None:
        """Bring the gauges up to date."""
        async with self._pool.acquire() as connection:
            depth = await connection.fetch(SQL["depth"])
            lag_s = await connection.fetchval(SQL["expiry_lag"])
        self._metrics.expiry_lag_s.set(lag_s or 0.0)
        self._metrics.writer_waiting.set(self._stock.waiting)
        if not self._depth:
            return
        found = {(row["name"], row["state"]): row for row in depth}
        for name in CATALOGUE:
            for state in ("WAITING", "DELAYED", "ACTIVE"):
                row = found.get((name, state))
                self._metrics.queue_depth.labels(name, state).set(
                    0 if row is None else row["count"]
                )
            waiting = found.get((name, "WAITING"))
            self._metrics.oldest_s.labels(name).set(0 if waiting is None else waiting["oldest_s"])


def _packed(row: Any) -> bytes | None:
    payload = json.loads(row["payload"])
    return tickets.pack(
        Ticket(row["tenant_id"], row["id"], row["effect_key"], row["trace_id"], payload)
    )
