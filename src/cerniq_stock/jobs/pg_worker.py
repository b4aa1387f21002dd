"""Runs jobs from PostgreSQL, with PgQueuer.

PgQueuer claims, beats for what runs, takes over what a dead worker left, and wakes us up. Ours are
the attempts and their delays, the timeouts, the results, and that a job ends once.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any

import asyncpg
import structlog
from pgqueuer.errors import PgqException, RetryRequested
from pgqueuer.models import Job
from pgqueuer.qm import QueueManager

from cerniq_stock.jobs import tickets
from cerniq_stock.jobs.attempt import Failed, attempt, kept
from cerniq_stock.jobs.catalogue import CATALOGUE, Kind
from cerniq_stock.jobs.claims import Claims, claiming_queries
from cerniq_stock.jobs.finisher import Finisher
from cerniq_stock.jobs.handlers import FanOut, Running
from cerniq_stock.jobs.metrics import Metrics
from cerniq_stock.jobs.pg_queue import SQL
from cerniq_stock.jobs.rates import Rates
from cerniq_stock.jobs.tickets import Ticket
from cerniq_stock.service import Stock
from cerniq_stock.store.trouble import LOST
from cerniq_stock.sync.syncs import Syncs

log = structlog.get_logger("cerniq_stock.jobs")

BATCH = 100
AHEAD = 4 * BATCH
"""Of each quick kind a worker claims so many: while some run and some are written down, more come.
"""
HEARTBEAT_TIMEOUT_S = 3.0
"""After so long without a sign of life a worker's jobs are taken over."""
POLL_S = 2.0
UNHANDLED_DELAY_S = 1.0
RESTART_DELAY_S = 0.25
RESTART_DELAY_MAX_S = 4.0
SLOW_PAUSE_S = 1.0
"""Every change of the queue wakes every manager; for slow jobs it need not look each time."""

Claiming = Callable[[], Claims]

QUICK = [kind for kind in CATALOGUE.values() if not kind.shared]
SLOW = [kind for kind in CATALOGUE.values() if kind.shared]
"""Whose concurrency PgQueuer counts over all workers: they have a manager of their own."""


