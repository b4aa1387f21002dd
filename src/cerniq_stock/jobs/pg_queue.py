"""Jobs on PostgreSQL: added in a transaction, perhaps the caller's, looked at, taken back."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.resources import files
from typing import Any
from uuid import UUID

import asyncpg
import asyncpg.pool

from cerniq_stock import validate
from cerniq_stock.errors import InvalidInputError, UnavailableError
from cerniq_stock.jobs import tickets
from cerniq_stock.jobs.catalogue import CATALOGUE
from cerniq_stock.jobs.port import (
    MAX_JOB_ID,
    MAX_PRIORITY,
    JobCounts,
    JobState,
    JobView,
    NewJob,
)
from cerniq_stock.jobs.tickets import Ticket
from cerniq_stock.store.ids import new_id
from cerniq_stock.store.queries import parse
from cerniq_stock.store.trouble import LOST

SQL = parse((files("cerniq_stock.jobs") / "queue.sql").read_text(encoding="utf-8"))

MAX_DELAY_S = 366 * 24 * 3_600
MAX_PAYLOAD = 1_000_000

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy


class PostgresQueue:
    """The default transport. `pool` acts as cerniq_app."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def add(
        self,
        tenant_id: UUID,
        jobs: Sequence[NewJob],
        *,
        connection: Connection | None = None,
    ) -> tuple[str, ...]:
        """Add jobs, all or none; returns their ids. One whose id is known is left as it is.

        With `connection` they are added in its transaction: they are there exactly if it commits.
        It may act as any role that may write the engine's tables. Raises InvalidInputError.
        """
        tenant_id = validate.uuid("tenantId", tenant_id)
        checked = [_checked(job) for job in jobs]
        if connection is not None:
            await _see(connection, tenant_id)
            await _add(connection, tenant_id, checked)
        else:
            async with self._as(tenant_id) as own:
                await _add(own, tenant_id, checked)
        return tuple(id_ for id_, _ in checked)

    async def get(self, tenant_id: UUID, job_id: str) -> JobView | None:
        """Look a job up."""
        rows = await self._rows("jobs", tenant_id, job_id, None, None, 1)
        return _view(rows[0]) if rows else None

    async def jobs(
        self,
        tenant_id: UUID,
        *,
        name: str | None = None,
        state: JobState | None = None,
        limit: int = 50,
    ) -> tuple[JobView, ...]:
        """List jobs, the newest first."""
        rows = await self._rows("jobs", tenant_id, None, name, state, limit)
        return tuple(map(_view, rows))

    async def cancel(self, tenant_id: UUID, job_id: str) -> bool:
        """Take back a job that has not begun."""
        async with self._as(tenant_id) as connection:
            ticket = await connection.fetchval(SQL["ticket_to_cancel"], tenant_id, job_id)
            if ticket is None:
                return False
            await tickets.queries(connection).mark_job_as_cancelled([ticket])
            await connection.execute(SQL["cancel"], tenant_id, job_id)
            return True

    async def retry(self, tenant_id: UUID, job_id: str) -> bool:
        """Let a failed job run again, with all its attempts."""
        async with self._as(tenant_id) as connection:
            row = await connection.fetchrow(SQL["job_to_retry"], tenant_id, job_id)
            if row is None:
                return False
            again = NewJob(
                name=row["name"],
                payload=json.loads(row["payload"]),
                priority=row["priority"],
                trace_id=row["trace_id"],
            )
            turn = await _turn(connection, again)
            (ticket,) = await _issue(connection, tenant_id, [(job_id, again)], [turn])
            await connection.execute(SQL["retry"], tenant_id, job_id, ticket, turn)
            return True

    async def counts(self, tenant_id: UUID) -> tuple[JobCounts, ...]:
        """Count a tenant's jobs by kind."""
        found: dict[str, JobCounts] = {}
        for name, state, count, oldest in await self._rows("counts", tenant_id):
            before = found.get(name) or JobCounts(name)
            found[name] = JobCounts(
                name, {**before.states, state: count}, oldest or before.oldest_waiting_at
            )
        return tuple(found[name] for name in CATALOGUE if name in found)

    async def _rows(self, sql: str, tenant_id: UUID, *arguments: Any) -> list[asyncpg.Record]:
        async with self._as(validate.uuid("tenantId", tenant_id)) as connection:
            return await connection.fetch(SQL[sql], tenant_id, *arguments)

    @asynccontextmanager
    async def _as(self, tenant_id: UUID) -> AsyncIterator[Connection]:
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await _see(connection, tenant_id)
                yield connection
        except LOST as error:
            raise UnavailableError("The database does not answer") from error
        except asyncpg.DataError as error:
            raise InvalidInputError("payload", f"The payload cannot be stored: {error}") from error


