"""The words of the domain as frozen data: what is stored and what is loaded."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

ZERO = Decimal(0)
NEVER = datetime.max.replace(tzinfo=UTC)
"""Expiry of what does not expire; `infinity` in the database."""


class Unit(StrEnum):
    """Units of measure (§2.3). Pieces, sets and pallets are whole; the rest has three places."""

    BUC = "BUC"
    KG = "KG"
    L = "L"
    M = "M"
    M2 = "M2"
    M3 = "M3"
    SET = "SET"
    PAL = "PAL"


DECIMAL_PLACES: dict[str, int] = {
    Unit.BUC: 0,
    Unit.SET: 0,
    Unit.PAL: 0,
    Unit.KG: 3,
    Unit.L: 3,
    Unit.M: 3,
    Unit.M2: 3,
    Unit.M3: 3,
}


class ProductStatus(StrEnum):
    """Only DISCONTINUED refuses reservations (§2.5)."""

    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    DISCONTINUED = "DISCONTINUED"


class ReservationType(StrEnum):
    """SOFT gives way to HARD; HARD gives way to nobody (§2.3)."""

    SOFT = "SOFT"
    HARD = "HARD"


class Priority(StrEnum):
    """Which SOFT reservation gives way first: NORMAL before HIGH before URGENT (§2.3)."""

    NORMAL = "NORMAL"
    HIGH = "HIGH"
    URGENT = "URGENT"


PRIORITY_RANK: dict[str, int] = {Priority.NORMAL: 0, Priority.HIGH: 1, Priority.URGENT: 2}


class ReservationStatus(StrEnum):
    """The state machine of §1.4. PENDING is never stored: one transaction decides."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    CONSUMED = "CONSUMED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"


class ReleaseReason(StrEnum):
    """Why goods stopped being held (§3.3)."""

    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    MANUAL = "MANUAL"
    CONSUMED = "CONSUMED"
    DEAD = "DEAD"
    REPLACED = "REPLACED"


class OrderStatus(StrEnum):
    """Where an order stands; follows from its lines (`Order.status`)."""

    NEW = "NEW"
    RESERVED = "RESERVED"
    PARTLY_DELIVERED = "PARTLY_DELIVERED"
    DELIVERED = "DELIVERED"
    CANCELLED = "CANCELLED"


class MovementType(StrEnum):
    """Kinds of movement (§6.1)."""

    RESERVATION = "RESERVATION"
    RELEASE = "RELEASE"
    SALE = "SALE"
    PURCHASE = "PURCHASE"
    ADJUSTMENT = "ADJUSTMENT"
    RETURN = "RETURN"
    SYNC = "SYNC"


MAY_RESERVE = frozenset({"PROPOSAL", "NEGOTIATION", "CLOSING"})
"""States of a negotiation in which goods may be reserved (§2.5)."""

ENDS_NEGOTIATION = frozenset({"DEAD", "TIMEOUT"})
"""States of a negotiation that release all it holds (§3.2)."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A merchant and its rules. `warehouses` is the order in which stock is taken."""

    id: UUID
    name: str
    language: str = "ro"
    warehouses: tuple[str, ...] = ("MAIN",)
    max_extensions: int = 3
    max_reservation_h: int = 336


class Product(NamedTuple):
    """What is sold. `restock_date` answers a short line as its backorder date."""

    id: UUID
    sku: str
    name: str
    unit: str
    status: str
    reorder_point: Decimal
    restock_date: date | None


class Level(NamedTuple):
    """Stock of one product in one warehouse.

    `version` counts the movements of the level. `due` is the part of `reserved` that belongs to
    reservations past their expiry: it holds nothing, whether or not a sweep has run.
    """

    product_id: UUID
    warehouse: str
    total: Decimal
    reserved: Decimal
    blocked: Decimal
    version: int
    due: Decimal = ZERO

    @property
    def free(self) -> Decimal:
        """What the stored figures leave: total - reserved - blocked."""
        return self.total - self.reserved - self.blocked

    @property
    def available(self) -> Decimal:
        """What can be promised now: free, and what expired reservations still stand for."""
        return self.total - self.reserved - self.blocked + self.due


class Line(NamedTuple):
    """What a reservation took of one product in one warehouse.

    `reserved = held + consumed + released` at every moment.
    """

    line_no: int
    product_id: UUID
    sku: str
    warehouse: str
    reserved: Decimal
    consumed: Decimal = ZERO
    released: Decimal = ZERO

    @property
    def held(self) -> Decimal:
        """What the line still holds."""
        return self.reserved - self.consumed - self.released


class Reservation(NamedTuple):
    """Goods held for a negotiation until `expires_at`, or the record that none could be had.

    Goods held for an order have its `order_id` instead of a negotiation, and do not expire.
    """

    id: str
    key: str
    negotiation_id: UUID | None
    type: str
    priority: str
    status: str
    created_at: datetime
    expires_at: datetime
    lines: tuple[Line, ...]
    extensions: int = 0
    released_at: datetime | None = None
    release_reason: str | None = None
    released_by: str | None = None
    release_notes: str | None = None
    order_id: UUID | None = None

    def live(self, now: datetime) -> bool:
        """Whether it holds anything: a reservation past its expiry holds nothing."""
        return self.status == ReservationStatus.ACTIVE and self.expires_at > now


class OrderLine(NamedTuple):
    """What an order wants of one product, and what became of it so far.

    `reserved` is what is held now. `quantity = open + reserved + deducted + released`, and
    `returned` is a part of `deducted`.
    """

    line_no: int
    product_id: UUID
    sku: str
    quantity: Decimal
    reserved: Decimal = ZERO
    deducted: Decimal = ZERO
    released: Decimal = ZERO
    returned: Decimal = ZERO

    @property
    def outstanding(self) -> Decimal:
        """What can still be delivered or cancelled."""
        return self.quantity - self.deducted - self.released

    @property
    def open(self) -> Decimal:
        """What is outstanding and not held."""
        return self.outstanding - self.reserved


class Order(NamedTuple):
    """A customer's order. `reservation_id` is the one that holds its goods, once there was one."""

    id: UUID
    negotiation_id: UUID | None
    lines: tuple[OrderLine, ...]
    reservation_id: str | None = None

    @property
    def status(self) -> OrderStatus:
        """Where it stands, by its lines."""
        delivered = any(line.deducted for line in self.lines)
        if not any(line.outstanding for line in self.lines):
            return OrderStatus.DELIVERED if delivered else OrderStatus.CANCELLED
        if delivered:
            return OrderStatus.PARTLY_DELIVERED
        held = any(line.reserved for line in self.lines)
        return OrderStatus.RESERVED if held else OrderStatus.NEW


class Movement(NamedTuple):
    """One change of one level, append-only. The sum of a level's movements is the level.

    `sequence` is the level's version after the change: 1, 2, 3, … without gaps.
    """

    product_id: UUID
    sku: str
    warehouse: str
    type: str
    total_delta: Decimal
    reserved_delta: Decimal
    blocked_delta: Decimal
    previous_available: Decimal
    sequence: int
    reference_type: str | None
    reference_id: str | None
    negotiation_id: UUID | None
    order_id: UUID | None
    notes: str | None
    created_by: str | None


class Notification(NamedTuple):
    """A message for the tenant's people, in the tenant's language."""

    type: str
    severity: str
    title: str
    message: str
    entity_type: str
    entity_id: str
