"""When schedules come due, and which jobs they fan out to (READING 31, §8.1).

When a schedule comes due next is a row of the database; who advances it adds its one job in the
same transaction. So several schedulers run each occurrence once, and a restart loses none: what
came due meanwhile runs once, late.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any
from uuid import UUID

import asyncpg
import structlog
from cronsim import CronSimError

from cerniq_stock.cron import LOCAL, next_after
from cerniq_stock.jobs.pg_queue import SQL, PostgresQueue
from cerniq_stock.jobs.port import PLATFORM, NewJob
from cerniq_stock.store.trouble import LOST

log = structlog.get_logger("cerniq_stock.jobs")

EVERY_QUARTER = "*/15 * * * *"
EVERY_FIVE = "*/5 * * * *"
CHUNK = 500
LOOK_AGAIN_S = 30.0
RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression of five fields in a time zone."""

    name: str
    expression: str
    timezone: str = LOCAL


SCHEDULES = (
    Schedule("check-expired-reservations", EVERY_FIVE),
    Schedule("scheduled-erp-sync", EVERY_QUARTER),
    Schedule("scheduled-oblio-sync", EVERY_QUARTER),
    Schedule("scheduled-erp-push", EVERY_FIVE),
    Schedule("daily-full-sync", "0 2 * * *"),
    Schedule("renew-subscriptions", "7 * * * *"),
)
OWN = "own-sync/"
"""Begins the name of the schedule of one integration."""


@dataclass(frozen=True, slots=True)
class Integration:
    """A tenant's ERP, as far as schedules care."""

    tenant_id: UUID
    id: UUID
    erp_system: str
    sync_schedule: str | None
    pull: bool = True
    """Whether there is anything to fetch; not where files are handed over only."""
    push: bool = False
    """Whether it is told what is sold here."""
    renew: bool = False
    """Whether its subscription is to be renewed."""

    @property
    def own_schedule(self) -> str | None:
        """An expression that is not the common one."""
        common = self.sync_schedule in (None, EVERY_QUARTER) or not self.pull
        return None if common else self.sync_schedule

    @property
    def is_oblio(self) -> bool:
        """Whether it has a kind of job of its own (READING 20)."""
        return self.erp_system == "OBLIO"


_OF_SOME = {
    "scheduled-erp-push": ("stock:push:erp", attrgetter("push")),
    "renew-subscriptions": ("stock:subscriptions:renew", attrgetter("renew")),
}
"""Schedules that are not about syncs: the kind of job, and of which integrations."""


def targets(
    schedule: str, tenants: Sequence[UUID], integrations: Sequence[Integration]
) -> Iterator[tuple[UUID, str, dict[str, Any]]]:
    """What a schedule fans out to: tenant, kind of job, payload."""
    if schedule == "check-expired-reservations":
        for tenant_id in tenants:
            yield tenant_id, "stock:reserve:check-expired", {"tenantId": str(tenant_id)}
        return
    if schedule in _OF_SOME:
        kind, is_meant = _OF_SOME[schedule]
        for x in filter(is_meant, integrations):
            yield x.tenant_id, kind, {"tenantId": str(x.tenant_id), "erpSystem": x.erp_system}
        return
    sync_type = "FULL" if schedule == "daily-full-sync" else "INCREMENTAL"
    for x in integrations:
        if _meant(schedule, x):
            payload = {
                "tenantId": str(x.tenant_id),
                "erpSystem": x.erp_system,
                "syncType": sync_type,
            }
            yield x.tenant_id, "stock:sync:oblio" if x.is_oblio else "stock:sync:erp", payload


def _meant(schedule: str, integration: Integration) -> bool:
    if not integration.pull:
        return False
    match schedule:
        case "daily-full-sync":
            # a file is read whole when it is new; after that it tells of times gone by
            return integration.erp_system != "CSV_IMPORT"
        case "scheduled-erp-sync":
            return not integration.is_oblio and integration.own_schedule is None
        case "scheduled-oblio-sync":
            return integration.is_oblio and integration.own_schedule is None
        case _:
            return schedule == f"{OWN}{integration.id}"


def job_id(schedule: str, due_at: datetime) -> str:
    """Names the occurrence, so that it can be added only once."""
    return f"{schedule}@{due_at.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _target_id(schedule: str, payload: dict[str, Any], due_at: datetime) -> str:
    # of its own schedule an integration is the only one
    of = None if schedule.startswith(OWN) else payload.get("erpSystem")
    return job_id(schedule if of is None else f"{schedule}-{of}", due_at)


