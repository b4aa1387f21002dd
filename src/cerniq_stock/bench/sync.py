"""`bench sync`: how long a snapshot takes from its stream to its commit, and what callers feel.

The sync runs in a process of its own, as a worker would; the callers reserve in this one.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg

from cerniq_stock.bench.callers import make_callers
from cerniq_stock.bench.child import measured
from cerniq_stock.bench.closed_loop import measure, measure_during
from cerniq_stock.bench.engine import judge, opened, settle
from cerniq_stock.bench.fill import fill
from cerniq_stock.bench.report import Document
from cerniq_stock.bench.scratch import say, scratch, tidy
from cerniq_stock.bench.workload import Plan
from cerniq_stock.erp.options import SyncOptions
from cerniq_stock.erp.rows import ErpRow, Parsed
from cerniq_stock.settings import Settings
from cerniq_stock.sync.result import Asked, Integration, SyncType
from cerniq_stock.sync.run import Run

PAGE = 1_000
QUIET_S = 3.0
SYNC_S_MAX = 300.0
SHARES = (0.0, 0.1, 1.0)
_ERP = UUID(int=7)
_ROWS = """
SELECT p.sku, l.total FROM products AS p
JOIN stock_levels AS l ON l.tenant_id = p.tenant_id AND l.product_id = p.id
WHERE p.tenant_id = $1 AND l.warehouse = $2 ORDER BY p.sku
"""


async def bench_sync(plan: Plan, *, server: str, settings: Settings) -> Document:
    """Sync a tenant's whole catalogue, of which nothing, a tenth and all has changed."""
    async with scratch(server) as dsn:
        say(f"filling: {plan.products:,} products")
        town = await fill(dsn, plan)
        tenant = town.tenants[0]
        connection = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
        await connection.execute(
            "INSERT INTO erp_integrations (tenant_id, id, erp_system, name, config_encrypted)"
            " VALUES ($1, $2, 'CUSTOM_API', 'bench', '')",
            *(tenant, _ERP),
        )
        await connection.close()
        say("the first sync")
        await _in_child(dsn, tenant, 0.0)
        await tidy(dsn)
        found: Document = {"products": plan.products, "callers": plan.callers}
        async with opened(dsn, settings, sweep=False) as stock:
            callers = make_callers(town, stock.reserve)
            settle()
            for share in SHARES:
                say(f"{share:.0%} changed, nobody else there")
                alone_s = await _in_child(dsn, tenant, share)
                say("the same, while callers reserve")
                work = partial(_in_child, dsn, tenant, share)
                meanwhile, took_s = await measure_during(callers, work, SYNC_S_MAX)
                found[f"changed {share:.0%}"] = {
                    "alone_s": round(alone_s, 2),
                    "meanwhile_s": round(took_s, 2),
                    "reservations_per_second": round(meanwhile.per_second, 1),
                    "p50_ms": meanwhile.p50_ms,
                    "p99_ms": meanwhile.p99_ms,
                }
            quiet = await measure(callers, QUIET_S)
        found["quiet"] = {"p50_ms": quiet.p50_ms, "p99_ms": quiet.p99_ms}
        say("verifying")
        return found | asdict(await judge(dsn))


async def _in_child(dsn: str, tenant_id: UUID, share: float) -> float:
    """Run a sync in a process of its own; returns how long it took there, without its start."""
    took_s: float = await measured("cerniq_stock.bench.sync", dsn, str(tenant_id), str(share))
    return took_s


def child() -> None:
    """What that process runs: prints the seconds from the first row to the last commit."""
    dsn, tenant, share = sys.argv[1:]
    print(asyncio.run(_timed(dsn, UUID(tenant), float(share))))


async def _timed(dsn: str, tenant_id: UUID, share: float) -> float:
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
    warehouses = await connection.fetchval(
        "SELECT warehouses FROM tenants WHERE id = $1", tenant_id
    )
    rows = await connection.fetch(_ROWS, tenant_id, warehouses[0])
    await connection.close()
    every = round(1 / share) if share else 0
    told = [
        ErpRow(sku, total + 1 if every and n % every == 0 else total)
        for n, (sku, total) in enumerate(rows)
    ]
    integration = Integration(
        tenant_id=tenant_id,
        id=_ERP,
        erp_system="CUSTOM_API",
        options=SyncOptions(max_zero_share=1.0),
        warehouses=tuple(warehouses),
    )
    started = time.perf_counter()
    run = Run(dsn, integration, Asked(kind=SyncType.FULL), progress=_nobody)
    source: Any = _Told(told)
    result = await run.result(source, incremental=False, by_sku=False)
    assert result.success, result.errors
    return time.perf_counter() - started


async def _nobody(_: int) -> None:
    pass


class _Told:
    """A source in memory: what an ERP takes to answer is not measured."""

    watermark = None

    def __init__(self, rows: list[ErpRow]) -> None:
        self._rows = rows

    async def everything(self) -> AsyncIterator[Parsed]:
        for start in range(0, len(self._rows), PAGE):
            yield Parsed(tuple(self._rows[start : start + PAGE]))
