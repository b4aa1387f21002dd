"""What the engine answers. Refusals are values; their order of precedence stands here, once."""

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar, Self
from uuid import UUID

from cerniq_stock.domain.record import record
from cerniq_stock.domain.sync import Verdict


class Refusal(StrEnum):
    """Why a command, or a line of one, was refused.

    In order of precedence: where several apply, the first of this list is the answer.
    The first group refuses the whole command and changes nothing. The second refuses a line of a
    reservation; the other lines go on.
    """

    meaning: str
    whole: bool

    def __new__(cls, code: str, meaning: str, whole: bool = True) -> Self:
        """Attach the one line of meaning that the documentation is generated from."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        member.whole = whole
        return member

    TENANT_NOT_FOUND = "TENANT_NOT_FOUND", "No such tenant."
    RESERVATION_EXISTS = "RESERVATION_EXISTS", "The key was used before with another payload."
    ORDER_EXISTS = "ORDER_EXISTS", "The order was taken down before with other lines."
    ORDER_NOT_FOUND = "ORDER_NOT_FOUND", "No such order."
    ORDER_CANCELLED = "ORDER_CANCELLED", "All of the order was cancelled."
    NEGOTIATION_NOT_FOUND = "NEGOTIATION_NOT_FOUND", "No such negotiation."
    NEGOTIATION_CLOSED = (
        "NEGOTIATION_CLOSED",
        "Only negotiations in PROPOSAL, NEGOTIATION or CLOSING may reserve.",
    )
    RESERVATION_NOT_FOUND = "RESERVATION_NOT_FOUND", "No such reservation."
    RESERVATION_EXPIRED = "RESERVATION_EXPIRED", "The reservation is past its expiry: it is over."
    RESERVATION_ENDED = "RESERVATION_ENDED", "The reservation was released, consumed or failed."
    ORDER_HOLDS = (
        "ORDER_HOLDS",
        "The reservation belongs to an order: deliver or release the order.",
    )
    NOT_EXPIRED = "NOT_EXPIRED", "Release with reason EXPIRED, but the reservation has not expired."
    EXTENSION_LIMIT = "EXTENSION_LIMIT", "The reservation was extended as often as allowed."
    DURATION_LIMIT = "DURATION_LIMIT", "The reservation would last longer than allowed in all."
    PRODUCT_UNKNOWN = "PRODUCT_UNKNOWN", "No such product (commands on stock and units)."
    WAREHOUSE_UNKNOWN = "WAREHOUSE_UNKNOWN", "The tenant has no such warehouse."
    UNIT_MISMATCH = "UNIT_MISMATCH", "The unit is not the product's."
    QUANTITY_TOO_PRECISE = "QUANTITY_TOO_PRECISE", "More decimal places than the unit allows."
    NOT_ORDERED = "NOT_ORDERED", "The order has no such line."
    EXCEEDS_ORDERED = "EXCEEDS_ORDERED", "More than is outstanding of the order's line."
    EXCEEDS_DELIVERED = "EXCEEDS_DELIVERED", "More than was delivered and has not come back."
    NOT_RESERVED = "NOT_RESERVED", "The reservation does not hold this SKU."
    EXCEEDS_RESERVED = "EXCEEDS_RESERVED", "More is to be consumed than the reservation holds."
    BELOW_RESERVED = (
        "BELOW_RESERVED",
        "Stock would fall below what HARD reservations hold and what is blocked.",
    )
    STOCK_LIMIT = "STOCK_LIMIT", "A level would hold more than 99,999,999,999.999."
    PRODUCT_NOT_FOUND = (
        "PRODUCT_NOT_FOUND",
        "No such SKU, or productId names another product.",
        False,
    )
    PRODUCT_DISCONTINUED = "PRODUCT_DISCONTINUED", "The product is discontinued.", False
    INSUFFICIENT_STOCK = "INSUFFICIENT_STOCK", "Nothing is available.", False


class LineStatus(StrEnum):
    """Answer to one requested line (§2.4)."""

    RESERVED = "RESERVED"
    PARTIAL = "PARTIAL"
    UNAVAILABLE = "UNAVAILABLE"


def camel(name: str) -> str:
    """`available_before` -> `availableBefore`: the names on the wire are the specification's."""
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


