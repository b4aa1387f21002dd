"""BullMQ's own dangers: workers and a Redis that go away, addresses, ids."""

import asyncio
import os
import signal
import sys

import pytest

from cerniq_stock.errors import InvalidInputError
from cerniq_stock.jobs import bull
from cerniq_stock.jobs.port import JobState, NewJob
from tests.jobs.conftest import on_bullmq
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
