"""Writes down how jobs ended: those that end at one time, in one statement.

Their tickets go after that. Should a worker die in between, the job runs once more, changes nothing
and finds its end written down.
"""

import asyncio
import json
from typing import Any, NamedTuple, Self

import asyncpg
import structlog

from cerniq_stock.jobs.attempt import Done, Outcome
from cerniq_stock.jobs.pg_queue import SQL
from cerniq_stock.jobs.tickets import Ticket
from cerniq_stock.store.trouble import LOST

log = structlog.get_logger("cerniq_stock.jobs")

RETRY_DELAY_S = 0.2
MOST = 200


class Ended(NamedTuple):
    """A job that ended for good, and who waits for that to be stored."""

    ticket: Ticket
    outcome: Outcome
    stored: "asyncio.Future[None]"


class Finisher:
    """While one transaction commits the next gathers. Enter it to start."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._ended: list[Ended] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start."""
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop. What is not stored yet runs again on another worker, without a second effect."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def finish(self, ticket: Ticket, outcome: Outcome) -> None:
        """Return when the job's end is stored durably."""
        stored = asyncio.get_running_loop().create_future()
        self._ended.append(Ended(ticket, outcome, stored))
        self._wake.set()
        await stored

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._ended:
                batch, self._ended = self._ended[:MOST], self._ended[MOST:]
                await self._store(batch)
                for ended in batch:
                    if not ended.stored.done():
                        ended.stored.set_result(None)

    async def _store(self, batch: list[Ended]) -> None:
        """Store until it is stored: the database may be away for a while."""
        while True:
            try:
                await self._pool.execute(SQL["finish"], *zip(*map(_row, batch), strict=True))
            except (*LOST, asyncpg.DeadlockDetectedError, TimeoutError) as error:
                log.warning("ends of jobs not stored yet", jobs=len(batch), error=str(error))
                await asyncio.sleep(RETRY_DELAY_S)
            else:
                return


def _row(ended: Ended) -> tuple[Any, ...]:
    tenant_id, job_id, _, _ = ended.ticket
    outcome = ended.outcome
    if isinstance(outcome, Done):
        result = json.dumps(outcome.result, ensure_ascii=False, separators=(",", ":"))
        return tenant_id, job_id, "COMPLETED", result, None, None, 1
    # this attempt was counted when it failed
    return tenant_id, job_id, "FAILED", None, outcome.error, outcome.traceback, 0
