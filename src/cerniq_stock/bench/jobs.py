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
from typing import Any

import asyncpg

from cerniq_stock.bench.engine import judge
from cerniq_stock.bench.fill import fill
from cerniq_stock.bench.scratch import say, scratch, tidy
from cerniq_stock.bench.workload import Plan, requests
from cerniq_stock.jobs.pg_queue import PostgresQueue
from cerniq_stock.jobs.port import JobState, NewJob
from cerniq_stock.settings import Settings
from cerniq_stock.store.database import connect, create_pool

CHUNK = 1_000
KIND = "stock:reserve:create"
ASK_EVERY_S = 0.001
PAUSE_S = 0.04
WARM_UP = 200

_RESULT = "SELECT result FROM jobs WHERE tenant_id = $1 AND id = $2"


async def bench_jobs(
    plan: Plan, *, server: str, settings: Settings, jobs: int = 10_000, singles: int = 200
) -> dict[str, Any]:
    """Add so many reserve jobs in bulk, wait for the last result; then jobs one by one.

    The time of the drain is the database's, from the first begun to the last stored.
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
        async with create_pool(dsn, "cerniq_app", max_size=2) as pool:
            queue = PostgresQueue(pool)
            async with _worker(dsn):
                await _until_ended(dsn, await _add(queue, tenant, new[:WARM_UP]))
            say(f"adding {jobs:,} jobs")
            started = time.perf_counter()
            ids = await _add(queue, tenant, new[WARM_UP : WARM_UP + jobs])
            added_s = time.perf_counter() - started
            say("working")
            async with _worker(dsn):
                drain_s = await _until_ended(dsn, ids)
                say(f"{singles} jobs one by one")
                waited = await _one_by_one(dsn, queue, tenant, new[WARM_UP + jobs :])
            failed = await queue.jobs(tenant, state=JobState.FAILED, limit=1)
        verdict = await judge(dsn)
    waited.sort()
    return {
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


async def _add(queue: PostgresQueue, tenant: Any, jobs: list[NewJob]) -> list[str]:
    ids: list[str] = []
    for start in range(0, len(jobs), CHUNK):
        ids += await queue.add(tenant, jobs[start : start + CHUNK])
    return ids


async def _one_by_one(
    dsn: str, queue: PostgresQueue, tenant: Any, jobs: list[NewJob]
) -> list[float]:
    """From adding a job on an idle queue to having its result, asking all the time."""
    waited = []
    connection = await connect(dsn, settings={"app.tenant": str(tenant)})
    try:
        for job in jobs:
            started = time.perf_counter()
            (id_,) = await queue.add(tenant, [job])
            while not await connection.fetchval(_RESULT, tenant, id_):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(ASK_EVERY_S)
            waited.append(time.perf_counter() - started)
            await asyncio.sleep(PAUSE_S)
    finally:
        await connection.close()
    return waited


async def _until_ended(dsn: str, ids: list[str]) -> float:
    """Wait for all results; returns how long it took by the database's clock.

    From the start of the worker's first reservation to the end of the last job.
    """
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
    try:
        while await connection.fetchval(  # noqa: ASYNC110 - the server has no event
            "SELECT count(*) FROM jobs WHERE status = 'WAITING'"
        ):
            await asyncio.sleep(0.2)
        took_s: float = await connection.fetchval(
            "SELECT extract(epoch FROM max(j.finished_at) - min(r.created_at))::float8"
            " FROM jobs AS j JOIN stock_reservations AS r"
            " ON r.tenant_id = j.tenant_id AND r.id = j.result ->> 'reservationId'"
            " WHERE j.id = ANY ($1)",
            ids,
        )
    finally:
        await connection.close()
    return took_s


@asynccontextmanager
async def _worker(dsn: str) -> AsyncIterator[None]:
    """Run `cerniq-stock worker` for the length of the block."""
    code = "from cerniq_stock.cli import main; main()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, "worker", "--no-schedules", "--metrics-port", "0"),
        *("--quiet", "--database", dsn),
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
