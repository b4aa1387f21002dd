"""`bench verify`: how long it takes to rebuild millions of movements and compare."""

import time
from typing import Any

from cerniq_stock.bench.fill import fill, fill_history
from cerniq_stock.bench.memory import rss_mb
from cerniq_stock.bench.scratch import say, scratch
from cerniq_stock.bench.workload import Plan
from cerniq_stock.settings import Settings
from cerniq_stock.store.verify import verify


async def bench_verify(
    *,
    server: str,
    settings: Settings,
    movements: int = 10_000_000,
    products: int = 10_000,
    tenants: int = 1,
) -> dict[str, Any]:
    """Fill a scratch database with so many movements, sold goods mostly, and verify it."""
    plan = Plan(callers=tenants, tenants=tenants, products=products)
    # of each product: the opening, two for each sale, and one that still holds
    levels = plan.products_per_tenant * tenants
    sales_per_product = max((movements // levels - 2) // 2, 0)
    async with scratch(server) as dsn:
        started = time.perf_counter()
        town = await fill(dsn, plan)
        await fill_history(dsn, town, sales_per_product, _progress)
        fill_s = time.perf_counter() - started
        say("verifying")
        rss_start_mb = rss_mb()
        report = await verify(dsn)
        return {
            "tenants": report.tenants,
            "levels": report.levels,
            "movements": report.movements,
            "reservations": report.reservations,
            "fill_s": round(fill_s, 1),
            "verify_s": round(report.duration_s, 2),
            "movements_per_second": round(report.movements / report.duration_s),
            "verified": report.ok,
            "differences": [str(difference) for difference in report.differences[:5]],
            "rss_start_mb": rss_start_mb,
            "rss_end_mb": rss_mb(),
        }


def _progress(movements: int) -> None:
    say(f"filling: about {movements:,} movements")
