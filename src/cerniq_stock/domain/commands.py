"""What can be asked of the engine. Commands are validated (`validate.py`) before they get here."""

from decimal import Decimal
from uuid import UUID

from cerniq_stock.domain.model import Priority, ReleaseReason, ReservationType, Unit
from cerniq_stock.domain.record import record


@record
class Item:
    """One requested line. `product_id`, where given, must name the same product as `sku`.

    `unit`, where given, must be the product's.
    """

    sku: str
    quantity: Decimal
    product_id: UUID | None = None
    unit: Unit | None = None


@record
class Reserve:
    """Hold goods for a negotiation (§2). `replaces` names a reservation whose goods it takes over.

    `fingerprint` is a digest of everything the caller asked, to tell a repeat from a reuse of
    the key.
    """

    reservation_id: str
    key: str
    fingerprint: bytes
    negotiation_id: UUID
    items: tuple[Item, ...]
    type: ReservationType = ReservationType.SOFT
    priority: Priority = Priority.NORMAL
    expires_in_h: int = 72
    replaces: str | None = None
    requested_by: str | None = None
    channel: str | None = None
    notes: str | None = None


@record
class Keyed:
    """What every other command carries: an optional key, and who asks.

    With a key the first answer is stored and a repeat returns it.
    """

    key: str | None
    fingerprint: bytes
    by: str | None
    notes: str | None


@record
class Extend(Keyed):
    """Move the expiry of one reservation by `hours`, within the tenant's limits."""

    reservation_id: str
    hours: int


@record
class Quantity:
    """So much of one SKU."""

    sku: str
    quantity: Decimal


@record
class Release(Keyed):
    """Give back (or, with CONSUMED, sell) what is held by a reservation or a negotiation (§3).

    Without `items` it is everything. Exactly one of the two ids is given.
    """

    reason: ReleaseReason
    reservation_id: str | None = None
    negotiation_id: UUID | None = None
    items: tuple[Quantity, ...] | None = None


@record
class SetNegotiation(Keyed):
    """Record a negotiation's state. DEAD and TIMEOUT release all it holds in the same step."""

    negotiation_id: UUID
    state: str


@record
class Receive(Keyed):
    """Goods came in: a purchase."""

    sku: str
    warehouse: str | None
    quantity: Decimal
    reference: str | None = None


@record
class Return(Keyed):
    """Sold goods came back and can be promised again."""

    sku: str
    warehouse: str | None
    quantity: Decimal
    reference: str | None = None


@record
class Adjust(Keyed):
    """Correct `total` and `blocked` of a level by signed differences."""

    sku: str
    warehouse: str | None
    total_delta: Decimal
    blocked_delta: Decimal


@record
class Count(Keyed):
    """A stocktake: `counted` is what is really on the shelf, held goods included."""

    sku: str
    warehouse: str | None
    counted: Decimal


LevelCommand = Receive | Return | Adjust | Count
KeyedCommand = Extend | Release | SetNegotiation | LevelCommand
Command = Reserve | KeyedCommand
