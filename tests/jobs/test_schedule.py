"""Schedules: each occurrence once, none lost, none doubled when the clock is changed."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSimError

from cerniq_stock.domain.commands import Item
from cerniq_stock.jobs import schedule
from cerniq_stock.jobs.port import PLATFORM, JobState
from cerniq_stock.jobs.schedule import LOCAL, Scheduler, next_after, targets
from cerniq_stock.store.catalog import NewTenant

SPRING = datetime(2027, 3, 28, tzinfo=ZoneInfo(LOCAL))
AUTUMN = datetime(2026, 10, 25, tzinfo=ZoneInfo(LOCAL))


def occurrences(expression: str, start: datetime, hours: int) -> list[str]:
    """Local times, with their offset, at which it comes due."""
    moment, end, found = start, start.astimezone(UTC) + timedelta(hours=hours), []
    while (moment := next_after(expression, LOCAL, moment)) <= end:
        found.append(f"{moment.astimezone(ZoneInfo(LOCAL)):%d %H:%M%z}")
    return found


@pytest.mark.parametrize(
    ("expression", "start", "expected"),
    [
        ("0 2 * * *", SPRING, ["28 02:00+0200"]),
        ("0 2 * * *", AUTUMN, ["25 02:00+0300"]),
        # 03:30 does not exist that night: right after the jump
        ("30 3 * * *", SPRING, ["28 04:00+0300"]),
        # 03:30 comes twice that night
        ("30 3 * * *", AUTUMN, ["25 03:30+0300"]),
    ],
)
def test_the_nights_on_which_the_clock_changes(expression, start, expected):
    assert occurrences(expression, start, 20) == expected


def test_every_quarter_goes_on_through_the_change():
    for start in (SPRING, AUTUMN):
        assert len(occurrences("*/15 * * * *", start, 6)) == 24


async def due(town, *names: str) -> None:
    """Let schedules come due a minute ago."""
    scheduler = Scheduler(town.operator, town.queue)
    await scheduler.tick()
    await town.operator.execute(
        "UPDATE job_schedules SET next_at = now() - interval '1 minute' WHERE name = ANY ($1)",
        list(names),
    )


async def test_an_occurrence_is_run_once_by_many_schedulers_and_restarts(town):
    await due(town, "check-expired-reservations")
    for _ in range(2):
        schedulers = [Scheduler(town.operator, town.queue) for _ in range(4)]
        await asyncio.gather(*(scheduler.tick() for scheduler in schedulers))
    (job,) = await town.queue.jobs(PLATFORM)
    assert job.name == "stock:schedule:dispatch"
    assert job.payload["schedule"] == "check-expired-reservations"
    left = await town.operator.fetchval(
        "SELECT next_at > now() FROM job_schedules WHERE name = 'check-expired-reservations'"
    )
    assert left


async def test_what_came_due_while_nobody_ran_is_run_once(town):
    await due(town, "daily-full-sync")
    await town.operator.execute(
        "UPDATE job_schedules SET next_at = now() - interval '9 days'"
        " WHERE name = 'daily-full-sync'"
    )
    await Scheduler(town.operator, town.queue).tick()
    await Scheduler(town.operator, town.queue).tick()
    assert len(await town.queue.jobs(PLATFORM)) == 1


async def test_check_expired_fans_out_to_every_tenant_once(town):
    await town.stock.reserve(town.tenant, town.negotiation, [Item("A", 1)], expires_in_h=1)
    await due(town, "check-expired-reservations")
    scheduler = Scheduler(town.operator, town.queue)
    await scheduler.tick()
    (dispatch,) = await town.queue.jobs(PLATFORM)
    for _ in range(2):
        await scheduler.fan_out(
            "check-expired-reservations", datetime.fromisoformat(dispatch.payload["dueAt"])
        )

    async def dispatched() -> bool:
        return (await town.queue.get(PLATFORM, dispatch.id)).state is JobState.COMPLETED

    async with town.working():
        (job,) = await town.queue.jobs(town.tenant)
        (job,) = await town.ended(job.id)
        await town.until(dispatched)
    assert (job.name, job.state) == ("stock:reserve:check-expired", JobState.COMPLETED)
    assert job.result == {"expired": 0}
    assert (await town.queue.get(PLATFORM, dispatch.id)).result == {"added": 0}


async def test_many_tenants_get_their_jobs_chunk_by_chunk_and_once(town, monkeypatch):
    monkeypatch.setattr(schedule, "CHUNK", 2)
    others = [(await town.stock.create_tenant(NewTenant(f"Shop {n}"))).id for n in range(4)]
    scheduler = Scheduler(town.operator, town.queue)
    due_at = datetime.now(UTC)
    assert await scheduler.fan_out("check-expired-reservations", due_at) == 5
    assert await scheduler.fan_out("check-expired-reservations", due_at) == 0
    assert all([len(await town.queue.jobs(tenant)) == 1 for tenant in (town.tenant, *others)])
    tickets = await town.operator.fetchval("SELECT count(*) FROM cerniq_queue.pgqueuer")
    assert tickets == 5


async def test_integrations_get_the_common_schedule_or_their_own(town, superuser):
    schedules = {"SAGA": "*/15 * * * *", "OBLIO": None, "CUSTOM_API": "5 7 * * 1"}
    for system, expression in schedules.items():
        await superuser.execute(
            "INSERT INTO erp_integrations (tenant_id, erp_system, name, config_encrypted,"
            " sync_schedule) VALUES ($1, $2, $2, '', $3)",
            *(town.tenant, system, expression),
        )
    scheduler = Scheduler(town.operator, town.queue)
    await scheduler.tick()
    now = datetime.now(UTC)
    own = await superuser.fetchrow("SELECT * FROM job_schedules WHERE tenant_id = $1", town.tenant)
    assert own["expression"] == "5 7 * * 1"
    assert own["next_at"] == next_after("5 7 * * 1", LOCAL, now)

    async def added(name: str) -> set[tuple[str, str, str]]:
        before = {job.id for job in await town.queue.jobs(town.tenant)}
        await scheduler.fan_out(name, now)
        return {
            (job.name, job.payload["erpSystem"], job.payload["syncType"])
            for job in await town.queue.jobs(town.tenant)
            if job.id not in before
        }

    assert await added("scheduled-erp-sync") == {("stock:sync:erp", "SAGA", "INCREMENTAL")}
    assert await added("scheduled-oblio-sync") == {("stock:sync:oblio", "OBLIO", "INCREMENTAL")}
    assert await added(own["name"]) == {("stock:sync:erp", "CUSTOM_API", "INCREMENTAL")}
    assert {system for _, system, kind in await added("daily-full-sync") if kind == "FULL"} == {
        "SAGA",
        "OBLIO",
        "CUSTOM_API",
    }
    await superuser.execute("UPDATE erp_integrations SET sync_schedule = 'never at all'")
    await scheduler.tick()
    assert not await superuser.fetchval(
        "SELECT count(*) FROM job_schedules WHERE tenant_id = $1 AND expression = 'never at all'",
        town.tenant,
    )


async def test_a_file_that_was_read_is_no_news_because_a_night_has_passed(town, superuser):
    await superuser.execute(
        "INSERT INTO erp_integrations (tenant_id, erp_system, name, config_encrypted)"
        " VALUES ($1, 'CSV_IMPORT', 'Files', '')",
        town.tenant,
    )
    scheduler, now = Scheduler(town.operator, town.queue), datetime.now(UTC)
    assert await scheduler.fan_out("daily-full-sync", now) == 0
    assert await scheduler.fan_out("scheduled-erp-sync", now) == 1


async def test_what_takes_uploads_only_is_not_asked_by_any_schedule(town, superuser):
    for expression in (None, "5 7 * * 1"):
        await superuser.execute(
            "INSERT INTO erp_integrations (tenant_id, erp_system, name, config_encrypted,"
            " sync_schedule, pull) VALUES ($1, 'CSV_IMPORT', 'Files', '', $2, false)",
            *(town.tenant, expression),
        )
        scheduler, now = Scheduler(town.operator, town.queue), datetime.now(UTC)
        await scheduler.tick()
        own = "SELECT name FROM job_schedules WHERE tenant_id = $1"
        assert await superuser.fetch(own, town.tenant) == []
        for name in ("scheduled-erp-sync", "daily-full-sync"):
            assert await scheduler.fan_out(name, now) == 0
        await superuser.execute("UPDATE erp_integrations SET pull = true")
        await scheduler.tick()
        name = await superuser.fetchval(own, town.tenant) or "scheduled-erp-sync"
        assert await scheduler.fan_out(name, now) == 1
        await superuser.execute("DELETE FROM erp_integrations")


async def test_an_integration_that_is_switched_off_gets_no_job_and_no_schedule(town, superuser):
    for system, expression in (("SAGA", None), ("OBLIO", None), ("CUSTOM_API", "5 7 * * 1")):
        await superuser.execute(
            "INSERT INTO erp_integrations (tenant_id, erp_system, name, config_encrypted,"
            " sync_schedule, enabled) VALUES ($1, $2, $2, '', $3, false)",
            *(town.tenant, system, expression),
        )
    scheduler, now = Scheduler(town.operator, town.queue), datetime.now(UTC)
    await scheduler.tick()
    own = "SELECT count(*) FROM job_schedules WHERE tenant_id = $1"
    assert await superuser.fetchval(own, town.tenant) == 0
    for name in ("scheduled-erp-sync", "scheduled-oblio-sync", "daily-full-sync"):
        assert await scheduler.fan_out(name, now) == 0
    await superuser.execute("UPDATE erp_integrations SET enabled = true")
    await scheduler.tick()
    assert await superuser.fetchval(own, town.tenant) == 1
    assert await scheduler.fan_out("daily-full-sync", now) == 3


async def test_pushes_are_of_those_alone_that_have_them_switched_on(town, superuser):
    pushing = [("SAP_B1", True, True), ("CUSTOM_API", True, False), ("SENIOR", False, True)]
    for system, enabled, push in [*pushing, ("OBLIO", True, None)]:
        await superuser.execute(
            "INSERT INTO erp_integrations (tenant_id, erp_system, name, config_encrypted, enabled,"
            " options) VALUES ($1, $2, $2, '', $3, $4)",
            *(town.tenant, system, enabled, "{}" if push is None else json.dumps({"push": push})),
        )
    scheduler, now = Scheduler(town.operator, town.queue), datetime.now(UTC)
    for added in (1, 0):
        assert await scheduler.fan_out("scheduled-erp-push", now) == added
    (job,) = await town.queue.jobs(town.tenant)
    whose = {"tenantId": str(town.tenant), "erpSystem": "SAP_B1"}
    assert (job.name, job.payload) == ("stock:push:erp", whose)


async def test_an_expression_that_is_none_any_more_is_followed_no_longer(town, superuser):
    await superuser.execute(
        "INSERT INTO erp_integrations (tenant_id, erp_system, name, config_encrypted,"
        " sync_schedule) VALUES ($1, 'SAGA', 'SAGA', '', '5 7 * * 1')",
        town.tenant,
    )
    scheduler = Scheduler(town.operator, town.queue)
    own = "SELECT count(*) FROM job_schedules WHERE tenant_id = $1"
    await scheduler.tick()
    assert await superuser.fetchval(own, town.tenant) == 1
    await superuser.execute("UPDATE erp_integrations SET sync_schedule = '0 0 30 2 *'")
    await scheduler.tick()
    assert await superuser.fetchval(own, town.tenant) == 0


def test_an_unknown_schedule_fans_out_to_nobody():
    assert list(targets("own-sync/gone", [uuid4()], [])) == []


@pytest.mark.parametrize(
    "expression", ["* * * * * *", "0 2 * *", "never at all", "0 0 30 2 *", "0 0 */27 2 0#5"]
)
def test_an_expression_has_five_fields(expression):
    with pytest.raises(CronSimError):
        next_after(expression, LOCAL, SPRING)
