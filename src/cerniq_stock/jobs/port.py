"""What a transport of jobs can do. One contract suite holds for every one of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from cerniq_stock.domain.outcomes import Wire

PLATFORM = UUID(int=0)
"""Whose jobs those of the schedules are: the platform's own."""

MAX_PRIORITY = 1_000
MAX_JOB_ID = 90
"""So that a key made of it, `job_…`, is no longer than a key may be."""


class JobState(StrEnum):
    """Where a job is."""

    WAITING = "WAITING"
    DELAYED = "DELAYED"
    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to add. An `id` that is known already (while it is retained) adds nothing.

    `priority` is BullMQ's: 0 comes first, then 1, 2, … `trace_id` appears in every log line.
    """

    name: str
    payload: dict[str, Any]
    id: str | None = None
    priority: int = 0
    delay_s: float = 0.0
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class JobView(Wire):
    """A job as it stands. Times are the database's (or Redis') clock's."""

    tenant_id: UUID
    id: str
    name: str
    state: JobState
    priority: int
    attempts: int
    payload: dict[str, Any]
    progress: Any
    result: Any
    error: str | None
    traceback: str | None
    trace_id: str | None
    created_at: datetime
    run_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class JobCounts(Wire):
    """How many jobs of a kind are where, and since when the oldest waits."""

    name: str
    states: dict[str, int] = field(default_factory=dict)
    oldest_waiting_at: datetime | None = None


class JobQueue(Protocol):
    """Jobs, as their producers and the operators see them. The tenant is named first."""

    async def add(self, tenant_id: UUID, jobs: Sequence[NewJob]) -> tuple[str, ...]:
        """Add jobs, all or none; returns their ids. One whose id is known is left as it is.

        Raises InvalidInputError for a name, payload, id, priority or delay that cannot be.
        """
        ...

    async def get(self, tenant_id: UUID, job_id: str) -> JobView | None:
        """Look a job up."""
        ...

    async def jobs(
        self,
        tenant_id: UUID,
        *,
        name: str | None = None,
        state: JobState | None = None,
        limit: int = 50,
    ) -> tuple[JobView, ...]:
        """List jobs, the newest first."""
        ...

    async def cancel(self, tenant_id: UUID, job_id: str) -> bool:
        """Take back a job that has not begun. False: it runs, has ended, or is not known."""
        ...

    async def retry(self, tenant_id: UUID, job_id: str) -> bool:
        """Let a failed job run again, with all its attempts. False: it has not failed."""
        ...

    async def counts(self, tenant_id: UUID) -> tuple[JobCounts, ...]:
        """Count a tenant's jobs by kind."""
        ...
