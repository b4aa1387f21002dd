"""A shop with a queue, and workers that run in this process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import redis as redis_client

from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.secrets import Keys, SecretsError
from cerniq_stock.integrations import Integrations
from cerniq_stock.jobs import catalogue, pg_worker
from cerniq_stock.jobs.bull_queue import BullQueue
from cerniq_stock.jobs.bull_worker import BullWorker
from cerniq_stock.jobs.metrics import Metrics
from cerniq_stock.jobs.pg_queue import PostgresQueue
from cerniq_stock.jobs.pg_worker import Worker
from cerniq_stock.jobs.port import JobState, JobView, NewJob
from cerniq_stock.jobs.rates import Rates
from cerniq_stock.jobs.schedule import Scheduler
from cerniq_stock.jobs.upkeep import Upkeep
from cerniq_stock.service import Stock
from cerniq_stock.settings import Settings
from cerniq_stock.store.catalog import NewProduct, NewTenant
from cerniq_stock.store.database import create_pool
from cerniq_stock.sync.syncs import Syncs
from cerniq_stock.wiring import open_stock
from tests.jobs.redis_server import RedisServer, redis_server

ENDED = {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}


@dataclass
class Town:
    """A tenant with fifty each of A and B, a negotiation, a queue."""

    stock: Stock
    queue: Any
    operator: asyncpg.Pool
    tenant: UUID
    negotiation: UUID
    rates: dict[str, float] = field(default_factory=dict)
    tenant_rates: dict[str, float] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)
    make_worker: Callable[[], Any] | None = None

    def reserve(self, line: str = "A", quantity: Any = 1, **options: Any) -> NewJob:
        asked = {
            "tenantId": str(self.tenant),
            "negotiationId": str(self.negotiation),
            "items": [{"sku": line, "quantity": quantity}],
        }
        return NewJob(name="stock:reserve:create", payload=asked, **options)

    def job(self, name: str, **payload: Any) -> NewJob:
        return NewJob(name=name, payload={"tenantId": str(self.tenant), **payload})

    async def add(self, *jobs: NewJob) -> list[str]:
        return list(await self.queue.add(self.tenant, jobs))

    async def look(self, job_id: str) -> JobView:
        job = await self.queue.get(self.tenant, job_id)
        assert job is not None
        return job

    async def ended(self, *ids: str) -> list[JobView]:
        """Wait until the jobs have ended. The database tells nobody, so it is asked."""
        async with asyncio.timeout(60):
            for id_ in ids:
                while (await self.look(id_)).state not in ENDED:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        return [await self.look(id_) for id_ in ids]

    async def until(self, true: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(60):
            while not await true():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def syncs(self) -> Syncs:
        """There are no keys, so no integration can be opened."""
        pools = self.operator, self.operator
        integrations = Integrations(*pools, keys=_no_keys, policy=Policy.parse(""))
        return Syncs(self.stock.dsn, self.operator, integrations)

    def limits(self) -> Rates:
        return Rates(self.operator, self.rates, self.tenant_rates)

    def upkeep(self) -> Upkeep:
        return Upkeep(self.operator, self.stock, self.limits(), self.metrics)

    def _postgres_worker(self) -> Worker:
        scheduler = Scheduler(self.operator, self.queue)
        about = self.syncs(), scheduler.fan_out, self.limits(), self.metrics
        return Worker(self.operator, self.stock, *about)

    async def available(self, sku: str) -> int:
        return int((await self.stock.availability(self.tenant, [sku]))[sku].available)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Any]:
        """Run a worker for the length of the block."""
        worker = self.make_worker() if self.make_worker else self._postgres_worker()
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            async with asyncio.timeout(30):
                await task


def _no_keys() -> Keys:
    raise SecretsError("no keys here")


@asynccontextmanager
async def on_bullmq(town: Town, url: str) -> AsyncIterator[Town]:
    """The same shop with jobs that travel by BullMQ, in an empty Redis."""
    client = redis_client.Redis.from_url(url)
    client.flushall()
    client.close()
    async with BullQueue(url) as queue:
        moved = replace(town, queue=queue)

        def worker() -> BullWorker:
            scheduler = Scheduler(town.operator, town.queue)
            about = town.syncs(), scheduler.fan_out, town.limits(), town.metrics
            return BullWorker(url, town.stock, *about)

        moved.make_worker = worker
        yield moved


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """One Redis for all that need one."""
    with redis_server() as server:
        yield server


@pytest.fixture
async def town(database: str) -> AsyncIterator[Town]:
    settings = Settings(database_url=database)
    async with (
        open_stock(settings=settings, sweep=False) as stock,
        create_pool(database, "cerniq_app", max_size=4) as app,
        create_pool(database, "cerniq_operator", max_size=8, reset=False) as operator,
    ):
        found = Town(stock, PostgresQueue(app), operator, uuid4(), uuid4())
        await stock.create_tenant(NewTenant("Shop", id=found.tenant))
        await stock.import_products(found.tenant, [NewProduct(sku, sku) for sku in "AB"])
        for sku in "AB":
            await stock.receive(found.tenant, sku, 50)
        await stock.set_negotiation(found.tenant, found.negotiation, "PROPOSAL")
        yield found


@pytest.fixture
def handle(monkeypatch):
    """Put another handler, or other limits, in the place of a kind's."""

    def put(name="stock:reserve:create", **changed):
        kind = replace(catalogue.CATALOGUE[name], **changed)
        for group in ("QUICK", "SLOW"):
            kinds = [kind if x.name == name else x for x in getattr(pg_worker, group)]
            monkeypatch.setattr(pg_worker, group, kinds)
        monkeypatch.setitem(catalogue.CATALOGUE, name, kind)

    return put