class Scheduler:
    """Adds the jobs of schedules as they come due. `pool` acts as cerniq_operator."""

    def __init__(self, pool: asyncpg.Pool, queue: PostgresQueue) -> None:
        self._pool = pool
        self._queue = queue
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Let `run` return."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until stopped, over outages of the database."""
        while not self._stopping.is_set():
            try:
                wait_s = await self.tick()
            except (*LOST, asyncpg.PostgresError, TimeoutError) as error:
                log.warning("schedules not looked at", error=str(error))
                wait_s = RETRY_S
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)

    async def tick(self) -> float:
        """Bring the table up to date, run what is due; returns for how long to wait."""
        async with self._pool.acquire() as connection:
            now: datetime = await connection.fetchval("SELECT now()")
            await self._keep_schedules(connection, now)
            async with connection.transaction():
                for row in await connection.fetch(SQL["due_schedules"]):
                    await self._run_due(connection, row, now)
            earliest_s = await connection.fetchval(SQL["earliest_schedule"])
        return min(max(earliest_s or LOOK_AGAIN_S, 0.05), LOOK_AGAIN_S)

    async def _run_due(self, connection: Any, row: asyncpg.Record, now: datetime) -> None:
        """Add the job of the occurrence and advance the schedule, in one transaction."""
        due_at: datetime = row["next_at"]
        payload = {"schedule": row["name"], "dueAt": due_at.isoformat()}
        job = NewJob(
            name="stock:schedule:dispatch", payload=payload, id=job_id(row["name"], due_at)
        )
        await self._queue.add(PLATFORM, [job], connection=connection)
        # it may have come due after `now` was asked for
        following = next_after(row["expression"], row["timezone"], max(now, due_at))
        await connection.execute(SQL["advance_schedule"], row["tenant_id"], row["name"], following)
        log.info("schedule came due", schedule=row["name"], due_at=due_at.isoformat())

    async def _keep_schedules(self, connection: Any, now: datetime) -> None:
        wanted = [(PLATFORM, schedule) for schedule in SCHEDULES]
        wanted += [
            (x.tenant_id, Schedule(f"{OWN}{x.id}", x.own_schedule))
            for x in await self._integrations(connection)
            if x.own_schedule is not None
        ]
        known = {
            (row["tenant_id"], row["name"]): (row["expression"], row["timezone"])
            for row in await connection.fetch(SQL["schedules"])
        }
        for tenant_id, schedule in wanted:
            asked = schedule.expression, schedule.timezone
            try:
                next_at = next_after(*asked, now)
            except CronSimError as error:
                log.warning("no such schedule", schedule=schedule.name, error=str(error))
                continue  # one that it had until now goes
            if known.pop((tenant_id, schedule.name), None) == asked:
                continue
            await connection.execute(SQL["set_schedule"], tenant_id, schedule.name, *asked, next_at)
        for tenant_id, name in known:
            await connection.execute(SQL["drop_schedule"], tenant_id, name)

    async def fan_out(self, schedule: str, due_at: datetime) -> int:
        """Add the jobs of an occurrence; each has an id of its own, so a repeat adds none."""
        async with self._pool.acquire() as connection:
            tenants = [row["id"] for row in await connection.fetch(SQL["all_tenants"])]
            integrations = await self._integrations(connection)
            waits = {tuple(row[:2]): row[2] for row in await connection.fetch(SQL["waits"])}
        added = 0
        meant = list(targets(schedule, tenants, integrations))
        for start in range(0, len(meant), CHUNK):
            jobs = [
                (
                    tenant_id,
                    NewJob(
                        name=name,
                        payload=payload,
                        id=_target_id(schedule, payload, due_at),
                        # whom a failed job leaves alone, no other one asks meanwhile
                        delay_s=waits.get((tenant_id, payload.get("erpSystem")), 0.0),
                    ),
                )
                for tenant_id, name, payload in meant[start : start + CHUNK]
            ]
            async with self._pool.acquire() as connection, connection.transaction():
                added += await self._queue.add_across(connection, jobs)
        return added

    async def _integrations(self, connection: Any) -> list[Integration]:
        return [Integration(**row) for row in await connection.fetch(SQL["integrations"])]
