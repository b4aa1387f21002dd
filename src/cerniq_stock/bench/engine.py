"""The engine under a benchmark, opened as every entrance opens it, and checked afterwards."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from cerniq_stock import wiring
from cerniq_stock.service import Stock
from cerniq_stock.settings import Settings
from cerniq_stock.store.verify import verify

DIFFERENCES_SHOWN = 5


@asynccontextmanager
async def opened(dsn: str, settings: Settings, *, sweep: bool = True) -> AsyncIterator[Stock]:
    """Open the engine on a scratch database with the settings of a real one."""
    async with wiring.open_stock(dsn, settings=settings, sweep=sweep) as stock:
        yield stock


def settle() -> None:
    """Keep the collector from walking what was loaded at the start again and again.

    What a server does once it is up. The collector stays on, with Python's own thresholds.
    """
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class Verdict:
    """Whether the database is right after the run. `oversold` is in units; it must be 0."""

    oversold: int
    verified: bool
    differences: tuple[str, ...]
    verify_s: float


async def judge(dsn: str) -> Verdict:
    """Count what was promised twice, and rebuild everything from its movements."""
    report = await verify(dsn)
    return Verdict(
        oversold=await _oversold(dsn),
        verified=report.ok,
        differences=tuple(
            f"{d.rule} {d.subject}: {d.found}, not {d.expected}"
            for d in report.differences[:DIFFERENCES_SHOWN]
        ),
        verify_s=round(report.duration_s, 3),
    )


async def _oversold(dsn: str) -> int:
    """Units that lines hold beyond what there is: counted from the lines, not from `reserved`."""
    connection = await asyncpg.connect(
        dsn, server_settings={"search_path": "cerniq", "role": "cerniq_operator"}
    )
    try:
        return int(await connection.fetchval(_OVERSOLD))
    finally:
        await connection.close()


_OVERSOLD = """
SELECT coalesce(sum(greatest(h.held - s.total + s.blocked, 0)), 0)
FROM (
    SELECT tenant_id, product_id, warehouse, sum(held) AS held
    FROM stock_reservation_lines WHERE held > 0 GROUP BY 1, 2, 3
) AS h
JOIN stock_levels AS s USING (tenant_id, product_id, warehouse)
"""
