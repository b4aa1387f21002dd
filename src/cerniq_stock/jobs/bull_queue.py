"""Jobs on BullMQ, as producers and operators see them.

Jobs of one kind are added all or none. What is cancelled is gone; BullMQ keeps nothing of it.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID

from bullmq import Job, Queue

from cerniq_stock import validate
from cerniq_stock.errors import InvalidInputError
from cerniq_stock.jobs import bull
from cerniq_stock.jobs.adding import checked
from cerniq_stock.jobs.catalogue import CATALOGUE, Kind
from cerniq_stock.jobs.port import JobCounts, JobState, JobView, NewJob

STATES = {
    "waiting": JobState.WAITING,
    "prioritized": JobState.WAITING,
    "delayed": JobState.DELAYED,
    "active": JobState.ACTIVE,
    "completed": JobState.COMPLETED,
    "failed": JobState.FAILED,
}
UNFINISHED = [type_ for type_ in STATES if type_ not in ("completed", "failed")]
LOOKED_AT = 1_000
"""Of each queue and state: Redis knows no tenants, so a list is looked through."""


class BullQueue:
    """Enter it to connect."""

    def __init__(self, url: str) -> None:
        self._connection = bull.connection(url)
        self._queues: dict[str, Queue] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Connect. Raises UnavailableError when Redis does not answer."""
        try:
            for name in CATALOGUE:
                queue = Queue(bull.wire_name(name), {"connection": self._connection})
                self._queues[name] = queue
                self._stack.push_async_callback(queue.close)
            await bull.answers(queue.client)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        await self._stack.aclose()

    async def add(self, tenant_id: UUID, jobs: Sequence[NewJob]) -> tuple[str, ...]:
        """Add jobs; returns their ids. One whose id is known is left as it is."""
        tenant_id = validate.uuid("tenantId", tenant_id)
        new = [_checked(tenant_id, job) for job in jobs]
        for name in {job.name for _, job in new}:
            bulk = [
                {"name": name, "data": job.payload, "opts": _options(CATALOGUE[name], id_, job)}
                for id_, job in new
                if job.name == name
            ]
            await self._queues[name].addBulk(bulk)
        return tuple(id_ for id_, _ in new)

    async def get(self, tenant_id: UUID, job_id: str) -> JobView | None:
        """Look a job up."""
        found = await self._find(tenant_id, job_id)
        return None if found is None else await self._view(*found)

    async def jobs(
        self,
        tenant_id: UUID,
        *,
        name: str | None = None,
        state: JobState | None = None,
        limit: int = 50,
    ) -> tuple[JobView, ...]:
        """List jobs, the newest first."""
        return (await self._all(tenant_id, name, state))[: validate.rows(limit)]

    async def _all(
        self, tenant_id: UUID, name: str | None = None, state: JobState | None = None
    ) -> tuple[JobView, ...]:
        types = [type_ for type_, known in STATES.items() if state in (None, known)]
        found = [
            await self._view(kind, job)
            for kind in CATALOGUE
            if name in (None, kind)
            for job in await self._queues[kind].getJobs(types, 0, LOOKED_AT)
            if bull.tenant_of(job.data) == tenant_id
        ]
        found.sort(key=lambda job: (job.created_at, job.id), reverse=True)
        return tuple(found)

    async def cancel(self, tenant_id: UUID, job_id: str) -> bool:
        """Take back a job that has not begun."""
        found = await self._find(tenant_id, job_id)
        if found is None or await self._state(*found) not in (JobState.WAITING, JobState.DELAYED):
            return False
        return bool(await self._queues[found[0]].remove(job_id))

    async def retry(self, tenant_id: UUID, job_id: str) -> bool:
        """Let a failed job run again, with all its attempts."""
        found = await self._find(tenant_id, job_id)
        if found is None or await self._state(*found) is not JobState.FAILED:
            return False
        await found[1].retry("failed", {"resetAttemptsMade": True})
        return True

    async def counts(self, tenant_id: UUID) -> tuple[JobCounts, ...]:
        """Count a tenant's jobs by kind."""
        counts: dict[str, dict[str, int]] = {}
        oldest: dict[str, datetime] = {}
        for job in await self._all(tenant_id):
            states = counts.setdefault(job.name, {})
            states[job.state] = states.get(job.state, 0) + 1
            if job.state is JobState.WAITING:
                oldest[job.name] = min(job.run_at, oldest.get(job.name, job.run_at))
        return tuple(
            JobCounts(name, counts[name], oldest.get(name)) for name in CATALOGUE if name in counts
        )

    async def unfinished(self, name: str) -> dict[JobState, int]:
        """Count what of a kind has not ended, by state, whoever it belongs to."""
        found = await self._queues[name].getJobCounts(*UNFINISHED)
        counts: dict[JobState, int] = {}
        for type_ in UNFINISHED:
            counts[STATES[type_]] = counts.get(STATES[type_], 0) + found[type_]
        return counts

    async def _find(self, tenant_id: UUID, job_id: str) -> tuple[str, Job] | None:
        for name, queue in self._queues.items():
            job = await queue.getJob(job_id)
            if job is not None and bull.tenant_of(job.data) == tenant_id:
                return name, job
        return None

    async def _state(self, name: str, job: Job) -> JobState:
        return STATES.get(await self._queues[name].getJobState(job.id), JobState.WAITING)

    async def _view(self, name: str, job: Job) -> JobView:
        created_at = _time(job.timestamp)
        failed = job.failedReason
        return JobView(
            tenant_id=bull.tenant_of(job.data),
            id=str(job.id),
            name=name,
            state=await self._state(name, job),
            priority=job.opts.get("priority") or 0,
            attempts=job.attemptsMade,
            payload=job.data,
            progress=job.progress or None,
            result=job.returnvalue,
            error=failed,
            traceback="\n".join(job.stacktrace or ()) or None,
            trace_id=None,
            created_at=created_at,
            run_at=created_at + timedelta(milliseconds=job.opts.get("delay") or 0),
            finished_at=_time(job.finishedOn) if job.finishedOn else None,
        )


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def _checked(tenant_id: UUID, job: NewJob) -> tuple[str, NewJob]:
    id_, job = checked(tenant_id, job)
    if ":" in id_ or id_.isdecimal():
        raise InvalidInputError("jobId", "BullMQ takes no job id with a colon, and none of digits")
    if bull.tenant_of(job.payload) != tenant_id:
        raise InvalidInputError("payload", "payload.tenantId must name the job's tenant")
    return id_, job


def _options(kind: Kind, id_: str, job: NewJob) -> dict[str, Any]:
    """What the specification's queues have as `defaultJobOptions` (§8.1)."""
    keep = kind.retention
    return {
        "jobId": id_,
        "priority": job.priority,
        "delay": round(job.delay_s * 1000),
        "attempts": kind.attempts,
        "backoff": {"type": "exponential", "delay": round(kind.backoff_s * 1000)},
        "removeOnComplete": {"age": round(keep.completed_s), "count": keep.completed_count},
        "removeOnFail": {"age": round(keep.failed_s)},
    }
