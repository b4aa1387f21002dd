"""Workers killed under load: every job ends, and every effect is there once."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg

from cerniq_stock.domain.commands import Item
from cerniq_stock.jobs.pg_queue import PostgresQueue
from cerniq_stock.jobs.port import NewJob
from cerniq_stock.settings import Settings
from cerniq_stock.store.catalog import NewProduct, NewTenant
from cerniq_stock.store.database import create_pool
from cerniq_stock.wiring import open_stock

WORKERS = 3
JOBS_A_KILL = 200
STOCK = 10_000_000
END_S = 120.0

Process = asyncio.subprocess.Process


@dataclass(frozen=True)
class WorkersKilled:
    """What became of the jobs. Kills that met no running job prove nothing: `busy` counts those."""

    kills: int
    busy: int
    jobs: int
    failed: int
    reserved_expected: int
    reserved: int
    delivered_expected: int
    delivered: int
    differences: int

    @property
    def ok(self) -> bool:
        """Whether nothing was lost or doubled."""
        return (
            self.failed == 0
            and self.reserved == self.reserved_expected
            and self.delivered == self.delivered_expected
            and self.differences == 0
        )

    def __str__(self) -> str:
        """Tell it in one line."""
        return (
            f"{self.kills} workers killed ({self.busy} with jobs running): all {self.jobs:,} jobs"
            f" ended, {self.failed:,} failed; {self.reserved:,} of {self.reserved_expected:,} units"
            f" reserved, {self.delivered:,} of {self.delivered_expected:,} delivered,"
            f" {self.differences} differences: {'ok' if self.ok else 'NOT OK'}"
        )


class _Load:
    """Adds reservations and deliveries in part, of which a repeat would show."""

    def __init__(self, queue: PostgresQueue, tenant: UUID, negotiation: UUID, order: UUID) -> None:
        self.queue, self.tenant = queue, tenant
        self.reserve = {
            "tenantId": str(tenant),
            "negotiationId": str(negotiation),
            "items": [{"sku": "A", "quantity": 1}],
        }
        part = {"items": [{"sku": "B", "quantity": 1}]}
        self.deliver = {"tenantId": str(tenant), "orderId": str(order), **part}
        self.added = {"stock:reserve:create": 0, "stock:deduct:delivered": 0}

    async def add(self, number: int) -> None:
        payloads = {"stock:reserve:create": self.reserve, "stock:deduct:delivered": self.deliver}
        create, deduct = payloads
        names = [create if n % 3 else deduct for n in range(number)]
        await self.queue.add(
            self.tenant, [NewJob(name=name, payload=payloads[name]) for name in names]
        )
        for name in names:
            self.added[name] += 1


async def kill_workers(
    dsn: str, kills: int, seed: int, say: Callable[[str], None]
) -> WorkersKilled:
    """Kill so many workers on a migrated database, then let the rest of the jobs end."""
    chance = random.Random(seed)
    async with AsyncExitStack() as stack:
        settings = Settings(database_url=dsn)
        stock = await stack.enter_async_context(open_stock(settings=settings, sweep=False))
        app = await stack.enter_async_context(create_pool(dsn, "cerniq_app", max_size=2))
        operator = await stack.enter_async_context(create_pool(dsn, "cerniq_operator", max_size=2))
        tenant, negotiation, order = uuid4(), uuid4(), uuid4()
        await stock.create_tenant(NewTenant("Shop", id=tenant))
        await stock.import_products(tenant, [NewProduct(sku, sku) for sku in "AB"])
        for sku in "AB":
            await stock.receive(tenant, sku, STOCK)
        await stock.set_negotiation(tenant, negotiation, "PROPOSAL")
        await stock.create_order(tenant, order, [Item("B", STOCK)])
        await stock.reserve_order(tenant, order)
        load = _Load(PostgresQueue(app), tenant, negotiation, order)
        await load.add(JOBS_A_KILL)
        workers = [await _start(dsn) for _ in range(WORKERS)]
        busy = 0
        try:
            for number in range(kills):
                await load.add(JOBS_A_KILL)
                while not await _running(operator):  # noqa: ASYNC110 - the server has no event
                    await asyncio.sleep(0.005)
                await asyncio.sleep(chance.uniform(0.0, 0.05))
                victim = workers.pop(chance.randrange(WORKERS))
                victim.kill()
                busy += await _running(operator)
                await victim.wait()
                workers.append(await _start(dsn))
                if number % 20 == 19:
                    say(f"{number + 1} workers killed")
            async with asyncio.timeout(END_S):
                while await _waiting(operator):  # noqa: ASYNC110 - the server has no event
                    await asyncio.sleep(0.1)
        finally:
            for worker in workers:
                worker.send_signal(signal.SIGTERM)
                await worker.wait()
        # completed ones may be forgotten by now; what they did is counted below
        failed = await operator.fetchval("SELECT count(*) FROM jobs WHERE status <> 'COMPLETED'")
        reserved = (await stock.availability(tenant, ["A"]))["A"].reserved
        delivered = (await stock.order(tenant, order)).deducted
        report = await stock.verify()
    return WorkersKilled(
        kills,
        busy,
        sum(load.added.values()),
        failed,
        load.added["stock:reserve:create"],
        int(reserved),
        load.added["stock:deduct:delivered"],
        int(delivered),
        len(report.differences),
    )


async def _running(operator: asyncpg.Pool) -> bool:
    sql = "SELECT count(*) FROM cerniq_queue.pgqueuer WHERE status = 'picked'"
    return bool(await operator.fetchval(sql))


async def _waiting(operator: asyncpg.Pool) -> bool:
    sql = "SELECT count(*) FROM jobs WHERE status = 'WAITING'"
    return bool(await operator.fetchval(sql))


async def _start(dsn: str) -> Process:
    code = "from cerniq_stock.cli import main; main()"
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, "worker", "--no-schedules", "--metrics-port", "0", "-q"),
        env={
            **os.environ,
            "CERNIQ_DATABASE_URL": dsn,
            "CERNIQ_LOG_LEVEL": "ERROR",
        },
    )
