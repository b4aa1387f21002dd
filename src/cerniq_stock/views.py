"""What can be looked at: frozen rows of the reads, in camelCase on the wire."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from cerniq_stock.domain.outcomes import ItemResult, OrderLineResult, ReservationError, Wire


@dataclass(frozen=True, slots=True)
class Availability(Wire):
    """What of one SKU can be promised at `as_of` (the database's clock), over all warehouses.

    `reserved` leaves out reservations past their expiry, swept or not. An unknown SKU is not
    answered at all.
    """

    sku: str
    product_id: UUID
    unit: str
    status: str
    total: Decimal
    reserved: Decimal
    blocked: Decimal
    available: Decimal
    restock_date: date | None
    as_of: datetime


@dataclass(frozen=True, slots=True)
class LevelView(Wire):
    """Stock of one product in one warehouse, expiry exact."""

    sku: str
    name: str
    unit: str
    status: str
    warehouse: str
    total: Decimal
    reserved: Decimal
    blocked: Decimal
    available: Decimal
    reorder_point: Decimal
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Holder(Wire):
    """A live line that holds goods, for a negotiation or, without end, for an order."""

    reservation_id: str
    negotiation_id: UUID | None
    order_id: UUID | None
    type: str
    priority: str
    warehouse: str
    held: Decimal
    expires_at: datetime | None
    requested_by: str | None


@dataclass(frozen=True, slots=True)
class Explanation(Wire):
    """Why so much is available: total - held by whom - blocked, warehouse by warehouse."""

    availability: Availability
    levels: tuple[LevelView, ...]
    holders: tuple[Holder, ...]


@dataclass(frozen=True, slots=True)
class LineView(Wire):
    """What a reservation took of one product in one warehouse, and what became of it."""

    line_no: int
    sku: str
    product_id: UUID
    warehouse: str
    reserved: Decimal
    held: Decimal
    consumed: Decimal
    released: Decimal


@dataclass(frozen=True, slots=True)
class ReservationView(Wire):
    """A reservation as it stands: `status` is EXPIRED from the instant of expiry on.

    `items` and `errors` are the first answer, as given; `lines` are what is held now. One of an
    order has no negotiation and no end.
    """

    id: str
    reservation_key: str
    negotiation_id: UUID | None
    order_id: UUID | None
    type: str
    status: str
    priority: str
    total_requested: Decimal
    total_reserved: Decimal
    total_held: Decimal
    extensions: int
    created_at: datetime
    expires_at: datetime | None
    released_at: datetime | None
    release_reason: str | None
    released_by: str | None
    release_notes: str | None
    requested_by: str | None
    channel: str | None
    notes: str | None
    items: tuple[ItemResult, ...] = ()
    errors: tuple[ReservationError, ...] = ()
    lines: tuple[LineView, ...] = ()


@dataclass(frozen=True, slots=True)
class OrderView(Wire):
    """An order as it stands; the figures are sums over its lines, which a list leaves out."""

    id: UUID
    negotiation_id: UUID | None
    reservation_id: str | None
    status: str
    quantity: Decimal
    reserved: Decimal
    deducted: Decimal
    released: Decimal
    returned: Decimal
    line_count: int
    created_at: datetime
    updated_at: datetime
    lines: tuple[OrderLineResult, ...] = ()


@dataclass(frozen=True, slots=True)
class MovementView(Wire):
    """One change of one level. `sequence` counts the level's movements."""

    id: str
    created_at: datetime
    sku: str
    product_id: UUID
    warehouse: str
    type: str
    quantity: Decimal
    total_delta: Decimal
    reserved_delta: Decimal
    blocked_delta: Decimal
    previous_available: Decimal
    new_available: Decimal
    sequence: int
    reference_type: str | None
    reference_id: str | None
    negotiation_id: UUID | None
    order_id: UUID | None
    notes: str | None
    created_by: str | None


@dataclass(frozen=True, slots=True)
class ProductView(Wire):
    """A product with its figures over all warehouses, expiry exact."""

    id: UUID
    sku: str
    name: str
    unit: str
    status: str
    price: Decimal | None
    currency: str
    reorder_point: Decimal
    reorder_quantity: Decimal
    expected_restock_date: date | None
    stock_total: Decimal
    stock_reserved: Decimal
    stock_blocked: Decimal
    stock_available: Decimal


@dataclass(frozen=True, slots=True)
class NotificationView(Wire):
    """A message for the tenant's people."""

    id: str
    created_at: datetime
    type: str
    severity: str
    title: str
    message: str
    entity_type: str
    entity_id: str


@dataclass(frozen=True, slots=True)
class TenantView(Wire):
    """A merchant and its rules."""

    id: UUID
    name: str
    language: str
    warehouses: tuple[str, ...]
    max_extensions: int
    max_reservation_h: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class IntegrationView(Wire):
    """A tenant's ERP, without anything that is sealed.

    `sync_schedule` is null where it follows the common one. `options` are those that were chosen.
    """

    id: UUID
    erp_system: str
    name: str
    enabled: bool
    sync_schedule: str | None
    options: Mapping[str, Any]
    last_sync_at: datetime | None
    last_sync_status: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class RemovedIntegration(Wire):
    """An integration that is gone: on so many levels its own part of what was blocked is free.

    `conflicts_ended` were waiting for a person. Of a removal that had died before, both count
    what was left of it.
    """

    erp_system: str
    levels_freed: int
    conflicts_ended: int
    removed: bool = True


@dataclass(frozen=True, slots=True)
class SubscriptionView(Wire):
    """An ERP that tells of changes by itself. `subscription_id` is its own name for that.

    `host` is where it tells; the whole address stays sealed. `expires_at` None: it does not end.
    `made_anew`: the one before was gone, so the next sync reads everything.
    """

    erp_system: str
    subscription_id: str
    host: str
    made_at: datetime
    renewed_at: datetime
    renew_at: datetime
    expires_at: datetime | None
    made_anew: bool = False


@dataclass(frozen=True, slots=True)
class NotRewrapped(Wire):
    """A sealed configuration, or address, that does not open, and why."""

    tenant_id: UUID
    id: UUID
    reason: str


@dataclass(frozen=True, slots=True)
class StoredCredentials(Wire):
    """How much of what is stored of all tenants' ERPs opens with the keys of this process.

    `reason` is that of the first that does not, or what is wrong with the keys. `reading_files`
    counts those that look for files, as far as they open, `without_folder` those of them whose
    tenant has no folder here.
    """

    stored: int
    closed: int
    reason: str | None
    reading_files: int
    without_folder: int


@dataclass(frozen=True, slots=True)
class Rotation(Wire):
    """How far a change of keys is: the key `kid` is the first one of the configuration.

    `current` lay under it before; `rewrapped` do now, or would if this were no dry run; `missed`
    were changed by somebody else at that moment.
    """

    kid: str
    dry_run: bool
    current: int
    rewrapped: int
    missed: int
    failed: tuple[NotRewrapped, ...]


@dataclass(frozen=True, slots=True)
class Difference(Wire):
    """Something that must always hold and does not. `rule` is one of `verify`'s checks."""

    rule: str
    tenant_id: UUID
    subject: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Report(Wire):
    """What `verify` looked at and found. No differences: every invariant holds."""

    ok: bool
    differences: tuple[Difference, ...]
    tenants: int
    levels: int
    movements: int
    reservations: int
    duration_s: float
