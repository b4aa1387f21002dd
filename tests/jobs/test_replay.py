"""Five days of real trade through the queue end with exactly the levels of the library."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import TypeAdapter

from cerniq_stock.demo.replay import TENANT_ID, replay, stock_up
from cerniq_stock.demo.trade import data_file, read_trade
from cerniq_stock.domain.outcomes import OrderResult, ReserveResult
from cerniq_stock.jobs.metrics import Metrics
from cerniq_stock.jobs.pg_queue import PostgresQueue
from cerniq_stock.jobs.pg_worker import Worker
from cerniq_stock.jobs.port import JobState, NewJob
from cerniq_stock.jobs.rates import Rates
from cerniq_stock.jobs.schedule import Scheduler
from cerniq_stock.service import Stock
from cerniq_stock.store.database import create_database, create_pool, drop_database
from cerniq_stock.store.writer import Limits
from cerniq_stock.wiring import open_stock

RESERVE, ORDER = TypeAdapter(ReserveResult), TypeAdapter(OrderResult)
LEVELS = """
SELECT p.sku, s.warehouse, s.total, s.reserved, s.blocked
FROM stock_levels AS s JOIN products AS p ON p.tenant_id = s.tenant_id AND p.id = s.product_id
ORDER BY 1, 2
"""


class ThroughJobs:
    """A `Stock` whose reservations, orders and deliveries are jobs, added in the order of calls."""

    def __init__(self, stock: Stock, queue: PostgresQueue) -> None:
        self._stock, self._queue = stock, queue
        self._asked: list[tuple[NewJob, asyncio.Future[Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stock, name)

    async def reserve(self, _: Any, negotiation: Any, items: Any, *, key: str) -> ReserveResult:
        lines = [{"sku": x.sku, "quantity": int(x.quantity)} for x in items]
        asked = {"negotiationId": str(negotiation), "items": lines, "reservationKey": key}
        return RESERVE.validate_python(await self._run("stock:reserve:create", asked))

    async def reserve_order(self, _: Any, order: Any) -> OrderResult:
        return ORDER.validate_python(
            await self._run("stock:reserve:order", {"orderId": str(order)})
        )

    async def deduct_order(self, _: Any, order: Any, parts: Any, *, key: str) -> OrderResult:
        items = [{"lineNo": x.line_no, "quantity": int(x.quantity)} for x in parts]
        asked = {"orderId": str(order), "items": items, "deliveryId": key}
        return ORDER.validate_python(await self._run("stock:deduct:delivered", asked))

    async def _run(self, name: str, asked: dict[str, Any]) -> Any:
        job = NewJob(name=name, payload={"tenantId": str(TENANT_ID), **asked})
        done = asyncio.get_running_loop().create_future()
        self._asked.append((job, done))
        await asyncio.sleep(0)  # those who ask at the same time are added together, in order
        if self._asked:
            asked_now, self._asked = self._asked, []
            await self._add(asked_now)
        return await done

    async def _add(self, asked: list[tuple[NewJob, asyncio.Future[Any]]]) -> None:
        ids = await self._queue.add(TENANT_ID, [job for job, _ in asked])
        for id_, (_, done) in zip(ids, asked, strict=True):
            while (job := await self._queue.get(TENANT_ID, id_)).finished_at is None:  # type: ignore[union-attr] # noqa: ASYNC110 - it is there, and nobody tells
                await asyncio.sleep(0.01)
            assert job is not None
            assert job.state == JobState.COMPLETED, job.error
            done.set_result(job.result)


@asynccontextmanager
async def _working(stock: Stock) -> AsyncIterator[ThroughJobs]:
    async with (
        create_pool(stock.dsn, "cerniq_app", max_size=4) as app,
        create_pool(stock.dsn, "cerniq_operator", max_size=8, reset=False) as operator,
    ):
        queue = PostgresQueue(app)
        fan_out = Scheduler(operator, queue).fan_out
        nothing: Any = None  # the trade syncs with nobody
        worker = Worker(operator, stock, nothing, fan_out, Rates(operator, {}, {}), Metrics())
        running = asyncio.create_task(worker.run())
        yield ThroughJobs(stock, queue)
        worker.stop()
        await running


async def test_the_trade_through_the_queue_ends_as_through_the_library(server, template):
    trade = read_trade(data_file())
    ends = []
    for way in ("library", "queue"):
        dsn = await create_database(server, f"test_replay_{way}", template=template)
        # one lane: first come, first served to the letter
        async with open_stock(dsn, limits=Limits(lanes_per_tenant=1)) as stock:
            await stock_up(stock, trade)
            if way == "library":
                tally = await replay(stock, trade, lambda _: None)
            else:
                async with _working(stock) as through:
                    tally = await replay(through, trade, lambda _: None)  # type: ignore[arg-type] - it does what replay asks of it
            assert (await stock.verify()).ok
            async with create_pool(dsn, "cerniq_operator", max_size=1) as pool:
                ends.append((tally.lines, tally.sold, [tuple(x) for x in await pool.fetch(LEVELS)]))
        await drop_database(server, f"test_replay_{way}")
    assert ends[0] == ends[1]
    assert len(ends[0][2]) > 1000
