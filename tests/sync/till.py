"""A shop that tells its sales to two ERPs, and a trouble of theirs."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from cerniq_stock.domain.commands import Item
from cerniq_stock.erp.fakes.base import FakeServer, Reply, Request
from cerniq_stock.erp.fakes.rest import FIELDS, FakeRest
from cerniq_stock.erp.fakes.sap_b1 import EXITS, FakeSapB1
from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.secrets import new_key, read_keys
from cerniq_stock.integrations import Integrations
from cerniq_stock.store.database import create_pool
from cerniq_stock.sync.push import Pushes, PushResult
from cerniq_stock.sync.result import Asked, SyncResult, SyncType
from cerniq_stock.sync.syncs import Syncs
from tests.sync.conftest import Shop

SAP, REST = "SAP_B1", "CUSTOM_API"
PLACES = {"01": "MAIN", "02": "DEPOT"}
PUSH = {"path": "/sales", "lookup": "/sales/{id}"}
KEYS = read_keys(new_key("k1"), None)


class Till:
    """The shop with two ERPs that have twenty of everything, as the shop has."""

    def __init__(self, shop: Shop, app: asyncpg.Pool, operator: asyncpg.Pool) -> None:
        self.shop, self.tenant, self.app, self.operator = shop, shop.tenant, app, operator

    async def open(self, stack: AsyncExitStack) -> "Till":
        self.sap = await stack.enter_async_context(FakeSapB1(warehouses=tuple(PLACES)))
        self.rest = await stack.enter_async_context(FakeRest())
        fakes: tuple[FakeServer, ...] = self.sap, self.rest
        policy = Policy.parse(" ".join(f"127.0.0.1:{fake.port}" for fake in fakes))
        self.integrations = Integrations(self.app, self.operator, keys=lambda: KEYS, policy=policy)
        self.pushes = Pushes(self.shop.stock.dsn, self.app, self.integrations, settle_s=0)
        self.syncs = Syncs(self.shop.stock.dsn, self.app, self.integrations)
        for sku in "ABC":
            self.sap.received(sku, "20")
            self.rest.received(sku, "20")
            await self.shop.stock.receive(self.tenant, sku, 20)
        return self

    def config(self, system: str, **more: Any) -> dict[str, Any]:
        if system == SAP:
            return {"connection": self.sap.settings() | more}
        given = {**self.rest.settings(), "push": PUSH, **more}
        return {"connection": given, "parse": {"field_mapping": FIELDS}}

    async def connect(self, system: str = SAP, *, on: bool = True, **more: Any) -> None:
        await self.integrations.add(
            self.tenant,
            system,
            name=system,
            config=self.config(system, **more),
            options={"push": on, "warehouses": PLACES},
        )

    async def switch(self, *, on: bool, system: str = SAP) -> None:
        options = {"push": on, "warehouses": PLACES}
        await self.integrations.change(self.tenant, system, options=options)

    async def sell(self, sku: str, quantity: Any = 1, tenant: UUID | None = None) -> None:
        of, stock = tenant or self.tenant, self.shop.stock
        order = uuid4()
        await stock.create_order(of, order, [Item(sku, Decimal(quantity))])
        sold = await stock.deduct_order(of, order)
        assert sold.success, sold  # type: ignore[union-attr] - not refused

    async def push(self, system: str = SAP) -> PushResult:
        return await self.pushes.run(self.tenant, system)

    async def sync(self, system: str = SAP) -> SyncResult:
        return await self.syncs.run(self.tenant, system, Asked(kind=SyncType.FULL))

    async def states(self, system: str = SAP) -> Counter[str]:
        rows = await self.pushes.listed(self.tenant, system, limit=1000)
        return Counter(row.state for row in rows)

    def booked(self, kind: str = EXITS) -> list[dict[str, int]]:
        """What SAP's documents are of."""
        return [
            dict(Counter[str]({x["ItemCode"]: x["Quantity"] for x in one["DocumentLines"]}))
            for one in self.sap.documents[kind]
        ]


@asynccontextmanager
async def open_till(shop: Shop) -> AsyncIterator[Till]:
    async with AsyncExitStack() as stack:
        dsn = shop.stock.dsn
        app = await stack.enter_async_context(create_pool(dsn, "cerniq_app", max_size=4))
        operator = await stack.enter_async_context(
            create_pool(dsn, "cerniq_operator", max_size=8, reset=False)
        )
        yield await Till(shop, app, operator).open(stack)


def posts(kind: str, then: Callable[[], Reply | None]) -> Callable[[Request], Reply | None]:
    """A trouble of what is booked, and not of what is looked for."""
    return lambda request: then() if request.method == "POST" and kind in request.path else None
