"""Runs jobs from BullMQ on Redis, as Node workers would: same queues, attempts, events, results."""

import asyncio
import time
from typing import Any

import structlog
from bullmq import DelayedError, Job, UnrecoverableError
from bullmq import Worker as BullMQWorker
from bullmq.backoffs import Backoffs
from redis.exceptions import RedisError

from cerniq_stock.errors import UnavailableError
from cerniq_stock.jobs import bull
from cerniq_stock.jobs.attempt import Done, attempt
from cerniq_stock.jobs.bull_queue import BullQueue
from cerniq_stock.jobs.bull_together import Together
from cerniq_stock.jobs.catalogue import CATALOGUE, Kind
from cerniq_stock.jobs.handlers import FanOut, Running
from cerniq_stock.jobs.metrics import Metrics
from cerniq_stock.jobs.rates import Rates
from cerniq_stock.service import Stock
from cerniq_stock.sync.syncs import Syncs

log = structlog.get_logger("cerniq_stock.jobs")

LOCK_MS = 10_000
STALLED_EVERY_MS = 2_000
"""A dead worker's job is taken over when its lock has run out: within LOCK_MS and this."""
STALLED_AT_MOST = 5
RETRY_MS = 1_000
WATCH_EVERY_S = 5.0


class AttemptFailedError(Exception):
    """What BullMQ stores as the reason; it decides about another attempt."""


class BullWorker:
    """One BullMQ worker for each kind of job."""

    def __init__(
        self, url: str, stock: Stock, syncs: Syncs, fan_out: FanOut, rates: Rates, metrics: Metrics
    ) -> None:
        self._url = url
        self._connection = bull.connection(url)
        self._rates = rates
        self._stock = stock
        self._fan_out = fan_out
        self._syncs = syncs
        self._metrics = metrics
        self._workers: list[Any] = []
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Work until stopped. Raises UnavailableError when Redis is not there to begin with."""
        async with BullQueue(self._url) as queue:
            for kind in CATALOGUE.values():
                self._workers.append(await self._opened(kind))
            running = [asyncio.create_task(worker.run()) for worker in self._workers]
            watching = asyncio.create_task(self._watch(queue))
            stopping = asyncio.create_task(self._stopping.wait())
            await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            watching.cancel()
        await asyncio.gather(*(worker.close() for worker in self._workers))
        await asyncio.gather(*running)

    async def _watch(self, queue: BullQueue) -> None:
        """Keep the gauges, and say when Redis is away: BullMQ waits for it in silence."""
        while True:
            try:
                async with asyncio.timeout(bull.ANSWER_S):
                    for name in CATALOGUE:
                        for state, count in (await queue.unfinished(name)).items():
                            self._metrics.queue_depth.labels(name, state).set(count)
            except (OSError, TimeoutError, RedisError) as error:
                _tell(error)
            await asyncio.sleep(WATCH_EVERY_S)

    def stop(self) -> None:
        """Take no more jobs; `run` returns when those that run have ended."""
        self._stopping.set()

    def abandon(self) -> None:
        """Let go of what runs: its locks run out, and other workers take it over."""
        for worker in self._workers:
            for task in worker.processing:
                task.cancel()

    async def _opened(self, kind: Kind) -> Any:
        async def process(job: Job, token: str) -> Any:
            return await self._process(kind, job, token)

        worker = BullMQWorker(
            bull.wire_name(kind.name),
            process,
            {
                "connection": self._connection,
                "autorun": False,
                "concurrency": kind.concurrency,
                # how long it sleeps when it is limited, or when the queue is empty (G2)
                "drainDelay": 1,
                "lockDuration": LOCK_MS,
                "stalledInterval": STALLED_EVERY_MS,
                "maxStalledCount": STALLED_AT_MOST,
                "runRetryDelay": RETRY_MS,
                **_limiter(self._rates.of(kind.name)),
            },
        )
        worker.on("error", _tell)
        Together(worker.redisConnection.conn)
        try:
            # it would not know that this Redis waits for fractions of a second (G3)
            await worker.redisConnection.getRedisVersion()
            await worker.blockingRedisConnection.getRedisVersion()
        except OSError as error:
            raise UnavailableError(f"Redis does not answer: {error}") from error
        return worker

    async def _process(self, kind: Kind, job: Job, token: str) -> Any:
        async def progress(value: Any) -> None:
            await job.updateProgress(value)

        # without a tenant the payload is refused, and says so
        tenant_id = bull.tenant_of(job.data)
        wait_s = await self._rates.wait_s(kind.name, tenant_id)
        if wait_s > 0:
            await job.moveToDelayed(round((time.time() + wait_s) * 1000), token)
            raise DelayedError
        key = bull.effect_key(kind.name, str(job.id), job.timestamp)
        about = self._stock, progress, self._fan_out, self._syncs
        running = Running(tenant_id, str(job.id), key, *about)
        outcome = await attempt(kind, running, job.data, trace_id=None, metrics=self._metrics)
        if isinstance(outcome, Done):
            return outcome.result
        if outcome.for_good:
            raise UnrecoverableError(outcome.error)
        if outcome.wait_s:
            await _put_off(job, outcome.wait_s)
        raise AttemptFailedError(outcome.error)


async def _put_off(job: Job, wait_s: float) -> None:
    """Let BullMQ wait no less than so long before the next attempt.

    It asks the job's options for the delay, as this process has read them; in Redis they stay what
    the producer wrote, and count again after the next attempt.
    """
    usual_ms = await Backoffs.calculate(
        job.opts.get("backoff"), job.attemptsMade + 1, None, job, None
    )
    job.opts["backoff"] = {"type": "fixed", "delay": max(usual_ms or 0, round(wait_s * 1_000))}


def _limiter(rate: float | None) -> dict[str, Any]:
    """BullMQ's own limit, which all workers of a queue share."""
    if rate is None:
        return {}
    most = max(1, round(rate))
    return {"limiter": {"max": most, "duration": round(most / rate * 1000)}}


def _tell(error: object, *_: object) -> None:
    log.warning("Redis does not answer", error=repr(error))
