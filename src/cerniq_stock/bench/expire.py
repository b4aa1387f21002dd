"""`bench expire`: sweep expired reservations while others go on reserving."""

import time
from dataclasses import asdict
from typing import Any, NamedTuple

from cerniq_stock.bench.callers import make_callers
from cerniq_stock.bench.closed_loop import Window, measure, measure_during
from cerniq_stock.bench.engine import judge, opened, settle
from cerniq_stock.bench.fill import fill, fill_expired
from cerniq_stock.bench.scratch import say, scratch
from cerniq_stock.bench.workload import Plan
from cerniq_stock.service import Stock
from cerniq_stock.settings import Settings

WARM_UP_S = 1.0
QUIET_S = 3.0
SWEEP_S_MAX = 600.0


class _Swept(NamedTuple):
    released: int
    seconds: float


async def bench_expire(
    plan: Plan, *, server: str, settings: Settings, reservations: int = 100_000
) -> dict[str, Any]:
    """Sweep so many expired reservations of one line while the callers reserve.

    `quiet` is the callers' lot after the sweep, to compare with `meanwhile`.
    """
    async with scratch(server) as dsn:
        say(f"filling: {reservations:,} expired reservations")
        town = await fill(dsn, plan)
        await fill_expired(dsn, town.tenants[0], reservations)
        async with opened(dsn, settings, sweep=False) as stock:
            callers = make_callers(town, stock.reserve)
            settle()
            await measure(callers, WARM_UP_S)
            say("sweeping")
            meanwhile, swept = await measure_during(callers, lambda: _sweep(stock), SWEEP_S_MAX)
            quiet = await measure(callers, QUIET_S)
        say("verifying")
        verdict = await judge(dsn)
    return {
        "products": plan.products,
        "callers": plan.callers,
        "expired": reservations,
        "released": swept.released,
        "sweep_s": round(swept.seconds, 3),
        "released_per_second": round(swept.released / swept.seconds, 1),
        "meanwhile": _short(meanwhile),
        "quiet": _short(quiet),
        **asdict(verdict),
    }


async def _sweep(stock: Stock) -> _Swept:
    started = time.perf_counter()
    released = await stock.expire()
    return _Swept(released, time.perf_counter() - started)


def _short(window: Window) -> dict[str, Any]:
    found = asdict(window)
    names = ("per_second", "p50_ms", "p95_ms", "p99_ms", "counts", "errors", "first_error")
    return {name: found[name] for name in names}
