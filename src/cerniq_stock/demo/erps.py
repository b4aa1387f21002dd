"""Two ERPs of the demo's merchant: an Oblio on a socket of this machine, and a file; conflicts."""

import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from cerniq_stock.demo.tour import Show
from cerniq_stock.domain.commands import Item
from cerniq_stock.domain.sync import Strategy
from cerniq_stock.erp.fakes.oblio import FakeOblio
from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.rows import SystemName
from cerniq_stock.erp.secrets import new_key, read_keys
from cerniq_stock.integrations import Integrations
from cerniq_stock.service import Stock
from cerniq_stock.store.catalog import NewProduct, NewTenant
from cerniq_stock.store.database import create_pool
from cerniq_stock.sync.result import Asked, SyncResult, SyncType
from cerniq_stock.sync.review import Resolution
from cerniq_stock.sync.syncs import Syncs

SCREWS, PAINT = "SURUB-M6", "VOPSEA-ALBA"
FILE = "stoc.csv"
_ORDER = UUID("6f1d2c1e-8a52-4b7e-9d0a-3c5f1b2a7e10")
LINES = "Cod articol;Denumire;Stoc\nSURUB-M6;Șurub M6;400\nVOPSEA-ALBA;Vopsea albă;12 buc\n"


async def erps(stock: Stock, show: Show) -> None:
    """Synchronise a small merchant of its own with what its ERPs say."""
    tenant = await stock.create_tenant(NewTenant("Feronerie", warehouses=("MAGAZIN", "DEPOZIT")))
    await stock.import_products(
        tenant.id, [NewProduct(SCREWS, "Șurub M6"), NewProduct(PAINT, "Vopsea albă")]
    )
    with tempfile.TemporaryDirectory() as folder:
        async with (
            FakeOblio() as oblio,
            create_pool(stock.dsn, "cerniq_app", max_size=4) as app,
            create_pool(stock.dsn, "cerniq_operator", max_size=1) as operator,
        ):
            integrations = _integrations(app, operator, oblio, Path(folder))
            syncs = Syncs(stock.dsn, app, integrations)
            oblio.received(SCREWS, "500")
            oblio.received(PAINT, "40")
            await _connect(integrations, tenant.id, oblio)
            await _with_oblio(stock, syncs, show, tenant.id, oblio)
            await _with_a_file(syncs, integrations, show, tenant.id, Path(folder))


def _integrations(
    app: asyncpg.Pool, operator: asyncpg.Pool, oblio: FakeOblio, folder: Path
) -> Integrations:
    keys = read_keys(new_key("demo"))
    policy = Policy.parse(f"127.0.0.1:{oblio.port}")
    return Integrations(app, operator, keys=lambda: keys, policy=policy, files=folder)


async def _connect(integrations: Integrations, tenant_id: UUID, oblio: FakeOblio) -> None:
    await integrations.add(
        tenant_id,
        SystemName.OBLIO,
        name="Oblio",
        config={"connection": dict(oblio.settings())},
        options={"warehouses": {"Sediu|01": "MAGAZIN"}, "syncPrices": False},
    )
    await integrations.add(
        tenant_id,
        SystemName.CSV_IMPORT,
        name="Fișier",
        config={"connection": {"file": FILE, "settleS": 0}},
        options={"defaultWarehouse": "DEPOZIT"},
    )


async def _with_oblio(
    stock: Stock, syncs: Syncs, show: Show, tenant_id: UUID, oblio: FakeOblio
) -> None:
    full = Asked(kind=SyncType.FULL)
    first = await syncs.run(tenant_id, SystemName.OBLIO, full)
    show("Sync: Oblio's figures per warehouse", "erp sync OBLIO --full", _short(first))
    await stock.create_order(tenant_id, _ORDER, [Item(SCREWS, Decimal(100))])
    await stock.deduct_order(tenant_id, _ORDER)
    again = await syncs.run(tenant_id, SystemName.OBLIO, full)
    show("Sold here, not yet invoiced there: no conflict", "erp sync OBLIO --full", _short(again))
    oblio.received(SCREWS, "50")
    by_hand = Asked(kind=SyncType.FULL, strategy=Strategy.MANUAL)
    both = await syncs.run(tenant_id, SystemName.OBLIO, by_hand)
    show("Both have changed: for a person", "erp sync OBLIO --strategy manual", both.conflicts)
    (conflict,) = await syncs.review.conflicts(tenant_id)
    decided = await syncs.review.resolve(
        tenant_id,
        conflict.id,
        Resolution.SET_VALUE,
        value=450,
        by="gestionar",
        because="numărat la raft",
    )
    show("… who decides, and says why", "erp resolve … set-value --value 450", decided)


async def _with_a_file(
    syncs: Syncs, integrations: Integrations, show: Show, tenant_id: UUID, folder: Path
) -> None:
    own = folder / str(tenant_id)
    own.mkdir()
    (own / FILE).write_text(LINES, encoding="utf-8")
    dry = await syncs.run(tenant_id, SystemName.CSV_IMPORT, Asked(kind=SyncType.FULL, dry=True))
    show(
        "A file, tried: its row in error stays alone", "erp sync CSV_IMPORT --dry-run", _short(dry)
    )
    done = await syncs.apply(tenant_id, dry.sync_id)
    show("… and applied by its id", "erp apply …", _short(done))
    health = await integrations.test(tenant_id, SystemName.CSV_IMPORT)
    assert health.latency_s >= 0


def _short(result: SyncResult) -> dict[str, Any]:
    return {
        "changes": [
            f"{x.sku} {x.warehouse}: {x.field} {x.previous_value} -> {x.new_value}"
            for x in result.changes
        ],
        "conflicts": len(result.conflicts),
        "errors": [f"{x.sku} {x.code}: {x.message}" for x in result.errors],
    }
