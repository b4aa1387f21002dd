"""What can be asked, and what is written seldom: reads, tenants, products, verify.

`service.Stock` inherits these calls, so a caller sees one handle.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from cerniq_stock import validate
from cerniq_stock.errors import NotFoundError
from cerniq_stock.store import catalog, reads
from cerniq_stock.store.availability import AvailabilityReader
from cerniq_stock.store.catalog import NewProduct, NewTenant
from cerniq_stock.store.verify import verify
from cerniq_stock.views import (
    Availability,
    Explanation,
    LevelView,
    MovementView,
    NotificationView,
    OrderView,
    ProductView,
    Report,
    ReservationView,
    TenantView,
)


class Questions:
    """Reads need no writer: each is one snapshot, expiry exact. The tenant is named first."""

    def __init__(
        self,
        dsn: str,
        availability: AvailabilityReader,
        app: asyncpg.Pool,
        operator: asyncpg.Pool,
    ) -> None:
        self.dsn = dsn
        self._availability = availability
        self._app = app
        self._operator = operator

    # -- tenants and products ---------------------------------------------------------------

    async def create_tenant(self, tenant: NewTenant) -> TenantView:
        """Make a tenant. Raises InvalidInputError when its id is taken."""
        await catalog.insert_tenant(self._operator, tenant)
        return await self.tenant(tenant.id)

    async def tenant(self, tenant_id: UUID) -> TenantView:
        """Look a tenant up. Raises NotFoundError."""
        found = await reads.tenant(self._operator, validate.uuid("tenantId", tenant_id))
        if found is None:
            raise NotFoundError(f"No tenant {tenant_id}")
        return found

    async def tenants(self) -> tuple[TenantView, ...]:
        """List all tenants."""
        return await reads.tenants(self._operator)

    async def import_products(self, tenant_id: UUID, products: Sequence[NewProduct]) -> int:
        """Insert or update products by SKU, all or none; returns how many are new.

        Raises InvalidInputError when a unit is to change although stock was moved in the old one.
        """
        await self.tenant(tenant_id)
        return await catalog.upsert_products(
            self._app, validate.uuid("tenantId", tenant_id), products
        )

    async def products(
        self,
        tenant_id: UUID,
        *,
        search: str | None = None,
        after_sku: str | None = None,
        limit: int = 100,
    ) -> tuple[ProductView, ...]:
        """List products by SKU with their figures over all warehouses."""
        return await reads.products(
            self._app,
            validate.uuid("tenantId", tenant_id),
            search=search,
            after_sku=after_sku,
            limit=validate.rows(limit),
        )

    # -- questions --------------------------------------------------------------------------

    async def availability(self, tenant_id: UUID, skus: Sequence[str]) -> dict[str, Availability]:
        """Say how much of each SKU can be promised now. Unknown SKUs are left out.

        Exact at the instant of the answer; concurrent questions share one query.
        """
        return await self._availability.get(validate.uuid("tenantId", tenant_id), skus)

    async def levels(
        self,
        tenant_id: UUID,
        *,
        skus: Sequence[str] | None = None,
        search: str | None = None,
        after_sku: str | None = None,
        limit: int = 100,
    ) -> tuple[LevelView, ...]:
        """List stock by SKU and warehouse."""
        return await reads.levels(
            self._app,
            validate.uuid("tenantId", tenant_id),
            skus=skus,
            search=search,
            after_sku=after_sku,
            limit=validate.rows(limit),
        )

    async def explain(self, tenant_id: UUID, sku: str) -> Explanation:
        """Say why so much of a SKU is available. Raises NotFoundError."""
        found = await reads.explain(self._app, validate.uuid("tenantId", tenant_id), sku)
        if found is None:
            raise NotFoundError(f"Product with SKU {sku} not found")
        return found

    async def reservation(self, tenant_id: UUID, reservation_id: str) -> ReservationView:
        """Look a reservation up with its lines. Raises NotFoundError."""
        found = await reads.reservation(
            self._app, validate.uuid("tenantId", tenant_id), reservation_id
        )
        if found is None:
            raise NotFoundError(f"Reservation {reservation_id} not found")
        return found

    async def reservations(
        self,
        tenant_id: UUID,
        *,
        negotiation_id: UUID | None = None,
        status: str | None = None,
        sku: str | None = None,
        after_id: str | None = None,
        limit: int = 50,
    ) -> tuple[ReservationView, ...]:
        """List reservations, the newest first."""
        return await reads.reservations(
            self._app,
            validate.uuid("tenantId", tenant_id),
            negotiation_id=negotiation_id,
            status=status,
            sku=sku,
            after_id=after_id,
            limit=validate.rows(limit),
        )

    async def order(self, tenant_id: UUID, order_id: UUID) -> OrderView:
        """Look an order up with its lines. Raises NotFoundError."""
        id_ = validate.uuid("orderId", order_id)
        found = await reads.order(self._app, validate.uuid("tenantId", tenant_id), id_)
        if found is None:
            raise NotFoundError(f"Order {order_id} not found")
        return found

    async def orders(
        self,
        tenant_id: UUID,
        *,
        status: str | None = None,
        negotiation_id: UUID | None = None,
        after_id: UUID | None = None,
        limit: int = 50,
    ) -> tuple[OrderView, ...]:
        """List orders, the newest first."""
        return await reads.orders(
            self._app,
            validate.uuid("tenantId", tenant_id),
            status=status,
            negotiation_id=negotiation_id,
            after_id=after_id,
            limit=validate.rows(limit),
        )

    async def movements(
        self,
        tenant_id: UUID,
        *,
        sku: str | None = None,
        warehouse: str | None = None,
        reference_id: str | None = None,
        order_id: UUID | None = None,
        type: str | None = None,  # noqa: A002 - the column's name
        since: datetime | None = None,
        until: datetime | None = None,
        before_id: str | None = None,
        limit: int = 50,
    ) -> tuple[MovementView, ...]:
        """List movements, the newest first."""
        return await reads.movements(
            self._app,
            validate.uuid("tenantId", tenant_id),
            sku=sku,
            warehouse=warehouse,
            reference_id=reference_id,
            order_id=order_id,
            type=type,
            since=since,
            until=until,
            before_id=before_id,
            limit=validate.rows(limit),
        )

    async def notifications(
        self, tenant_id: UUID, *, before_id: str | None = None, limit: int = 50
    ) -> tuple[NotificationView, ...]:
        """List messages for the tenant's people, the newest first."""
        return await reads.notifications(
            self._app, validate.uuid("tenantId", tenant_id), before_id=before_id, limit=limit
        )

    async def verify(
        self,
        tenant_id: UUID | None = None,
        *,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Report:
        """Rebuild everything from its movements and lines and compare. Read-only, online."""
        return await verify(self.dsn, tenant_id=tenant_id, progress=progress)
