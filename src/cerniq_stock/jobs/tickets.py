"""What stands in PgQueuer's table for an unfinished job, and where that table is."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.models import Job
from pgqueuer.queries import Queries

SETTINGS = DBSettings(db_schema="cerniq_queue", durability=Durability.balanced)
PRIORITY_STEP = 1 << 20
"""Turns of one priority; see the migration's `next_turn`."""

_TENANT = 36


class Ticket(NamedTuple):
    """All that is needed to run a job without looking it up."""

    tenant_id: UUID
    job_id: str
    effect_key: str
    trace_id: str | None
    payload: dict[str, Any]


def pack(ticket: Ticket) -> bytes:
    """Write a ticket. Its first 36 bytes are the tenant: row-level security reads them."""
    rest = json.dumps(ticket[1:], separators=(",", ":"))
    return f"{ticket.tenant_id}{rest}".encode()


def unpack(data: bytes) -> Ticket:
    """Read a ticket."""
    return Ticket(UUID(data[:_TENANT].decode()), *json.loads(data[_TENANT:]))


def priority(of: int, turn: int) -> int:
    """PgQueuer's priority, of which the highest is served first."""
    return -(of * PRIORITY_STEP + min(turn, PRIORITY_STEP - 1))


def queries(connection: Any) -> Queries:
    """PgQueuer on one connection, within its transaction."""
    return Queries(
        AsyncpgDriver(connection),
        qbe=QueryBuilderEnvironment(SETTINGS),
        qbq=QueryQueueBuilder(SETTINGS),
    )


def pooled_queries(pool: asyncpg.Pool, claims: "Claims") -> Queries:
    """PgQueuer on a pool, for a worker."""
    return _Paced(
        AsyncpgPoolDriver(pool),
        qbe=QueryBuilderEnvironment(SETTINGS),
        qbq=QueryQueueBuilder(SETTINGS),
        claims=claims,
    )


class Claims:
    """What a worker has claimed and not finished. Lets it claim in batches, not job by job."""

    def __init__(self, most: int | None, pause_s: float = 0.0) -> None:
        self._most = most
        self._pause_s = pause_s
        self._claimed_at = 0.0
        self._open = 0
        self._changed = asyncio.Event()

    def begun(self) -> None:
        """Note that a job has come."""
        self._open += 1

    def ended(self) -> None:
        """Note that a job is done with."""
        self._open -= 1
        self._changed.set()

    async def room(self, batch: int) -> None:
        """Wait until a whole batch may be claimed, and the last claim is `pause_s` ago."""
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._claimed_at + self._pause_s - clock()))
        self._claimed_at = clock()
        while self._most is not None and self._open + batch > self._most:
            self._changed.clear()
            await self._changed.wait()


@dataclass
class _Paced(Queries):
    claims: Claims = field(kw_only=True)

    async def dequeue(self, batch_size: int, *args: Any, **rest: Any) -> list[Job]:
        await self.claims.room(batch_size)
        return await super().dequeue(batch_size, *args, **rest)
