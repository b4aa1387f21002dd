"""`bench sync --csv-rows`: a large file from bytes to its last commit, and what memory it takes."""

import asyncio
import resource
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg

from cerniq_stock.bench.child import measured
from cerniq_stock.bench.engine import judge, opened
from cerniq_stock.bench.report import Document
from cerniq_stock.bench.scratch import say, scratch, tidy
from cerniq_stock.erp.config import read_config
from cerniq_stock.erp.csv_source import CsvSettings, Place, open_csv
from cerniq_stock.erp.options import SyncOptions
from cerniq_stock.settings import Settings
from cerniq_stock.store.catalog import NewTenant
from cerniq_stock.sync.result import Asked, Integration, SyncType
from cerniq_stock.sync.run import Run

SHARES = (1.0, 0.1)
"""Of the rows that change in each round; in the first one everything is new."""

_FILES = UUID(int=7)


async def bench_csv_sync(rows: int, *, server: str, settings: Settings) -> Document:
    """Read a file of so many lines into an empty tenant, then another one that differs a little."""
    async with scratch(server) as dsn:
        tenant = uuid4()
        async with opened(dsn, settings, sweep=False) as stock:
            await stock.create_tenant(NewTenant("bench", id=tenant))
        await _connect(dsn, tenant)
        found: Document = {"rows": rows}
        with tempfile.TemporaryDirectory(prefix="cerniq-bench-") as root:
            file = Path(root) / str(tenant) / "stoc.csv"
            file.parent.mkdir()
            for share in SHARES:
                await asyncio.to_thread(_write, file, rows, share)
                size_mb = round(file.stat().st_size / 1e6)
                name = "all new" if share == 1 else f"{share:.0%} changed"
                say(f"{rows:,} lines, {size_mb} MB, {name}")
                took = await measured("cerniq_stock.bench.csv_sync", dsn, str(tenant), root)
                found[name] = {"file_mb": size_mb, **took}
                await tidy(dsn)
        say("verifying")
        return found | asdict(await judge(dsn))


async def _connect(dsn: str, tenant_id: UUID) -> None:
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
    await connection.execute(
        "INSERT INTO erp_integrations (tenant_id, id, erp_system, name, config_encrypted)"
        " VALUES ($1, $2, 'CSV_IMPORT', 'Files', '')",
        *(tenant_id, _FILES),
    )
    await connection.close()


def _write(file: Path, rows: int, share: float) -> None:
    every = round(1 / share)  # those have one more than in the first round
    with file.open("w", encoding="utf-8") as out:
        out.write("Cod articol;Denumire;Stoc;Preț;Monedă\n")
        for n in range(rows):
            stock = n % 500 + (2 if share < 1 and n % every == 0 else 1)
            out.write(f"ART-{n:09};Articolul numărul {n};{stock};{n % 900 + 0.5:.2f};RON\n")


def child() -> None:
    """What the other process runs: prints its seconds and its peak memory."""
    dsn, tenant, root = sys.argv[1:]
    started = time.perf_counter()
    asyncio.run(_read(dsn, UUID(tenant), Path(root)))
    took_s = round(time.perf_counter() - started, 1)
    peak_mb = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024 / 1e6)
    print({"took_s": took_s, "peak_mb": peak_mb})


async def _read(dsn: str, tenant_id: UUID, root: Path) -> None:
    integration = Integration(
        tenant_id=tenant_id,
        id=_FILES,
        erp_system="CSV_IMPORT",
        options=SyncOptions(create_unknown=True, max_zero_share=1.0),
        warehouses=("MAIN",),
    )
    run = Run(dsn, integration, Asked(kind=SyncType.FULL), progress=_nobody)
    place = Place(root, tenant_id)
    async with open_csv(CsvSettings(file="stoc.csv", settle_s=0), read_config({}), place) as source:
        result = await run.result(source, incremental=True, by_sku=False)
    assert result.success, result.errors


async def _nobody(_: int) -> None:
    pass
