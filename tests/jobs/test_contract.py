"""What every transport does for producers and operators: the contract of `port.JobQueue`."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from cerniq_stock.erp.trouble import RateLimitedError
from cerniq_stock.errors import InvalidInputError
from cerniq_stock.jobs.handlers import Running
from cerniq_stock.jobs.port import JobState, NewJob
from tests.jobs.conftest import Town, on_bullmq
from tests.jobs.redis_server import program


@pytest.fixture(params=["postgres", "bullmq"])
async def shop(request: pytest.FixtureRequest, town: Town) -> AsyncIterator[Town]:
    """A town whose jobs travel by one of the transports."""
    if request.param == "postgres":
        yield town
        return
    if program() is None:
        pytest.skip("no Redis server on this machine, and no wheel of one for this Python")
    async with on_bullmq(town, request.getfixturevalue("redis").url) as moved:
        yield moved


async def test_a_job_waits_runs_and_is_shown(shop):
    (id_,) = await shop.add(shop.reserve(priority=3))
    job = await shop.look(id_)
    assert (job.state, job.attempts, job.priority) == ("WAITING", 0, 3)
    assert job.payload["items"] == [{"sku": "A", "quantity": 1}]
    assert [x.id for x in await shop.queue.jobs(shop.tenant)] == [id_]
    (count,) = await shop.queue.counts(shop.tenant)
    assert count.states == {"WAITING": 1}
    async with shop.working():
        (job,) = await shop.ended(id_)
    assert (job.state, job.attempts) == ("COMPLETED", 1)
    assert job.result["status"] == "ACTIVE"
    assert job.finished_at >= job.created_at
    assert await shop.available("A") == 49


async def test_the_same_id_again_adds_nothing(shop):
    first = shop.reserve(id="one", quantity=1)
    assert await shop.add(first, first) == ["one", "one"]
    await shop.add(shop.reserve(id="one", quantity=2))
    assert len(await shop.queue.jobs(shop.tenant)) == 1
    assert (await shop.look("one")).payload == first.payload
    async with shop.working():
        await shop.ended("one")
        await shop.add(first)
        assert (await shop.look("one")).state == JobState.COMPLETED
    assert await shop.available("A") == 49


@pytest.mark.parametrize(
    ("field", "job"),
    [
        ("name", NewJob(name="stock:make:coffee", payload={})),
        ("payload", NewJob(name="stock:sync:erp", payload=[])),
        ("priority", NewJob(name="stock:sync:erp", payload={}, priority=1001)),
        ("delay", NewJob(name="stock:sync:erp", payload={}, delay_s=-1)),
        ("jobId", NewJob(name="stock:sync:erp", payload={}, id="x" * 91)),
        ("payload", NewJob(name="stock:sync:erp", payload={"note": "a\0b"})),
        ("payload", NewJob(name="stock:sync:erp", payload={"note": "a" * 1_000_001})),
    ],
)
async def test_what_can_be_no_job_is_not_taken(shop, field, job):
    with pytest.raises(InvalidInputError) as caught:
        await shop.add(shop.reserve(), job)
    assert caught.value.field == field
    assert await shop.queue.jobs(shop.tenant) == ()


async def test_a_delayed_job_waits_and_can_be_cancelled(shop):
    late, soon = await shop.add(shop.reserve(delay_s=3600), shop.reserve(delay_s=0.3))
    assert (await shop.look(late)).state == JobState.DELAYED
    async with shop.working():
        await shop.ended(soon)
        assert (await shop.look(late)).state == JobState.DELAYED
        assert await shop.queue.cancel(shop.tenant, late)
    assert not await shop.queue.cancel(shop.tenant, late)
    assert not await shop.queue.cancel(shop.tenant, soon)
    assert not await shop.queue.cancel(shop.tenant, "unknown")
    assert await shop.available("A") == 49


async def test_failed_jobs_are_listed_and_retried(shop):
    (bad,) = await shop.add(shop.job("stock:sync:oblio"))
    async with shop.working():
        (job,) = await shop.ended(bad)
        assert job.state == JobState.FAILED
        assert job.error.startswith("NOT_CONFIGURED: ")
        assert job.attempts == 1
        failed = await shop.queue.jobs(shop.tenant, state=JobState.FAILED)
        assert [x.id for x in failed] == [bad]
        assert not await shop.queue.retry(shop.tenant, "unknown")
    assert await shop.queue.retry(shop.tenant, bad)
    assert (await shop.look(bad)).state == JobState.WAITING
    async with shop.working():
        await shop.ended(bad)


async def test_a_bad_payload_fails_at_once_and_says_why(shop):
    async with shop.working():
        (id_,) = await shop.add(shop.reserve(quantity="many"))
        (job,) = await shop.ended(id_)
    assert (job.state, job.attempts) == ("FAILED", 1)
    assert job.error.startswith("INVALID_PAYLOAD: items.0.quantity: ")


async def test_a_tenant_sees_its_own_jobs_only(shop):
    (id_,) = await shop.add(shop.reserve())
    stranger = uuid4()
    assert await shop.queue.get(stranger, id_) is None
    assert await shop.queue.jobs(stranger) == ()
    assert not await shop.queue.cancel(stranger, id_)
    assert not await shop.queue.retry(stranger, id_)
    assert await shop.queue.counts(stranger) == ()


async def test_smaller_priorities_come_first(shop, handle):
    # one at a time: the order of effects is the order of turns
    handle(concurrency=1)
    jobs = [shop.reserve(id=f"p{n}", priority=n, quantity=n) for n in (3, 1, 2)]
    await shop.add(*jobs)
    async with shop.working():
        ended = await shop.ended("p1", "p2", "p3")
    before = [job.result["items"][0]["availableBefore"] for job in ended]
    assert before == [50, 49, 47]


@pytest.mark.parametrize("limit", [0, -1, 1_000_000, True])
async def test_a_list_has_some_rows(shop, limit):
    with pytest.raises(InvalidInputError, match="limit"):
        await shop.queue.jobs(shop.tenant, limit=limit)


async def test_many_jobs_each_once(shop):
    ids = await shop.add(*[shop.reserve() for _ in range(40)])
    async with shop.working(), shop.working():
        await asyncio.gather(shop.ended(*ids[:20]), shop.ended(*ids[20:]))
    assert await shop.available("A") == 10
    assert (await shop.stock.verify()).ok


@pytest.mark.parametrize(("backoff_s", "wish_s"), [(0.01, 0.4), (0.4, 0.01)])
async def test_who_asks_to_be_left_alone_is(shop, handle, backoff_s, wish_s):
    at = []

    async def is_told(running: Running, _):
        at.append(time.monotonic())
        if len(at) == 1:
            raise RateLimitedError("the ERP asks for fewer requests", retry_after_s=wish_s)
        return {}

    handle(handler=is_told, backoff_s=backoff_s)
    async with shop.working():
        (id_,) = await shop.add(shop.reserve())
        (job,) = await shop.ended(id_)
    assert (job.state, job.attempts) == ("COMPLETED", 2)
    assert at[1] - at[0] >= 0.4


async def test_a_wish_holds_for_the_next_attempt_only(shop, handle):
    at = []

    async def is_told_once(running: Running, _):
        at.append(time.monotonic())
        raise RateLimitedError("not yet", retry_after_s=4 if len(at) == 1 else None)

    handle(handler=is_told_once, backoff_s=0.01)
    async with shop.working():
        (id_,) = await shop.add(shop.reserve())
        (job,) = await shop.ended(id_)
    assert (job.state, job.attempts) == ("FAILED", 3)
    # without a wish it is no longer than a worker sleeps on an empty queue
    assert at[1] - at[0] >= 4 > at[2] - at[1]


@pytest.mark.parametrize("limit", ["rates", "tenant_rates"])
async def test_a_rate_limit_spreads_jobs_out(shop, handle, limit):
    at = []

    async def notes(running: Running, _):
        at.append(time.monotonic())
        return {}

    handle(handler=notes)
    getattr(shop, limit)["stock:reserve:create"] = 20.0
    async with shop.working():
        ids = await shop.add(*[shop.reserve() for _ in range(40)])
        jobs = await shop.ended(*ids)
    assert all((job.state, job.attempts) == ("COMPLETED", 1) for job in jobs)
    at.sort()
    # a second's worth at once, the other twenty at twenty a second
    assert at[-1] - at[0] >= 0.9
