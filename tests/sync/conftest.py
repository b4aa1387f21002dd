"""A shop that is kept in line with an ERP whose answers the test writes."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from cerniq_stock.domain.sync import Strategy
from cerniq_stock.erp.options import SyncOptions
from cerniq_stock.erp.rows import ErpRow, Parsed, SystemName
from cerniq_stock.erp.source import Health, Sale, Watermark
from cerniq_stock.service import Stock
from cerniq_stock.settings import Settings
from cerniq_stock.store.catalog import NewProduct, NewTenant
from cerniq_stock.sync.result import Asked, Integration, SyncResult, SyncType
from cerniq_stock.sync.run import Run
from cerniq_stock.wiring import open_stock


@dataclass
class Told:
    """A source whose pages are given."""

    pages: Sequence[Parsed]
    mark: Watermark | None = None
    fails: Exception | None = None
    asked: list[Any] = field(default_factory=list)

    @property
    def watermark(self) -> Watermark | None:
        return self.mark

    async def everything(self) -> AsyncIterator[Parsed]:
        self.asked.append("everything")
        for page in self.pages:
            yield page
        if self.fails is not None:
            raise self.fails

    async def changed(self, since: Watermark) -> AsyncIterator[Parsed]:
        self.asked.append(since)
        for page in self.pages:
            yield page

    async def of_skus(self, skus: Sequence[str]) -> AsyncIterator[Parsed]:
        self.asked.append(tuple(skus))
        for page in self.pages:
            yield replace(page, rows=tuple(row for row in page.rows if row.sku in skus))

    async def announced(self, payload: Any) -> AsyncIterator[Parsed]:
        self.asked.append(payload)
        for page in self.pages:
            yield page

    async def check(self) -> Health:
        return Health(0.001)

    async def push(self, sales: Sequence[Sale]) -> str | None:
        raise NotImplementedError


@dataclass
class Shop:
    """Products A, B, C with a level each in MAIN and none in DEPOT."""

    stock: Stock
    operator: asyncpg.Pool
    tenant: UUID
    negotiation: UUID
    integration: Integration

    async def sync(
        self, *figures: Any, source: Told | None = None, more: Parsed | None = None, **asked: Any
    ) -> SyncResult:
        """Synchronise with an ERP that tells these figures: `A=5`, `A@DEPOT=5`, or rows."""
        rows = tuple(x if isinstance(x, ErpRow) else row(x) for x in figures)
        pages = [Parsed(rows)] if more is None else [Parsed(rows), more]
        source = source or Told(pages)
        kind = SyncType(asked.pop("kind", "FULL"))
        run = Run(self.stock.dsn, self.integration, Asked(kind=kind, **asked), progress=_nobody)
        return await run.result(source, incremental=True, by_sku=True)

    def having(self, **options: Any) -> "Shop":
        """The same shop with other options of its integration."""
        changed = self.integration.options.model_copy(update=options)
        return replace(self, integration=replace(self.integration, options=changed))

    def by(self, strategy: Strategy) -> "Shop":
        return self.having(conflict_resolution=strategy)

    async def levels(self) -> dict[str, str]:
        """Total, reserved and blocked of each level that has any."""
        rows = await self.operator.fetch(
            "SELECT p.sku, l.* FROM stock_levels AS l JOIN products AS p"
            " ON p.tenant_id = l.tenant_id AND p.id = l.product_id WHERE p.tenant_id = $1",
            self.tenant,
        )
        return {
            f"{x['sku']}@{x['warehouse']}": " ".join(
                f"{x[name].normalize():f}" for name in ("total", "reserved", "blocked")
            )
            for x in rows
            if x["total"] or x["reserved"] or x["blocked"]
        }


@dataclass
class Known:
    """Stands for the stored integrations: one, whose source is not asked."""

    integration: Integration

    async def open(self, tenant_id: UUID, system: str) -> Any:
        assert (tenant_id, system) == (self.integration.tenant_id, "SAGA")
        return SimpleNamespace(
            tenant_id=tenant_id,
            id=self.integration.id,
            system=SystemName.SAGA,
            enabled=True,
            options=self.integration.options,
            watermark=None,
            revision=1,
        )


async def _nobody(_: int) -> None:
    pass


def row(text: str, **more: Any) -> ErpRow:
    """`A=5` or `A@DEPOT=5/3`: total, and what of it is available."""
    name, _, figures = text.partition("=")
    sku, _, warehouse = name.partition("@")
    total, _, available = figures.partition("/")
    return ErpRow(
        sku,
        Decimal(total),
        Decimal(available) if available else None,
        warehouse=warehouse or None,
        where=text,
        **more,
    )


@pytest.fixture
async def shop(database: str) -> AsyncIterator[Shop]:
    settings = Settings(database_url=database)
    async with open_stock(settings=settings, sweep=False) as stock:
        operator = await asyncpg.create_pool(
            database,
            min_size=0,
            server_settings={"search_path": "cerniq", "role": "cerniq_operator"},
        )
        owner = await asyncpg.connect(database, server_settings={"search_path": "cerniq"})
        tenant, integration = uuid4(), uuid4()
        await stock.create_tenant(NewTenant("Shop", id=tenant, warehouses=("MAIN", "DEPOT")))
        await stock.import_products(
            tenant,
            [NewProduct("A", "A"), NewProduct("B", "B"), NewProduct("C", "C", unit="KG")],
        )
        await owner.execute(
            "INSERT INTO erp_integrations (tenant_id, id, erp_system, name, config_encrypted)"
            " VALUES ($1, $2, 'SAGA', 'SAGA', '')",
            *(tenant, integration),
        )
        found = Integration(
            tenant_id=tenant,
            id=integration,
            erp_system="SAGA",
            options=SyncOptions(),
            warehouses=("MAIN", "DEPOT"),
        )
        negotiation = uuid4()
        await stock.set_negotiation(tenant, negotiation, "PROPOSAL")
        yield Shop(stock, operator, tenant, negotiation, found)
        await owner.close()
        await operator.close()