class Wire:
    """Marks answers whose fields travel in camelCase (READING, preamble)."""

    __slots__ = ()
    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "alias_generator": camel,
        "populate_by_name": True,
    }


@record
class Refused(Wire):
    """The command was refused as a whole; nothing changed. `message` is one English sentence."""

    code: Refusal
    message: str


@record
class ItemResult(Wire):
    """Answer to one requested line (§2.4). Quantities are in the product's unit."""

    sku: str
    product_id: UUID | None
    requested_quantity: Decimal
    reserved_quantity: Decimal
    available_before: Decimal
    available_after: Decimal
    status: LineStatus
    backorder_date: date | None = None


@record
class ReservationError(Wire):
    """Why a line, or (with an empty `sku`) the whole reservation, was refused (§2.4)."""

    sku: str
    code: Refusal
    message: str
    available_quantity: Decimal | None = None


@record
class ReserveResult(Wire):
    """Answer to a reservation (§2.4). `status` is ACTIVE, PARTIAL or FAILED.

    `reservation_id` is None only where the whole command was refused and nothing is stored.
    """

    success: bool
    reservation_id: str | None
    reservation_key: str
    status: str
    items: tuple[ItemResult, ...]
    total_reserved: Decimal
    total_requested: Decimal
    expires_at: datetime
    warnings: tuple[str, ...]
    errors: tuple[ReservationError, ...]


@record
class ReleasedItem(Wire):
    """So much of one SKU was given back or sold (§3.4)."""

    sku: str
    product_id: UUID
    released_quantity: Decimal
    available_after: Decimal


@record
class ReleaseResult(Wire):
    """Answer to a release or consumption (§3.4).

    `new_status` is RELEASED, CONSUMED, PARTIAL (something is still held) or EXPIRED (it was over
    before). A release by negotiation names all its reservations in `reservation_id`, separated by
    commas.
    """

    success: bool
    reservation_id: str
    previous_status: str
    new_status: str
    items_released: tuple[ReleasedItem, ...]
    total_released: Decimal
    reason: str
    released_at: datetime
    warnings: tuple[str, ...] = ()


@record
class ExtendResult(Wire):
    """The reservation now lasts until `expires_at`."""

    reservation_id: str
    expires_at: datetime
    extensions: int


@record
class NegotiationResult(Wire):
    """The negotiation is in `state`; `released` names the reservations that ended with it."""

    negotiation_id: UUID
    previous_state: str | None
    state: str
    released: tuple[str, ...]


@record
class LevelResult(Wire):
    """A level after a change. `displaced` names SOFT reservations that had to give way."""

    sku: str
    product_id: UUID
    warehouse: str
    total: Decimal
    reserved: Decimal
    blocked: Decimal
    available: Decimal
    displaced: tuple[str, ...] = ()


@record
class SyncedLevel(Wire):
    """What a sync made of a level. `version` is the level's before it.

    Where the verdict is REVIEW or SHORT nothing was changed. `clipped`: the ERP has committed more
    than fits, so less is blocked. `displaced` names SOFT reservations that had to give way.
    """

    sku: str
    product_id: UUID
    warehouse: str
    verdict: Verdict
    version: int
    previous_total: Decimal
    previous_available: Decimal
    total: Decimal
    available: Decimal
    conflict: bool
    clipped: bool
    displaced: tuple[str, ...]


@record
class OrderLineResult(Wire):
    """A line of an order as it stands. `reserved` is what is held now."""

    line_no: int
    sku: str
    product_id: UUID
    quantity: Decimal
    reserved: Decimal
    deducted: Decimal
    released: Decimal
    returned: Decimal


@record
class OrderResult(Wire):
    """An order after a command. Without success nothing changed, and `errors` names every line.

    `quantity` is how much was reserved, released, deducted or returned by this command.
    """

    success: bool
    order_id: UUID
    status: str
    reservation_id: str | None
    negotiation_id: UUID | None
    quantity: Decimal
    lines: tuple[OrderLineResult, ...]
    warnings: tuple[str, ...] = ()
    errors: tuple[ReservationError, ...] = ()


Answer = (
    ReleaseResult
    | ExtendResult
    | NegotiationResult
    | LevelResult
    | SyncedLevel
    | OrderResult
    | Refused
)
