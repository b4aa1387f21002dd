"""The sync jobs from end to end: a worker, sealed credentials, an ERP on a socket."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from cerniq_stock.erp.fakes.oblio import FakeOblio
from cerniq_stock.erp.fakes.saga import FakeSaga
from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.secrets import new_key, read_keys
from cerniq_stock.integrations import Integrations
from cerniq_stock.jobs.metrics import Metrics
from cerniq_stock.jobs.pg_queue import PostgresQueue
from cerniq_stock.jobs.pg_worker import Worker
from cerniq_stock.jobs.port import JobState, JobView, NewJob
from cerniq_stock.jobs.rates import Rates
from cerniq_stock.jobs.schedule import Scheduler
from cerniq_stock.store.database import create_pool
from cerniq_stock.sync.syncs import Syncs
from tests.sync.conftest import Shop

KEYS = new_key("k1")


class Desk:
    """The shop with integrations, a queue and a worker."""

    def __init__(self, shop: Shop, app, operator, policy) -> None:
        self.shop = shop
        keys = read_keys(KEYS, None)
        self.integrations = Integrations(app, operator, keys=lambda: keys, policy=policy)
        self.queue = PostgresQueue(app)
        syncs = Syncs(shop.stock.dsn, app, self.integrations)
        self.metrics = Metrics()
        self.scheduler = Scheduler(operator, self.queue)
        about = self.scheduler.fan_out, Rates(operator, {}, {}), self.metrics
        self.worker = Worker(operator, shop.stock, syncs, *about)

    async def run(self, name: str, **payload) -> JobView:
        tenant = self.shop.tenant
        asked = {"tenantId": str(tenant), **payload}
        (id_,) = await self.queue.add(tenant, [NewJob(name=name, payload=asked)])
        async with asyncio.timeout(60):
            while (job := await self.queue.get(tenant, id_)).finished_at is None:  # type: ignore[union-attr] # noqa: ASYNC110 - it is there, and nobody tells
                await asyncio.sleep(0.02)
        assert job is not None
        return job


@pytest.fixture
async def fakes() -> AsyncIterator[tuple[FakeSaga, FakeOblio]]:
    async with FakeSaga() as saga, FakeOblio() as oblio:
        yield saga, oblio


@pytest.fixture
async def desk(shop, fakes) -> AsyncIterator[Desk]:
    async with (
        create_pool(shop.stock.dsn, "cerniq_app", max_size=4) as app,
        create_pool(shop.stock.dsn, "cerniq_operator", max_size=8, reset=False) as operator,
    ):
        policy = Policy.parse(" ".join(f"127.0.0.1:{fake.port}" for fake in fakes))
        desk = Desk(shop, app, operator, policy)
        await desk.integrations.remove(shop.tenant, "SAGA")  # that of the other tests
        task = asyncio.create_task(desk.worker.run())
        yield desk
        desk.worker.stop()
        await task


async def _connect(desk: Desk, system: str, fake, **options) -> None:
    await desk.integrations.add(
        desk.shop.tenant,
        system,
        name=system,
        config={"connection": dict(fake.settings())},
        options={"defaultWarehouse": "MAIN", **options},
    )


async def test_saga_from_the_socket_to_the_shelf(desk, fakes):
    saga, _ = fakes
    shop = desk.shop
    for sku, quantity in (("A", "5"), ("B", "7"), ("C", "2.5")):
        saga.received(sku, quantity)
    saga.ordered("B", "3")
    saga.received("A", "4", "02")
    await _connect(desk, "SAGA", saga, warehouses={"01": "MAIN", "02": "DEPOT"})
    job = await desk.run("stock:sync:erp", erpSystem="SAGA", syncType="FULL")
    assert job.result["success"] is True, job.error
    assert await shop.levels() == {
        "A@MAIN": "5 0 0",
        "A@DEPOT": "4 0 0",
        "B@MAIN": "7 0 3",
        "C@MAIN": "2.5 0 0",
    }
    assert set(job.result) >= {
        *("success", "syncId", "syncType", "erpSystem", "startedAt", "completedAt", "duration"),
        *("statistics", "changes", "conflicts", "errors", "nextSyncRecommended"),
    }
    assert job.progress == 100
    saga.sold("A", "2")
    job = await desk.run("stock:sync:erp", erpSystem="SAGA", syncType="SELECTIVE", skus=["A"])
    assert (await shop.levels())["A@MAIN"] == "3 0 0"
    saga.received("C", "1")
    job = await desk.run("stock:sync:erp", erpSystem="SAGA")
    assert job.result["syncType"] == "INCREMENTAL"
    assert (await shop.levels())["C@MAIN"] == "3.5 0 0"
    saga.received("B", "1")
    event = saga.event("B")
    await desk.run("stock:sync:erp", erpSystem="SAGA", syncType="WEBHOOK", webhookPayload=event)
    assert (await shop.levels())["B@MAIN"] == "8 0 3"
    assert (await shop.stock.verify()).ok


async def test_oblio_by_its_own_job(desk, fakes):
    _, oblio = fakes
    oblio.received("A", "6")
    await _connect(desk, "OBLIO", oblio, warehouses={"Sediu|01": "MAIN"})
    job = await desk.run("stock:sync:oblio", syncType="FULL")
    assert job.result is not None, job.error
    assert (job.result["erpSystem"], job.result["errors"]) == ("OBLIO", [])
    assert await desk.shop.levels() == {"A@MAIN": "6 0 0"}


async def test_whom_oblio_has_blocked_leaves_it_alone_for_ten_minutes(desk, fakes):
    _, oblio = fakes
    await _connect(desk, "OBLIO", oblio, warehouses={"Sediu|01": "MAIN"})
    oblio.blocked_until = oblio.now + oblio.block_s
    tenant = desk.shop.tenant
    payload = {"tenantId": str(tenant), "syncType": "FULL"}
    blocked = NewJob(name="stock:sync:oblio", payload=payload, id="blocked")
    await desk.queue.add(tenant, [blocked])

    async def of_all(state: JobState) -> dict[str, JobView]:
        return {job.id: job for job in await desk.queue.jobs(tenant, state=state)}

    async with asyncio.timeout(60):
        while not (waits := await of_all(JobState.DELAYED)):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
    assert waits["blocked"].attempts == 1
    assert (waits["blocked"].error or "").startswith("RATE_LIMITED")
    asked = len(oblio.requests)
    # and so do the schedules, but for other ERPs
    await desk.integrations.add(
        tenant,
        "SAGA",
        name="SAGA",
        config={"connection": dict(fakes[0].settings())},
        schedule="0 0 1 1 *",
    )
    for schedule in ("scheduled-oblio-sync", "daily-full-sync"):
        await desk.scheduler.fan_out(schedule, datetime.now(UTC))
    waits = await of_all(JobState.DELAYED)
    assert {job.payload.get("erpSystem") for job in waits.values()} == {None, "OBLIO"}
    assert len(waits) == 3
    tickets = await desk.shop.operator.fetch(
        "SELECT q.execute_after - now() AS left FROM cerniq_queue.pgqueuer AS q"
        " WHERE q.status = 'queued' AND q.entrypoint = 'stock:sync:oblio'"
    )
    assert all(500 < row["left"].total_seconds() <= 600 for row in tickets)
    assert (len(tickets), len(oblio.requests)) == (3, asked)


async def test_a_webhook_of_another_event_is_done_and_one_that_is_none_fails_at_once(desk, fakes):
    await _connect(desk, "SAGA", fakes[0])
    asked = {"erpSystem": "SAGA", "syncType": "WEBHOOK"}
    other = {"eveniment": "ALT_EVENIMENT", "articole": []}
    job = await desk.run("stock:sync:erp", **asked, webhookPayload=other)
    assert job.result["success"] is True, job.error
    assert (job.result["errors"], job.result["warnings"]) == ([], [])
    for nothing in (None, "x", {"eveniment": "STOC_MODIFICAT"}):
        job = await desk.run("stock:sync:erp", **asked, webhookPayload=nothing)
        assert (job.state, job.attempts) == ("FAILED", 1)
        assert (job.error or "").startswith("BAD_PAYLOAD: ")


async def test_a_snapshot_of_which_nothing_can_be_used_says_why(desk, fakes):
    _, oblio = fakes
    oblio.received("A", "6")
    await _connect(desk, "OBLIO", oblio)
    job = await desk.run("stock:sync:oblio", syncType="FULL")
    assert job.error.startswith("SNAPSHOT_REFUSED: None of the rows can be used")
    assert "Sediu|01" in job.error


async def test_an_erp_that_is_away_is_tried_again_and_changes_nothing(desk, fakes):
    saga, _ = fakes
    saga.received("A", "5")
    await _connect(desk, "SAGA", saga, warehouses={"01": "MAIN"})
    await desk.integrations.change(
        desk.shop.tenant, "SAGA", config={"connection": {**saga.settings(), "apiKey": "wrong"}}
    )
    job = await desk.run("stock:sync:erp", erpSystem="SAGA")
    assert job.state == "FAILED"
    assert job.error.startswith("UNAUTHORIZED")
    assert "wrong" not in f"{job.error} {job.traceback}"
    assert await desk.shop.levels() == {}
