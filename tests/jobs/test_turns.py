"""Who gets his turn when: priorities, floods, limits, kinds that hang."""

import asyncio
import time
from uuid import uuid4

import pytest
from pydantic import ValidationError

from cerniq_stock.errors import InvalidInputError
from cerniq_stock.jobs import pg_worker
from cerniq_stock.jobs.handlers import Running
from cerniq_stock.jobs.port import JobState, NewJob
from cerniq_stock.jobs.rates import Rates
from cerniq_stock.running import run_workers
from cerniq_stock.settings import Settings


async def test_smaller_priorities_first_and_floods_wait_behind_others(town, handle):
    served = []

    async def notes(running: Running, _):
        served.append(running.job_id)
        return {}

    handle(handler=notes, concurrency=1)
    flood = [town.reserve(id=f"flood{n:03}") for n in range(300)]
    await town.add(*flood)
    await town.add(town.reserve(id="later", priority=5), town.reserve(id="sooner", priority=1))
    other = uuid4()
    payload = town.reserve().payload | {"tenantId": str(other)}
    theirs = [NewJob(name="stock:reserve:create", payload=payload, id=f"o{n}") for n in range(3)]
    await town.queue.add(other, theirs)
    async with town.working():
        await town.ended("flood299", "later", "sooner")
    assert served.index("sooner") < served.index("later")
    assert served.index("flood299") < served.index("sooner")
    assert max(served.index(job.id) for job in theirs) < 10
    assert [x for x in served if x.startswith("flood")] == [job.id for job in flood]


async def test_a_flood_under_a_limit_leaves_no_debt_to_others(town, handle):
    """Of the kind's thirty a second the flood gets those that nobody else asks for."""
    served = []

    async def notes(running: Running, _):
        served.append(running.job_id)
        return {}

    handle(handler=notes)
    town.rates["stock:reserve:create"] = 30.0
    await town.add(*[town.reserve(id=f"flood{n}") for n in range(300)])
    other = uuid4()
    payload = town.reserve().payload | {"tenantId": str(other)}
    async with town.working():
        await town.until(lambda: _true(so=len(served) > 30))
        await town.queue.add(other, [NewJob(name="stock:reserve:create", payload=payload, id="me")])
        await town.until(lambda: _true(so="me" in served))
        assert len(served) < 150
        for n in range(300):
            await town.queue.cancel(town.tenant, f"flood{n}")


async def test_a_tenants_limit_is_spent_by_what_begins_only(town, handle):
    handle(handler=_nothing)
    town.tenant_rates["stock:reserve:create"] = 5.0
    flood = await town.add(*[town.reserve() for _ in range(200)])
    async with town.working():
        await town.until(lambda: _delayed(town, 150))
        for id_ in flood:
            await town.queue.cancel(town.tenant, id_)
        began = time.monotonic()
        await town.ended(*await town.add(town.reserve()))
    assert time.monotonic() - began < 10  # its forty seconds' backlog is gone


async def _delayed(town, least: int) -> bool:
    return len(await town.queue.jobs(town.tenant, state=JobState.DELAYED, limit=1000)) >= least


async def _true(*, so: bool) -> bool:
    return so


async def _nothing(*_):
    return {}


async def test_a_kind_that_hangs_leaves_the_others_their_room(town, handle):
    free = asyncio.Event()

    async def hang(*_):
        await free.wait()
        return {}

    handle(handler=hang)
    handle("stock:reserve:release", handler=_nothing)
    hanging = await town.add(*[town.reserve() for _ in range(400)])
    async with town.working():
        await town.until(lambda: _claimed(town, pg_worker.AHEAD))
        release = town.job("stock:reserve:release", reason="CANCELLED")
        await town.ended(*await town.add(*[release for _ in range(100)]))
        free.set()
        jobs = await town.ended(*hanging)
    assert {job.attempts for job in jobs} == {1}, "none had to time out for the others' sake"


async def _claimed(town, count: int) -> bool:
    sql = "SELECT count(*) FROM cerniq_queue.pgqueuer WHERE status = 'picked'"
    return (await town.operator.fetchval(sql)) == count


async def test_delayed_jobs_do_not_put_their_tenant_last(town, handle):
    served = []

    async def notes(running: Running, _):
        served.append(running.job_id)
        return {}

    handle(handler=notes, concurrency=1)
    await town.add(*[town.reserve(delay_s=3600) for _ in range(50)])
    other = uuid4()
    payload = town.reserve().payload | {"tenantId": str(other)}
    flood = [NewJob(name="stock:reserve:create", payload=payload) for _ in range(40)]
    await town.queue.add(other, flood)
    await town.add(town.reserve(id="now"))
    async with town.working():
        await town.ended("now")
    assert served.index("now") < 5


async def test_a_limit_that_cannot_be_is_refused(database):
    with pytest.raises(ValidationError):
        Settings(job_rates={"stock:reserve:create": 0})
    settings = Settings(database_url=database, job_rates={"stock:reserve:creat": 5})
    with pytest.raises(InvalidInputError):
        await run_workers(settings)


async def test_what_has_not_begun_goes_back_at_a_stop(town, handle):
    begun = []
    free = asyncio.Event()

    async def hang(running: Running, _):
        begun.append(running.job_id)
        await free.wait()
        return {}

    handle(handler=hang, concurrency=2)
    ids = await town.add(*[town.reserve() for _ in range(20)])
    async with town.working() as worker:
        await town.until(lambda: _true(so=len(begun) == 2))
        worker.stop()
        free.set()
    states = [(await town.look(id_)).state for id_ in ids]
    assert (states.count("COMPLETED"), states.count("WAITING")) == (2, 18)


async def test_trouble_around_an_attempt_loses_no_job(town, handle, monkeypatch):
    handle(handler=_nothing)
    asked = Rates.wait_s
    trouble = [OSError("gone"), RuntimeError("strange")]

    async def wait_s(self, *of):
        if trouble:
            raise trouble.pop()
        return await asked(self, *of)

    monkeypatch.setattr(Rates, "wait_s", wait_s)
    (id_,) = await town.add(town.reserve())
    ticket = "SELECT id FROM cerniq_queue.pgqueuer"
    before = await town.operator.fetchval(ticket)
    async with town.working():
        await town.until(lambda: _true(so=not trouble))
        assert await town.operator.fetchval(ticket) == before
        (job,) = await town.ended(id_)
    assert (job.state, job.attempts) == ("COMPLETED", 1)


async def test_a_limited_kind_is_claimed_ahead_no_further_than_others(town, handle, monkeypatch):
    free = asyncio.Event()

    async def hang(*_):
        await free.wait()
        return {}

    monkeypatch.setattr(pg_worker, "AHEAD", 10)
    handle(handler=hang)
    town.rates["stock:reserve:create"] = 1000.0
    ids = await town.add(*[town.reserve() for _ in range(40)])
    async with town.working():
        await town.until(lambda: _claimed(town, 10))
        await asyncio.sleep(0.3)  # longer than it waits between two claims
        assert await _claimed(town, 10)
        free.set()
        await town.ended(*ids)
