"""A closed loop: each caller sends its next request when its last one is answered."""

import asyncio
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import asyncpg

from cerniq_stock.bench.memory import rss_mb
from cerniq_stock.errors import CerniqError

T = TypeVar("T")
Ask = Callable[[], Awaitable[str]]
"""Sends one request and returns the word under which its answer is counted."""

LEAD_S = 0.3
"""Answers of this long are not counted: all callers start at once, which is no steady state."""

SAMPLE_EVERY_S = 10.0
PATIENCE_S = 120.0
ERROR_PAUSE_S = 0.01
BUCKETS_A_SECOND = 100_000
BUCKETS = 10 * BUCKETS_A_SECOND


class Histogram:
    """Latencies in steps of 10 µs up to 10 s: of a constant size, however long the run."""

    def __init__(self) -> None:
        self._buckets = array("I", bytes(4 * BUCKETS))
        self.count = 0

    def add(self, seconds: float) -> None:
        """Count one answer."""
        self._buckets[min(int(seconds * BUCKETS_A_SECOND), BUCKETS - 1)] += 1
        self.count += 1

    def quantiles_ms(self, *shares: float) -> list[float | None]:
        """Latencies that these shares of the answers (ascending) did not exceed."""
        if not self.count:
            return [None] * len(shares)
        found: list[float | None] = []
        passed = 0
        for bucket, count in enumerate(self._buckets):
            passed += count
            while len(found) < len(shares) and passed >= shares[len(found)] * self.count:
                found.append(round((bucket + 0.5) * 1000 / BUCKETS_A_SECOND, 3))
        return found


@dataclass(frozen=True)
class Sample:
    """Where a long run stood."""

    at_s: float
    per_second: float
    rss_mb: float


@dataclass(frozen=True)
class Window:
    """What one measured stretch of time gave. Latencies and memory are None where unknown."""

    seconds: float
    per_second: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    counts: dict[str, int] = field(default_factory=dict)
    errors: int = 0
    first_error: str | None = None
    cpu_us_per_answer: float | None = None
    rss_start_mb: float | None = None
    rss_end_mb: float | None = None
    samples: tuple[Sample, ...] = ()


class _Tally:
    """What the callers write into while the loop runs."""

    def __init__(self) -> None:
        self.running = True
        self.counting = False
        self.latencies = Histogram()
        self.counts: Counter[str] = Counter()
        self.errors = 0
        self.first_error: str | None = None

    def add(self, word: str, seconds: float) -> None:
        if self.counting:
            self.counts[word] += 1
            self.latencies.add(seconds)

    def fail(self, error: Exception) -> None:
        self.errors += 1
        if self.first_error is None:
            self.first_error = f"{type(error).__name__}: {error}"


class _Stretch(NamedTuple):
    """The measured time, as this process felt it."""

    seconds: float
    cpu_s: float
    rss_start_mb: float
    rss_end_mb: float
    samples: tuple[Sample, ...]


async def measure(asks: Sequence[Ask], seconds: float) -> Window:
    """Let every caller ask for so long, and count what was answered in that time."""
    window, _ = await measure_during(asks, lambda: asyncio.sleep(seconds), seconds)
    return window


async def measure_during(
    asks: Sequence[Ask], work: Callable[[], Awaitable[T]], work_s: float
) -> tuple[Window, T]:
    """Let every caller ask until `work`, which should take some `work_s`, has returned."""
    tally = _Tally()
    async with asyncio.timeout(LEAD_S + work_s + PATIENCE_S), asyncio.TaskGroup() as callers:
        for ask in asks:
            callers.create_task(_call(ask, tally))
        try:
            await asyncio.sleep(LEAD_S)
            stretch, result = await _watch(tally, work)
        finally:
            tally.running = False
    return _window(tally, stretch), result


async def _call(ask: Ask, tally: _Tally) -> None:
    clock = time.perf_counter
    while tally.running:
        started = clock()
        try:
            word = await ask()
        except (CerniqError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            tally.fail(error)
            await asyncio.sleep(ERROR_PAUSE_S)
        else:
            tally.add(word, clock() - started)


async def _watch(tally: _Tally, work: Callable[[], Awaitable[T]]) -> tuple[_Stretch, T]:
    rss_start_mb = rss_mb()
    samples: list[Sample] = []
    sampler = asyncio.create_task(_sample(tally, samples))
    cpu_start = time.process_time()
    started = time.perf_counter()
    tally.counting = True
    try:
        result = await work()
    finally:
        tally.counting = False
        sampler.cancel()
    took = time.perf_counter() - started
    cpu_s = time.process_time() - cpu_start
    return _Stretch(took, cpu_s, rss_start_mb, rss_mb(), tuple(samples)), result


async def _sample(tally: _Tally, samples: list[Sample]) -> None:
    """Note every ten seconds where the run stands."""
    started = before = time.perf_counter()
    counted = 0
    while True:
        await asyncio.sleep(SAMPLE_EVERY_S)
        now, count = time.perf_counter(), tally.latencies.count
        per_second = (count - counted) / (now - before)
        samples.append(Sample(round(now - started, 1), round(per_second, 1), rss_mb()))
        before, counted = now, count


def _window(tally: _Tally, stretch: _Stretch) -> Window:
    answers = tally.latencies.count
    p50, p95, p99 = tally.latencies.quantiles_ms(0.50, 0.95, 0.99)
    return Window(
        seconds=round(stretch.seconds, 3),
        per_second=round(answers / stretch.seconds, 1),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        counts=dict(tally.counts),
        errors=tally.errors,
        first_error=tally.first_error,
        cpu_us_per_answer=round(stretch.cpu_s / answers * 1e6, 1) if answers else None,
        rss_start_mb=stretch.rss_start_mb,
        rss_end_mb=stretch.rss_end_mb,
        samples=stretch.samples,
    )
