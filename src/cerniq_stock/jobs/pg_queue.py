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
from cerniq_stock.jobs.adding import checked
from cerniq_stock.jobs.catalogue import CATALOGUE
from cerniq_stock.jobs.port import (
    JobCounts,
    JobState,
    JobView,
    NewJob,
)
from cerniq_stock.jobs.tickets import Ticket
from cerniq_stock.store.ids import new_id
from cerniq_stock.store.queries import parse
from cerniq_stock.store.trouble import BLOCKED, LOST

SQL = parse((files("cerniq_stock.jobs") / "queue.sql").read_text(encoding="utf-8"))

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy


Keyed = tuple[UUID, str, str, NewJob]
"""A job with its tenant, its id and the key of its effect."""


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
        new = [checked(tenant_id, job) for job in jobs]
        if connection is not None:
            # in a transaction of ours if there is none, and leaving the caller's tenant as it was
            async with connection.transaction():
                before = await connection.fetchval("SELECT current_setting('app.tenant', true)")
                await _see(connection, tenant_id)
                await _add(connection, tenant_id, new)
                await connection.execute("SELECT set_config('app.tenant', $1, true)", before or "")
        else:
            async with self._as(tenant_id) as own:
                await _add(own, tenant_id, new)
        return tuple(id_ for id_, _ in new)

    async def add_across(self, connection: Connection, jobs: Sequence[tuple[UUID, NewJob]]) -> int:
        """Add a job to each of many tenants, in one go; returns how many are new.

        `connection` acts as cerniq_operator, in a transaction. Each job begins a turn of its own.
        """
        keyed = [(tenant_id, *_keyed(*checked(tenant_id, job))) for tenant_id, job in jobs]
        kinds = {job.name: job for _, job in jobs}
        floors = {name: await _turn(connection, job) for name, job in kinds.items()}
        return await _add_new(connection, keyed, [floors[job.name] for _, job in jobs])

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
        rows = await self._rows("jobs", tenant_id, None, name, state, validate.rows(limit))
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
            keyed = [(tenant_id, job_id, row["effect_key"], again)]
            (ticket,) = await _issue(connection, keyed, [turn])
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
        except BLOCKED as error:
            raise UnavailableError("Another session holds the jobs locked") from error


async def _see(connection: Connection, tenant_id: UUID) -> None:
    await connection.execute(f"SET LOCAL app.tenant = '{tenant_id}'")


async def _add(connection: Connection, tenant_id: UUID, jobs: Sequence[tuple[str, NewJob]]) -> None:
    ids = [id_ for id_, _ in jobs]
    rows = await connection.fetch(SQL["known"], tenant_id, ids)
    known = {row["id"]: row["name"] for row in rows}
    new: dict[str, Keyed] = {}
    for id_, job in jobs:
        if known.get(id_, job.name) != job.name:
            raise InvalidInputError("jobId", f"Job {id_} is known as one of {known[id_]}")
        if id_ not in known:
            new.setdefault(id_, (tenant_id, *_keyed(id_, job)))
    if new:
        turns = await _turns(connection, [job for *_, job in new.values()])
        await _add_new(connection, list(new.values()), turns)


def _keyed(id_: str, job: NewJob) -> tuple[str, str, NewJob]:
    return id_, f"job_{new_id()}", job


async def _add_new(connection: Connection, new: Sequence[Keyed], turns: Sequence[int]) -> int:
    issued = await _issue(connection, new, turns)
    rows = [
        (
            *(tenant_id, id_, job.name, _json(job.payload), job.priority, turn, ticket),
            *(job.trace_id, job.delay_s, key),
        )
        for (tenant_id, id_, key, job), turn, ticket in zip(new, turns, issued, strict=True)
    ]
    columns = zip(*rows, strict=True)
    added = {row["ticket"] for row in await connection.fetch(SQL["add"], *columns)}
    # another producer was faster with the same id: his job stands, our ticket goes
    void = [ticket for ticket in issued if ticket not in added]
    if void:
        await tickets.queries(connection).mark_job_as_cancelled(void)
    return len(added)


async def _turns(connection: Connection, jobs: Sequence[NewJob]) -> list[int]:
    following: dict[tuple[str, int], int] = {}
    turns = []
    for job in jobs:
        flow = job.name, job.priority
        if flow not in following:
            following[flow] = await _turn(connection, job)
        turns.append(following[flow])
        # one that waits for its time stands in nobody's way, its tenant's neither
        following[flow] += not job.delay_s
    return turns


async def _turn(connection: Connection, job: NewJob) -> int:
    turn: int = await connection.fetchval("SELECT cerniq.next_turn($1, $2)", job.name, job.priority)
    return turn


async def _issue(connection: Connection, jobs: Sequence[Keyed], turns: Sequence[int]) -> list[Any]:
    packed: list[bytes | None] = [
        tickets.pack(Ticket(tenant_id, id_, key, job.trace_id, job.payload))
        for tenant_id, id_, key, job in jobs
    ]
    return await tickets.queries(connection).enqueue(
        [job.name for *_, job in jobs],
        packed,
        [tickets.priority(job.priority, turn) for (*_, job), turn in zip(jobs, turns, strict=True)],
        [timedelta(seconds=job.delay_s) for *_, job in jobs],
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _view(row: asyncpg.Record) -> JobView:
    fields: dict[str, Any] = dict(row)
    for name in ("payload", "progress", "result"):
        fields[name] = None if fields[name] is None else json.loads(fields[name])
    return JobView(**fields | {"state": JobState(row["state"])})
