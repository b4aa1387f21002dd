"""`bench expire`: sweep expired reservations while others go on reserving."""

import time
from collections.abc import Awaitable
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from cerniq_stock.bench.callers import make_callers
from cerniq_stock.bench.closed_loop import Window, measure, measure_during
from cerniq_stock.bench.engine import judge, opened, settle
from cerniq_stock.bench.fill import fill, fill_expired
from cerniq_stock.bench.scratch import say, scratch
from cerniq_stock.bench.workload import Plan
from cerniq_stock.settings import Settings
from cerniq_stock.store.database import KEY_LOOKUPS, connect
from cerniq_stock.store.sweep import sweep_tenant

WARM_UP_S_MAX = 1.0
SWEEP_S_MAX = 600.0


class _Swept(NamedTuple):
    released: int
    seconds: float
    transactions_s: list[float]


async def bench_expire(
    plan: Plan,
    *,
    server: str,
    settings: Settings,
    reservations: int = 100_000,
    quiet_s: float = 3.0,
) -> dict[str, Any]:
    """Sweep so many expired reservations of one line while the callers reserve.

    `quiet` is the callers' lot in the `quiet_s` after the sweep, to compare with `meanwhile`.
    """
    async with scratch(server) as dsn:
        say(f"filling: {reservations:,} expired reservations")
        town = await fill(dsn, plan)
        await fill_expired(dsn, town.tenants[0], reservations)
        async with opened(dsn, settings, sweep=False) as stock:
            callers = make_callers(town, stock.reserve)
            settle()
            await measure(callers, min(quiet_s, WARM_UP_S_MAX))
            say("sweeping")
            work = partial(_sweep, dsn, town.tenants[0])
            meanwhile, swept = await measure_during(callers, work, SWEEP_S_MAX)
            quiet = await measure(callers, quiet_s)
        say("verifying")
        verdict = await judge(dsn)
    return {
        "products": plan.products,
        "callers": plan.callers,
        "expired": reservations,
        "released": swept.released,
        "sweep_s": round(swept.seconds, 3),
        "released_per_second": round(swept.released / swept.seconds, 1),
        "transactions": len(swept.transactions_s),
        "longest_transaction_ms": round(max(swept.transactions_s) * 1000, 2),
        "meanwhile": _short(meanwhile),
        "quiet": _short(quiet),
        **asdict(verdict),
    }


async def _sweep(dsn: str, tenant_id: UUID) -> _Swept:
    """What `Stock.expire` does for one tenant, with a watch on each transaction."""
    connection = await connect(dsn, settings=KEY_LOOKUPS)
    released = 0
    transactions_s: list[float] = []
    started = time.perf_counter()
    try:
        while ended := await _timed(sweep_tenant(connection, tenant_id), transactions_s):
            released += ended
    finally:
        connection.terminate()
    return _Swept(released, time.perf_counter() - started, transactions_s)


async def _timed(chunk: Awaitable[int], transactions_s: list[float]) -> int:
    started = time.perf_counter()
    ended = await chunk
    transactions_s.append(time.perf_counter() - started)
    return ended


def _short(window: Window) -> dict[str, Any]:
    found = asdict(window)
    names = ("per_second", "p50_ms", "p95_ms", "p99_ms", "counts", "errors", "first_error")
    return {name: found[name] for name in names}
