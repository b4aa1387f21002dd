"""Runs jobs, schedules and metrics in one process, until it is told to stop."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

import structlog
from prometheus_client import start_http_server

from cerniq_stock.errors import InvalidInputError
from cerniq_stock.jobs.catalogue import CATALOGUE
from cerniq_stock.jobs.metrics import Metrics
from cerniq_stock.jobs.pg_queue import PostgresQueue
from cerniq_stock.jobs.pg_worker import Worker
from cerniq_stock.jobs.port import JobQueue
from cerniq_stock.jobs.rates import Rates
from cerniq_stock.jobs.schedule import Scheduler
from cerniq_stock.jobs.upkeep import Upkeep
from cerniq_stock.service import Stock
from cerniq_stock.settings import Settings
from cerniq_stock.store.database import create_pool
from cerniq_stock.store.writer import Limits
from cerniq_stock.sync.syncs import Syncs
from cerniq_stock.wiring import open_integrations, open_stock, open_syncs, prepare_database

log = structlog.get_logger("cerniq_stock.worker")

POOL = 10
ABANDON_S = 5.0
"""How long abandoned jobs may take to notice."""


class Part(Protocol):
    """What runs until it is stopped."""

    async def run(self) -> None:
        """Run until stopped."""
        ...

    def stop(self) -> None:
        """Let `run` return."""
        ...


class Working(Part, Protocol):
    """A transport's worker."""

    def abandon(self) -> None:
        """Let go of what runs; other workers take it over."""
        ...


def _bull_worker(
    url: str, stock: Stock, syncs: Syncs, scheduler: Scheduler, rates: Rates, metrics: Metrics
) -> Working:
    with _extra():
        from cerniq_stock.jobs.bull_worker import BullWorker  # noqa: PLC0415 - an optional extra
    return BullWorker(url, stock, syncs, scheduler.fan_out, rates, metrics)


@asynccontextmanager
async def open_queue(settings: Settings) -> AsyncIterator[PostgresQueue]:
    """Open the queue of jobs on PostgreSQL for a producer."""
    dsn = await prepare_database(settings)
    async with create_pool(dsn, "cerniq_app", max_size=4) as pool:
        yield PostgresQueue(pool)


@asynccontextmanager
async def open_transport(settings: Settings, redis_url: str | None) -> AsyncIterator[JobQueue]:
    """Open the queue of jobs on BullMQ where a Redis is named, else on PostgreSQL."""
    if redis_url is None:
        async with open_queue(settings) as queue:
            yield queue
        return
    with _extra():
        from cerniq_stock.jobs.bull_queue import BullQueue  # noqa: PLC0415 - an optional extra
    async with BullQueue(redis_url) as queue:
        yield queue


@contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise InvalidInputError(
            "transport", "The BullMQ transport is not installed; see docs/jobs.md"
        ) from error


async def run_workers(
    settings: Settings,
    *,
    schedules: bool = True,
    redis_url: str | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Work until SIGTERM or SIGINT: then take no more jobs and let those that run end.

    With `redis_url` jobs come from BullMQ there instead of PostgreSQL.

    What has not ended after `settings.stop_grace_s` is left to other workers, which take it over
    within seconds; it has its effect once all the same.
    """
    _check_rates(settings)
    stop = _on_signals()
    async with _parts(settings, schedules=schedules, redis_url=redis_url) as (worker, beside):
        parts = [worker, *beside]
        tasks = [asyncio.create_task(part.run()) for part in parts]
        stopped = asyncio.create_task(stop.wait())
        # what is loaded by now stays: the collector need not walk it again and again
        gc.collect()
        gc.freeze()
        log.info("worker started", schedules=schedules)
        ready()
        await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
        log.info("worker stops")
        for part in parts:
            part.stop()
        stopped.cancel()
        late = (await asyncio.wait(tasks, timeout=settings.stop_grace_s))[1]
        if late:
            log.warning("jobs are left to other workers", grace_s=settings.stop_grace_s)
            worker.abandon()
            late = (await asyncio.wait(late, timeout=ABANDON_S))[1]
        for task in tasks:
            if task not in late:
                task.result()  # a part that died brings the process down with its error
    log.info("worker stopped")


def _check_rates(settings: Settings) -> None:
    for name in (*settings.job_rates, *settings.job_tenant_rates):
        if name not in CATALOGUE:
            raise InvalidInputError("jobRates", f"No kind of job {name!r} to limit")


def _on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


@asynccontextmanager
async def _parts(
    settings: Settings, *, schedules: bool, redis_url: str | None
) -> AsyncIterator[tuple[Working, list[Part]]]:
    """Open the worker and what runs beside it."""
    # jobs come fifty at a time: in one lane they make batches twice as large
    limits = Limits(connections=settings.writer_connections, lanes_per_tenant=1)
    metrics = Metrics(tenant_label=settings.metrics_tenant_label)
    async with (
        open_stock(settings=settings, limits=limits, observer=metrics) as stock,
        create_pool(stock.dsn, "cerniq_app", max_size=4) as app,
        create_pool(stock.dsn, "cerniq_operator", max_size=POOL, reset=False) as operator,
        open_syncs(settings, stock.dsn) as syncs,
    ):
        await _warn_of_closed(settings, stock.dsn)
        scheduler = Scheduler(operator, PostgresQueue(app))
        rates = Rates(operator, settings.job_rates, settings.job_tenant_rates)
        worker: Working = (
            Worker(operator, stock, syncs, scheduler.fan_out, rates, metrics)
            if redis_url is None
            else _bull_worker(redis_url, stock, syncs, scheduler, rates, metrics)
        )
        with _metrics_served(settings, metrics):
            beside: list[Part] = [Upkeep(operator, stock, rates, metrics, depth=redis_url is None)]
            yield worker, [*beside, scheduler] if schedules else beside


async def _warn_of_closed(settings: Settings, dsn: str) -> None:
    """Say at once what else each job of an ERP would say, long after the start has looked good."""
    async with open_integrations(settings, dsn) as integrations:
        found = await integrations.stored()
    if found.closed:
        log.warning(
            "stored credentials do not open: the jobs of their ERPs will fail",
            integrations=found.stored,
            closed=found.closed,
            reason=found.reason,
        )


@contextmanager
def _metrics_served(settings: Settings, metrics: Metrics) -> Iterator[None]:
    host, port = settings.metrics_host, settings.metrics_port
    if not port:
        yield
        return
    try:
        server, _ = start_http_server(port, host, registry=metrics.registry)
    except OSError as error:
        # another worker of this machine has the port; that is no reason not to work
        log.warning("metrics are not served", address=f"{host}:{port}", error=str(error))
        yield
        return
    log.info("metrics served", address=f"http://{host}:{port}/metrics")
    try:
        yield
    finally:
        server.shutdown()
