"""A tenant whose ERP is on a socket: everything between the two is the real thing."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from cerniq_stock.erp.fakes.rest import FIELDS
from cerniq_stock.erp.secrets import new_key
from cerniq_stock.integrations import Integrations
from cerniq_stock.service import Stock
from cerniq_stock.settings import Settings
from cerniq_stock.store.catalog import NewProduct, NewTenant
from cerniq_stock.sync.result import Asked, SyncResult, SyncType
from cerniq_stock.sync.syncs import Syncs
from cerniq_stock.wiring import open_integrations, open_stock, open_syncs

PARSE = {"field_mapping": FIELDS}
WAREHOUSES = {"01": "MAIN", "02": "DEPOT", "Sediu|01": "MAIN", "Sediu|02": "DEPOT"}
"""What the fakes call them, and what they are called here."""

_STATE = {
    "levels": "SELECT * FROM stock_levels ORDER BY product_id, warehouse",
    "movements": "SELECT * FROM stock_movements ORDER BY product_id, id",
    "products": "SELECT * FROM products ORDER BY id",
    "remembered": "SELECT * FROM erp_levels ORDER BY product_id, warehouse",
    "conflicts": "SELECT * FROM sync_conflicts ORDER BY id",
    "watermarks": "SELECT id, watermark FROM erp_integrations ORDER BY id",
}


@dataclass(frozen=True)
class Logged:
    """How a run was written down."""

    status: str
    code: str | None
    message: str | None


@dataclass
class Whole:
    """A tenant with its integrations, as the command line and the jobs have them."""

    dsn: str
    settings: Settings
    stock: Stock
    syncs: Syncs
    integrations: Integrations
    owner: asyncpg.Connection
    tenant: UUID
    system: str = "CUSTOM_API"

    async def connect(
        self,
        settings: Mapping[str, Any],
        *,
        parse: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Store an integration with a fake's settings."""
        await self.integrations.add(
            self.tenant,
            self.system,
            name=self.system,
            config={"connection": dict(settings), "parse": dict(PARSE if parse is None else parse)},
            options={"warehouses": WAREHOUSES, **options},
        )

    async def sync(self, kind: str = "FULL", **asked: Any) -> SyncResult:
        """Synchronise."""
        return await self.syncs.run(self.tenant, self.system, Asked(kind=SyncType(kind), **asked))

    async def state(self) -> dict[str, list[str]]:
        """All that a sync may change, besides its log, as text."""
        return {
            name: [str(tuple(row)) for row in await self.owner.fetch(sql)]
            for name, sql in _STATE.items()
        }

    async def figures(self) -> dict[tuple[str, str], tuple[Decimal, Decimal]]:
        """Total and available by SKU and warehouse, where there is a level."""
        rows = await self.owner.fetch(
            "SELECT p.sku, l.warehouse, l.total, l.available FROM stock_levels AS l"
            " JOIN products AS p ON p.tenant_id = l.tenant_id AND p.id = l.product_id"
        )
        return {(x["sku"], x["warehouse"]): (x["total"], x["available"]) for x in rows}

    async def logged(self) -> Logged:
        """How the last run was written down."""
        row = await self.owner.fetchrow("SELECT * FROM stock_sync_logs ORDER BY id DESC LIMIT 1")
        errors = json.loads(row["result_json"])["errors"]
        code = errors[0]["code"] if row["status"] == "FAILED" else None
        return Logged(row["status"], code, row["error_message"])


def ours(fake: Any) -> dict[tuple[str, str], tuple[Decimal, Decimal]]:
    """A fake's figures, under the names of our warehouses."""
    return {(sku, WAREHOUSES[name]): pair for (sku, name), pair in fake.figures().items()}


@asynccontextmanager
async def whole(
    database: str, *fakes: Any, skus: Any = (), **settings: Any
) -> AsyncIterator[Whole]:
    """Open a tenant with two warehouses that may talk to these fakes."""
    given: dict[str, Any] = {
        "database_url": database,
        "erp_allowed_hosts": " ".join(f"127.0.0.1:{port}" for port in (9, *_ports(fakes))),
        "secret_keys": new_key("k1"),
        **settings,
    }
    chosen, tenant = Settings(**given), uuid4()
    owner = await asyncpg.connect(database, server_settings={"search_path": "cerniq"})
    try:
        async with (
            open_stock(settings=chosen, sweep=False) as stock,
            open_syncs(chosen, database) as syncs,
            open_integrations(chosen, database) as integrations,
        ):
            await stock.create_tenant(NewTenant("Shop", id=tenant, warehouses=("MAIN", "DEPOT")))
            if skus:
                await stock.import_products(tenant, [NewProduct(x, x, unit="KG") for x in skus])
            yield Whole(database, chosen, stock, syncs, integrations, owner, tenant)
    finally:
        await owner.close()


def _ports(fakes: Any) -> list[int]:
    return [fake.port for fake in fakes if fake is not None]
