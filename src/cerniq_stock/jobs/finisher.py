"""Writes down how jobs ended: those that end at one time, in one statement.

Their tickets go after that. Should a worker die in between, the job runs once more, changes nothing
and finds its end written down.
"""

import asyncio
import json
from typing import Any, NamedTuple

import asyncpg
import structlog

from cerniq_stock.jobs.attempt import Done, Failed, Outcome, kept
from cerniq_stock.jobs.pg_queue import SQL
from cerniq_stock.jobs.tickets import Ticket
from cerniq_stock.store.trouble import LOST

log = structlog.get_logger("cerniq_stock.jobs")

RETRY_DELAY_S = 0.2
MOST = 200


class Ended(NamedTuple):
    """How a job ended for good, as a row, and who waits for that to be stored."""

    row: tuple[Any, ...]
    stored: "asyncio.Future[None]"


class Finisher:
    """While one statement commits the next gathers. `run` is the worker's to keep running."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._ended: list[Ended] = []
        self._wake = asyncio.Event()

    async def finish(self, ticket: Ticket, outcome: Outcome) -> None:
        """Return when the job's end is stored durably."""
        stored = asyncio.get_running_loop().create_future()
        self._ended.append(Ended(_row(ticket, outcome), stored))
        self._wake.set()
        await stored

    async def run(self) -> None:
        """Store until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._ended:
                batch, self._ended = self._ended[:MOST], self._ended[MOST:]
                await self._store(batch)

    async def _store(self, batch: list[Ended]) -> None:
        """Store until it is stored: the database may be away, or its tables locked, for a while."""
        while True:
            try:
                await self._pool.execute(
                    SQL["finish"], *zip(*(ended.row for ended in batch), strict=True)
                )
            except asyncpg.DataError as error:
                await self._store_apart(batch, error)
                return
            except (*LOST, asyncpg.PostgresError, TimeoutError) as error:
                log.warning("ends of jobs not stored yet", jobs=len(batch), error=str(error))
                await asyncio.sleep(RETRY_DELAY_S)
            else:
                for ended in batch:
                    if not ended.stored.done():
                        ended.stored.set_result(None)
                return

    async def _store_apart(self, batch: list[Ended], error: Exception) -> None:
        """One result that cannot be stored fails alone."""
        if len(batch) > 1:
            for ended in batch:
                await self._store([ended])
            return
        ((row, stored),) = batch
        unstorable = Failed(f"RESULT_NOT_STORED: {error}", None, for_good=True)
        await self._store([Ended((*row[:2], *_told(unstorable)), stored)])


def _row(ticket: Ticket, outcome: Outcome) -> tuple[Any, ...]:
    try:
        told = _told(outcome)
    except (TypeError, ValueError) as error:
        told = _told(Failed(f"RESULT_NOT_STORED: {error}", None, for_good=True))
    return ticket.tenant_id, ticket.job_id, *told


def _told(outcome: Outcome) -> tuple[Any, ...]:
    if isinstance(outcome, Done):
        result = json.dumps(
            outcome.result, ensure_ascii=False, separators=(",", ":"), allow_nan=False
        )
        return "COMPLETED", result, None, None, 1
    # this attempt was counted when it failed
    return "FAILED", None, kept(outcome.error), kept(outcome.traceback), 0
