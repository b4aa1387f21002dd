"""What can be asked of the engine. Commands are validated (`validate.py`) before they get here."""

from decimal import Decimal
from uuid import UUID

from cerniq_stock.domain.model import Priority, ReleaseReason, ReservationType, Unit
from cerniq_stock.domain.record import record
from cerniq_stock.domain.sync import Chosen, Figure, Remembered, Strategy


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

    For an order (`order_id`) there is no negotiation and no end: `expires_in_h` is None.
    `fingerprint` is a digest of everything the caller asked, to tell a repeat from a reuse of
    the key.
    """

    reservation_id: str
    key: str
    fingerprint: bytes
    negotiation_id: UUID | None
    items: tuple[Item, ...]
    type: ReservationType = ReservationType.SOFT
    priority: Priority = Priority.NORMAL
    expires_in_h: int | None = 72
    replaces: str | None = None
    requested_by: str | None = None
    channel: str | None = None
    notes: str | None = None
    order_id: UUID | None = None


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


@record
class SyncLevel(Keyed):
    """The ERP's figure of a level. `known` is what was remembered of it by this integration.

    With `version` it is applied only to the level as it was when that was its version. With
    `alert` people are told where it is less than is firmly promised.
    """

    sku: str
    warehouse: str
    figure: Figure
    known: Remembered | None
    strategy: Strategy
    integration_id: UUID
    sync_id: str
    force: bool = False
    version: int | None = None
    chosen: Chosen | None = None
    alert: bool = False


@record
class OrderPart:
    """So much of an order's line `line_no`, or, without one, of its lines of `sku` in turn."""

    quantity: Decimal
    sku: str | None = None
    line_no: int | None = None


@record
class OrderCommand(Keyed):
    """What every command on an order carries."""

    order_id: UUID


@record
class CreateOrder(OrderCommand):
    """Take an order down: what is wanted, and the negotiation it comes from, if any."""

    negotiation_id: UUID | None
    items: tuple[Item, ...]


@record
class ReserveOrder(OrderCommand):
    """Hold all that is open of an order, HARD and without end, or nothing (job 29).

    What its negotiation holds is converted (READING 15, 16).
    """

    reservation_id: str


@record
class ReleaseOrder(OrderCommand):
    """Cancel what is outstanding of an order, or these parts of it (job 30, READING 17)."""

    parts: tuple[OrderPart, ...] | None = None


@record
class DeductOrder(OrderCommand):
    """Sell what is outstanding of an order, or these parts: it was delivered (job 31).

    What is not reserved comes from free stock (READING 18, 19).
    """

    parts: tuple[OrderPart, ...] | None = None


@record
class ReturnOrder(OrderCommand):
    """Put delivered goods of an order, all or these parts, back on the shelf of a warehouse."""

    parts: tuple[OrderPart, ...] | None = None
    warehouse: str | None = None


LevelCommand = Receive | Return | Adjust | Count
KeyedCommand = Extend | Release | SetNegotiation | LevelCommand | SyncLevel | OrderCommand
Command = Reserve | KeyedCommand
