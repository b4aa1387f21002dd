"""`bench reserve`: reservations in a closed loop, alone or in turns with something else."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from statistics import median
from typing import Any

from cerniq_stock.bench import pgbench
from cerniq_stock.bench.callers import make_callers
from cerniq_stock.bench.classic import CONNECTIONS, Classic, open_pool
from cerniq_stock.bench.closed_loop import Window, measure
from cerniq_stock.bench.engine import judge, opened, settle
from cerniq_stock.bench.fill import fill
from cerniq_stock.bench.scratch import say, scratch
from cerniq_stock.bench.workload import Load, Plan, Town
from cerniq_stock.settings import Settings

WARM_UP_S_MAX = 2.0
SELL_OUT_ANSWERS_PER_PRODUCT = 20
SELL_OUT_STEP_S = 1.0
SELL_OUT_STEPS_MAX = 60

Document = dict[str, Any]


class Against(StrEnum):
    """What the engine is compared to."""

    CLASSIC = "classic"
    PGBENCH = "pgbench"


@dataclass(frozen=True)
class Side:
    """One of those who take turns. `dsn` is None where there is nothing to verify."""

    name: str
    window: Callable[[float], Awaitable[Window]]
    dsn: str | None


async def bench_reserve(
    plan: Plan,
    *,
    server: str,
    settings: Settings,
    against: Against | None = None,
    connections: int = CONNECTIONS,
    seconds: float = 5.0,
    rounds: int = 1,
) -> Document:
    """Measure `rounds` windows of `seconds` on each side and return what was found."""
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(scratch(server))
        say(f"filling: {plan.tenants} tenants, {plan.products_per_tenant} products each")
        town = await fill(base, plan)
        if plan.load is Load.SCARCE:
            await _sell_out(base, town, settings)
        sides = [await stack.enter_async_context(_engine(server, base, town, settings))]
        if against is not None:
            other = _other(against, server, base, town, connections)
            sides.append(await stack.enter_async_context(other))
        settle()
        windows = await _take_turns(sides, seconds, rounds)
        found = {side.name: await _found(side, windows[side.name]) for side in sides}
    return {**asdict(plan), "seconds": seconds, "rounds": rounds, **found, **_ratio(found)}


async def _take_turns(sides: list[Side], seconds: float, rounds: int) -> dict[str, list[Window]]:
    """Alternate, so that a slow minute of the machine meets every side."""
    windows: dict[str, list[Window]] = {side.name: [] for side in sides}
    for side in sides:
        say(f"warming up: {side.name}")
        await side.window(min(seconds, WARM_UP_S_MAX))
    for number in range(1, rounds + 1):
        for side in sides:
            window = await side.window(seconds)
            say(f"{number}/{rounds} {side.name}: {window.per_second:,.0f}/s")
            windows[side.name].append(window)
    return windows


async def _sell_out(base: str, town: Town, settings: Settings) -> None:
    """Sell until most requests are refused, before the database is copied for each side."""
    products = town.plan.products_per_tenant * town.plan.tenants
    wanted = SELL_OUT_ANSWERS_PER_PRODUCT * products
    answers = 0
    async with opened(base, settings) as stock:
        callers = make_callers(town, stock.reserve, seed=2)
        for _ in range(SELL_OUT_STEPS_MAX):
            window = await measure(callers, SELL_OUT_STEP_S)
            answers += sum(window.counts.values())
            refused = window.counts.get("refused", 0) / max(sum(window.counts.values()), 1)
            say(f"selling out: {answers:,} answers, {refused:.0%} refused")
            if answers >= wanted:
                break


@asynccontextmanager
async def _engine(server: str, base: str, town: Town, settings: Settings) -> AsyncIterator[Side]:
    async with scratch(server, clone_of=base) as dsn, opened(dsn, settings) as stock:
        yield Side("engine", partial(measure, make_callers(town, stock.reserve)), dsn)


@asynccontextmanager
async def _classic(server: str, base: str, town: Town, connections: int) -> AsyncIterator[Side]:
    async with scratch(server, clone_of=base) as dsn, open_pool(dsn, connections) as pool:
        yield Side("classic", partial(measure, make_callers(town, Classic(pool).reserve)), dsn)


@asynccontextmanager
async def _pgbench(server: str, town: Town) -> AsyncIterator[Side]:
    async with scratch(server) as dsn:
        await pgbench.prepare(dsn, town.plan)
        yield Side("pgbench", partial(pgbench.measure, dsn, town.plan), None)


def _other(
    against: Against, server: str, base: str, town: Town, connections: int
) -> AbstractAsyncContextManager[Side]:
    if against is Against.PGBENCH:
        return _pgbench(server, town)
    return _classic(server, base, town, connections)


async def _found(side: Side, windows: list[Window]) -> Document:
    verdict = {}
    if side.dsn is not None:
        say(f"verifying: {side.name}")
        verdict = asdict(await judge(side.dsn))
    return {**summary(windows), **verdict, "windows": [asdict(window) for window in windows]}


def summary(windows: list[Window]) -> Document:
    """Medians over the windows; counts and errors are sums."""
    medians = {
        name: _median([getattr(window, name) for window in windows])
        for name in ("per_second", "p50_ms", "p95_ms", "p99_ms", "cpu_us_per_answer")
    }
    counts = {
        word: sum(window.counts.get(word, 0) for window in windows)
        for word in ("reserved", "partial", "refused")
    }
    return {
        **medians,
        **counts,
        "errors": sum(window.errors for window in windows),
        "first_error": next((w.first_error for w in windows if w.first_error), None),
        "rss_start_mb": windows[0].rss_start_mb,
        "rss_end_mb": windows[-1].rss_end_mb,
    }


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(median(known), 3) if known else None


def _ratio(found: Document) -> Document:
    """Compare the engine with the other: above 1 in `per_second` it is ahead, below 1 in ms."""
    if len(found) == 1:
        return {}
    engine, other = found.values()
    names = ("per_second", "p50_ms", "p99_ms")
    return {
        "ratio": {
            name: round(engine[name] / other[name], 3)
            for name in names
            if engine[name] is not None and other[name]
        }
    }
