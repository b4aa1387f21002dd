"""BullMQ's own dangers: workers and a Redis that go away, addresses, ids."""

import asyncio
import os
import signal
import sys

import pytest
from bullmq import Queue
from prometheus_client import generate_latest

from cerniq_stock.errors import InvalidInputError, UnavailableError
from cerniq_stock.jobs import bull
from cerniq_stock.jobs.bull_queue import BullQueue
from cerniq_stock.jobs.bull_worker import BullWorker
from cerniq_stock.jobs.metrics import Metrics
from cerniq_stock.jobs.port import PLATFORM, JobState, NewJob
from cerniq_stock.jobs.schedule import Scheduler
from tests.jobs.conftest import Town, on_bullmq
from tests.jobs.redis_server import program, redis_server

needs_redis = pytest.mark.skipif(program() is None, reason="no Redis server, and no wheel of one")


async def _worker(dsn: str, url: str) -> asyncio.subprocess.Process:
    code = "from cerniq_stock.cli import main; main()"
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, "worker", "-q", "--transport", "bullmq"),
        *("--redis-url", url, "--metrics-port", "0"),
        env={**os.environ, "CERNIQ_DATABASE_URL": dsn},
    )


@needs_redis
async def test_a_killed_workers_jobs_are_taken_over_and_have_their_effect_once(
    town, redis, database
):
    await town.stock.receive(town.tenant, "A", 1000)
    async with on_bullmq(town, redis.url) as moved:
        ids = await moved.add(*[moved.reserve() for _ in range(600)])
        victim = await _worker(database, redis.url)

        async def some_run():
            return bool(await moved.queue.jobs(moved.tenant, state=JobState.ACTIVE, limit=1))

        await moved.until(some_run)
        victim.kill()
        await victim.wait()
        heir = await _worker(database, redis.url)
        jobs = await moved.ended(*ids)
        heir.send_signal(signal.SIGTERM)
        assert await heir.wait() == 0
    assert {job.state for job in jobs} == {"COMPLETED"}
    assert await town.available("A") == 450
    assert (await town.stock.verify()).ok


@needs_redis
async def test_redis_goes_away_and_comes_back(town):
    with redis_server() as server:
        async with on_bullmq(town, server.url) as moved, moved.working():
            ids = await moved.add(*[moved.reserve() for _ in range(5)])
            await moved.ended(*ids)
            server.stop()
            server.start()
            more = [moved.reserve(id=f"more{n}") for n in range(5)]
            await moved.add(*more)
            jobs = await moved.ended(*ids, *[job.id for job in more])
    assert {job.state for job in jobs} == {"COMPLETED"}
    assert await town.available("A") == 40


@needs_redis
@pytest.mark.parametrize("id_", ["12", "a:b"])
async def test_ids_that_node_would_refuse_are_refused(town, redis, id_):
    async with on_bullmq(town, redis.url) as moved:
        with pytest.raises(InvalidInputError) as caught:
            await moved.add(moved.reserve(id=id_))
        assert caught.value.field == "jobId"
        with pytest.raises(InvalidInputError) as caught:
            await moved.add(NewJob(name="stock:sync:erp", payload={}))
        assert caught.value.field == "payload"


@pytest.mark.parametrize(
    "url", ["", "localhost", "http://localhost", "redis://", "redis://localhost/main"]
)
def test_what_is_no_address_of_redis(url):
    with pytest.raises(InvalidInputError):
        bull.connection(url)


def test_an_address_with_everything():
    assert bull.connection("rediss://app:p%40ss@redis.example:6380/2") == {
        "host": "redis.example",
        "port": 6380,
        "db": 2,
        "username": "app",
        "password": "p@ss",
        "ssl": True,
        "socket_timeout": None,
    }


def test_an_effects_key_outlives_an_emptied_redis():
    first = bull.effect_key("stock:reserve:create", "1", 1_700_000_000_000)
    assert first == bull.effect_key("stock:reserve:create", "1", 1_700_000_000_000)
    assert first != bull.effect_key("stock:reserve:create", "1", 1_700_000_000_001)
    assert len(first) <= 100


async def test_a_redis_that_is_not_there_is_said_to_be_away(town, monkeypatch):
    monkeypatch.setattr(bull, "ANSWER_S", 0.5)
    nobody = "redis://127.0.0.1:1/0"
    with pytest.raises(UnavailableError):
        async with BullQueue(nobody):
            pass
    scheduler = Scheduler(town.operator, town.queue)
    about = town.syncs(), scheduler.fan_out, town.limits(), town.metrics
    worker = BullWorker(nobody, town.stock, *about)
    with pytest.raises(UnavailableError):
        await worker.run()


@needs_redis
async def test_a_job_of_nobody_is_shown_as_the_platforms(town, redis):
    async with on_bullmq(town, redis.url) as shop:
        queue = Queue("stock-reserve-create", {"connection": redis.url})
        await queue.add("stock:reserve:create", {"tenantId": "nonsense"}, {"jobId": "whose"})
        await queue.close()
        async with shop.working():
            await shop.until(lambda: _failed(shop, "whose"))


async def _failed(shop: Town, job_id: str) -> bool:
    job = await shop.queue.get(PLATFORM, job_id)
    return job is not None and (job.error or "").startswith("INVALID_PAYLOAD")


@needs_redis
async def test_the_depth_of_redis_is_measured(town, redis):
    async with on_bullmq(town, redis.url) as shop:
        await shop.add(shop.reserve(delay_s=3600))
        async with shop.working():
            await shop.until(lambda: _depth(shop.metrics))


async def _depth(metrics: Metrics) -> bool:
    line = 'stock_queue_depth{job="stock:reserve:create",state="DELAYED"} 1.0'
    return line in generate_latest(metrics.registry).decode()
