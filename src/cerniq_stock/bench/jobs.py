"""`bench jobs`: how fast a worker gets through a queue, and how soon one job has its result.

The worker is a process of its own, as it would be; this one adds jobs and asks.
"""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, cast

import asyncpg

from cerniq_stock.bench.engine import judge
from cerniq_stock.bench.fill import fill
from cerniq_stock.bench.scratch import say, scratch, tidy
from cerniq_stock.bench.workload import Plan, requests
from cerniq_stock.jobs.pg_queue import PostgresQueue
from cerniq_stock.jobs.port import JobQueue, JobState, NewJob
from cerniq_stock.running import open_transport
from cerniq_stock.settings import Settings
from cerniq_stock.store.database import connect

CHUNK = 1_000
KIND = "stock:reserve:create"
ASK_EVERY_S = 0.001
PAUSE_S = 0.04
WARM_UP = 200

_TOOK = """
SELECT extract(epoch FROM clock_timestamp() - min(created_at))::float8
FROM (SELECT created_at FROM stock_reservations ORDER BY id OFFSET $1) AS r
"""
"""Since the first reservation after the warm-up."""
_UNFINISHED = "SELECT EXISTS (SELECT FROM jobs WHERE status = 'WAITING')"
_RESULT = "SELECT result FROM jobs WHERE tenant_id = $1 AND id = $2"


async def bench_jobs(
    plan: Plan,
    *,
    server: str,
    settings: Settings,
    jobs: int = 10_000,
    singles: int = 200,
    redis_url: str | None = None,
) -> dict[str, Any]:
    """Add so many reserve jobs in bulk, wait for the last result; then jobs one by one.

    The time of the drain is the database's, from the first reservation to the last result. With
    `redis_url` the jobs travel by BullMQ there; that Redis should be empty.
    """
    async with scratch(server) as dsn:
        say(f"filling: {plan.products:,} products")
        town = await fill(dsn, plan)
        await tidy(dsn)
        tenant, seats = town.tenants[0], town.seats
        wanted = requests(plan)
        new = [
            _job(tenant, seats[n % len(seats)][0].negotiation_id, next(wanted))
            for n in range(WARM_UP + jobs + singles)
        ]
        at = settings.model_copy(update={"database_url": dsn})
        async with open_transport(at, redis_url) as queue:
            async with _worker(dsn, redis_url):
                await _add(queue, tenant, new[:WARM_UP])
                await _until_ended(dsn, queue, WARM_UP)
            say(f"adding {jobs:,} jobs")
            started = time.perf_counter()
            await _add(queue, tenant, new[WARM_UP : WARM_UP + jobs])
            added_s = time.perf_counter() - started
            say("working")
            async with _worker(dsn, redis_url):
                drain_s = await _until_ended(dsn, queue, WARM_UP + jobs)
                say(f"{singles} jobs one by one")
                waited = await _one_by_one(dsn, queue, tenant, new[WARM_UP + jobs :])
            failed = await queue.jobs(tenant, state=JobState.FAILED, limit=1)
        verdict = await judge(dsn)
    waited.sort()
    return {
        "transport": "postgres" if redis_url is None else "bullmq",
        "products": plan.products,
        "jobs": jobs,
        "added_per_second": round(jobs / added_s, 1),
        "jobs_per_second": round(jobs / drain_s, 1),
        "drain_s": round(drain_s, 3),
        "single_p50_ms": round(waited[len(waited) // 2] * 1000, 2),
        "single_p95_ms": round(waited[int(len(waited) * 0.95)] * 1000, 2),
        "failed": len(failed),
        **asdict(verdict),
    }


def _job(tenant: Any, negotiation: Any, items: Any) -> NewJob:
    lines = [{"sku": item.sku, "quantity": 1} for item in items]
    payload = {"tenantId": str(tenant), "negotiationId": str(negotiation), "items": lines}
    return NewJob(name=KIND, payload=payload)


async def _add(queue: JobQueue, tenant: Any, jobs: list[NewJob]) -> None:
    for start in range(0, len(jobs), CHUNK):
        await queue.add(tenant, jobs[start : start + CHUNK])


async def _one_by_one(dsn: str, queue: JobQueue, tenant: Any, jobs: list[NewJob]) -> list[float]:
    """From adding a job on an idle queue to having its result, asking all the time."""
    waited = []
    connection = await connect(dsn, settings={"app.tenant": str(tenant)})
    try:
        for job in jobs:
            started = time.perf_counter()
            (id_,) = await queue.add(tenant, [job])
            while not await _has_result(connection, queue, tenant, id_):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(ASK_EVERY_S)
            waited.append(time.perf_counter() - started)
            await asyncio.sleep(PAUSE_S)
    finally:
        await connection.close()
    return waited


async def _has_result(connection: Any, queue: JobQueue, tenant: Any, id_: str) -> bool:
    if isinstance(queue, PostgresQueue):
        return await connection.fetchval(_RESULT, tenant, id_) is not None
    found = await queue.get(tenant, id_)
    return found is not None and found.finished_at is not None


async def _until_ended(dsn: str, queue: JobQueue, reserved: int) -> float:
    """Wait for all results; returns how long it took by the database's clock.

    From the worker's first reservation, so without its start, to the last result. So many
    reservations are there by then.
    """
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
    try:
        while await _unfinished(connection, queue):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
        done: int = await connection.fetchval("SELECT count(*) FROM stock_reservations")
        assert done == reserved, (done, reserved)
        took_s: float = await connection.fetchval(_TOOK, min(WARM_UP, reserved - 1))
    finally:
        await connection.close()
    return took_s


async def _unfinished(connection: Any, queue: JobQueue) -> bool:
    if isinstance(queue, PostgresQueue):
        return bool(await connection.fetchval(_UNFINISHED))
    unfinished: dict[Any, int] = await cast("Any", queue).unfinished(KIND)  # BullQueue has it
    return any(unfinished.values())


@asynccontextmanager
async def _worker(dsn: str, redis_url: str | None) -> AsyncIterator[None]:
    """Run `cerniq-stock worker` for the length of the block."""
    code = "from cerniq_stock.cli import main; main()"
    way = () if redis_url is None else ("--transport", "bullmq", "--redis-url", redis_url)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, "worker", "--no-schedules", "--metrics-port", "0"),
        *("--quiet", "--database", dsn, *way),
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