async def _see(connection: Connection, tenant_id: UUID) -> None:
    await connection.execute(f"SET LOCAL app.tenant = '{tenant_id}'")


def _checked(job: NewJob) -> tuple[str, NewJob]:
    """Refuse what can be no job; whether its payload means anything, its handler says."""
    if job.name not in CATALOGUE:
        known = ", ".join(CATALOGUE)
        raise InvalidInputError("name", f"No kind of job {job.name!r}; there is {known}")
    if not isinstance(job.payload, dict):
        raise InvalidInputError("payload", "payload must be an object")
    if type(job.priority) is not int or not 0 <= job.priority <= MAX_PRIORITY:
        raise InvalidInputError("priority", f"priority must be 0 to {MAX_PRIORITY}")
    if not 0 <= job.delay_s <= MAX_DELAY_S:
        raise InvalidInputError("delay", f"delay must be 0 to {MAX_DELAY_S} seconds")
    id_ = new_id() if job.id is None else validate.text("jobId", job.id, most=MAX_JOB_ID)
    validate.optional_text("traceId", job.trace_id, most=100)
    return id_, job


async def _add(connection: Connection, tenant_id: UUID, jobs: Sequence[tuple[str, NewJob]]) -> None:
    ids = [id_ for id_, _ in jobs]
    known = {row["id"] for row in await connection.fetch(SQL["known"], tenant_id, ids)}
    new = list({id_: (id_, job) for id_, job in jobs if id_ not in known}.values())
    if not new:
        return
    turns = await _turns(connection, [job for _, job in new])
    issued = await _issue(connection, tenant_id, new, turns)
    rows = [
        (id_, job.name, _json(job.payload), job.priority, turn, ticket, job.trace_id, job.delay_s)
        for (id_, job), turn, ticket in zip(new, turns, issued, strict=True)
    ]
    columns = zip(*rows, strict=True)
    added = {row["id"] for row in await connection.fetch(SQL["add"], tenant_id, *columns)}
    # another producer was faster with the same id: his job stands, our ticket goes
    void = [ticket for (id_, _), ticket in zip(new, issued, strict=True) if id_ not in added]
    if void:
        await tickets.queries(connection).mark_job_as_cancelled(void)


async def _turns(connection: Connection, jobs: Sequence[NewJob]) -> list[int]:
    following: dict[tuple[str, int], int] = {}
    turns = []
    for job in jobs:
        flow = job.name, job.priority
        if flow not in following:
            following[flow] = await _turn(connection, job)
        turns.append(following[flow])
        following[flow] += 1
    return turns


async def _turn(connection: Connection, job: NewJob) -> int:
    turn: int = await connection.fetchval("SELECT cerniq.next_turn($1, $2)", job.name, job.priority)
    return turn


async def _issue(
    connection: Connection,
    tenant_id: UUID,
    jobs: Sequence[tuple[str, NewJob]],
    turns: Sequence[int],
) -> list[Any]:
    packed: list[bytes | None] = [
        tickets.pack(Ticket(tenant_id, id_, job.trace_id, job.payload)) for id_, job in jobs
    ]
    if any(len(data or b"") > MAX_PAYLOAD for data in packed):
        raise InvalidInputError("payload", f"payload is longer than {MAX_PAYLOAD:,} bytes")
    return await tickets.queries(connection).enqueue(
        [job.name for _, job in jobs],
        packed,
        [tickets.priority(job.priority, turn) for (_, job), turn in zip(jobs, turns, strict=True)],
        [timedelta(seconds=job.delay_s) for _, job in jobs],
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _view(row: asyncpg.Record) -> JobView:
    fields: dict[str, Any] = dict(row)
    for name in ("payload", "progress", "result"):
        fields[name] = None if fields[name] is None else json.loads(fields[name])
    return JobView(**fields | {"state": JobState(row["state"])})