class Worker:
    """`pool` acts as cerniq_operator: a worker serves every tenant."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        stock: Stock,
        syncs: Syncs,
        fan_out: FanOut,
        rates: Rates,
        metrics: Metrics,
    ) -> None:
        self._pool = pool
        self._metrics = metrics
        self._stock = stock
        self._fan_out = fan_out
        self._syncs = syncs
        self._rates = rates
        self._managers: list[QueueManager] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = asyncio.Event()
        self._finisher = Finisher(pool)
        self._room = {kind.name: asyncio.Semaphore(kind.concurrency) for kind in CATALOGUE.values()}

    async def run(self) -> None:
        """Work until stopped, over outages of the database."""
        async with asyncio.TaskGroup() as group:
            finishing = group.create_task(self._finisher.run())
            async with asyncio.TaskGroup() as claiming:
                for kinds, claims in self._managed():
                    claiming.create_task(self._run(kinds, claims))
            finishing.cancel()

    def stop(self) -> None:
        """Take no more jobs; `run` returns when those that run have ended."""
        self._stopping.set()
        for manager in self._managers:
            manager.shutdown.set()

    def abandon(self) -> None:
        """Let go of what runs: its tickets are taken over, or issued again by the upkeep."""
        for task in self._tasks:
            task.cancel()
        self._pool.terminate()

    def _managed(self) -> Iterator[tuple[list[Kind], Claiming]]:
        """Kinds that share a manager of PgQueuer, and how they are claimed."""
        free = [kind for kind in QUICK if self._rates.of(kind.name) is None]
        yield free, partial(Claims, self._stopping, most=AHEAD)
        # claimed are only as many as run: another worker may have nothing to do
        free = [kind for kind in SLOW if self._rates.of(kind.name) is None]
        yield free, partial(Claims, self._stopping, pause_s=SLOW_PAUSE_S)
        for kind in (*QUICK, *SLOW):
            if self._rates.of(kind.name) is not None:
                yield [kind], partial(Claims, self._stopping, most=AHEAD, rates=self._rates)

    async def _run(self, kinds: list[Kind], claiming: Claiming) -> None:
        clock = asyncio.get_running_loop().time
        delay_s = RESTART_DELAY_S
        while kinds and not self._stopping.is_set():
            began_at = clock()
            try:
                await self._run_once(kinds, claiming())
            except (*LOST, asyncpg.PostgresError, PgqException, TimeoutError) as error:
                if clock() - began_at > RESTART_DELAY_MAX_S:
                    delay_s = RESTART_DELAY_S  # it has worked in between
                log.warning("the queue does not answer", error=repr(error), again_in_s=delay_s)
                await _pause(self._stopping, delay_s)
                delay_s = min(2 * delay_s, RESTART_DELAY_MAX_S)

    async def _run_once(self, kinds: list[Kind], claims: Claims) -> None:
        manager = QueueManager(
            claiming_queries(self._pool, claims), channel=tickets.SETTINGS.channel
        )
        for kind in kinds:
            limit = kind.concurrency if kind in SLOW else 0
            manager.entrypoint(kind.name, concurrency_limit=limit)(self._handler(kind, claims))
        self._managers.append(manager)
        try:
            await manager.run(
                batch_size=BATCH,
                dequeue_timeout=timedelta(seconds=POLL_S),
                heartbeat_timeout=timedelta(seconds=HEARTBEAT_TIMEOUT_S),
                shutdown_on_listener_failure=True,
                log_aggregation_interval=timedelta(0),
            )
        finally:
            self._managers.remove(manager)

    def _handler(self, kind: Kind, claims: Claims) -> Any:
        async def handle(job: Job) -> None:
            assert job.payload is not None
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            claims.begun(kind.name)
            try:
                await self._handle(kind, tickets.unpack(job.payload))
            except RetryRequested:
                raise
            except Exception as error:
                # whatever it is, the job is not lost: PgQueuer would drop its ticket
                log.exception("a job's attempt could not be handled")
                raise RetryRequested(timedelta(seconds=UNHANDLED_DELAY_S), repr(error)) from error
            finally:
                claims.ended(kind.name)
                self._tasks.discard(task)

        return handle

    async def _handle(self, kind: Kind, ticket: Ticket) -> None:
        wait_s = await self._rates.wait_s(kind.name, ticket.tenant_id)
        if wait_s > 0:
            raise RetryRequested(timedelta(seconds=wait_s), "rate limit")
        outcome = await attempt(
            kind,
            self._running(ticket),
            ticket.payload,
            trace_id=ticket.trace_id,
            metrics=self._metrics,
            room=self._in_room(kind),
        )
        if isinstance(outcome, Failed):
            delay_s = await self._retry_delay_s(kind, ticket, outcome)
            if delay_s is not None:
                raise RetryRequested(timedelta(seconds=delay_s), outcome.error)
        await self._finisher.finish(ticket, outcome)

    @asynccontextmanager
    async def _in_room(self, kind: Kind) -> AsyncIterator[None]:
        """Run among so many of a kind; a job that has not begun at the stop goes back."""
        async with self._room[kind.name]:
            if self._stopping.is_set():
                raise RetryRequested(timedelta(0), "the worker stops")
            yield

    def _running(self, ticket: Ticket) -> Running:
        async def progress(value: Any) -> None:
            async with self._pool.acquire() as connection:
                await connection.execute(
                    SQL["progress"], ticket.tenant_id, ticket.job_id, json.dumps(value)
                )

        key = f"job_{ticket.job_id}"
        about = self._stock, progress, self._fan_out, self._syncs
        return Running(ticket.tenant_id, ticket.job_id, key, *about)

    async def _retry_delay_s(self, kind: Kind, ticket: Ticket, failed: Failed) -> float | None:
        async with self._pool.acquire() as connection:
            attempts = await connection.fetchval(
                SQL["failed_attempt"],
                *ticket[:2],
                kept(failed.error),
                kept(failed.traceback),
            )
        if attempts is None or failed.for_good:
            return None
        return kind.retry_delay_s(attempts, failed.wait_s)


async def _pause(event: asyncio.Event, seconds: float) -> None:
    """Sleep, unless the event comes first."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
