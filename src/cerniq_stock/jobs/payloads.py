"""What jobs are asked (§2.3, §3.3, §4.3 and job 28-31 of stage 4), as it travels: camelCase.

Checked before anything is done: a payload that cannot mean anything fails its job at once, with one
sentence. Fields that nobody knows are left aside, as the specification's schemas do. What a
quantity may be is the engine's to say (`validate`), so numbers are only read here.
"""

from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from cerniq_stock import validate
from cerniq_stock.domain.commands import Item, OrderPart, Quantity
from cerniq_stock.domain.model import Priority, ReleaseReason, ReservationType, Unit
from cerniq_stock.domain.sync import Strategy
from cerniq_stock.erp.rows import SystemName
from cerniq_stock.errors import InvalidInputError
from cerniq_stock.sync.result import Asked, SyncType

_LARGEST_WHOLE = 2**31 - 1
"""Of what has a fraction or an exponent, which may ask for a number that fills the memory."""


def _exact(value: Any) -> Any:
    """A JSON number, or its plain text. A yes or no is none, though Python counts with it.

    JSON knows no decimals: the shortest text of a number is what its sender wrote.
    """
    kind = type(value)
    if kind is int or kind is Decimal:
        return value
    if kind is float:
        return Decimal(repr(value))
    if kind is str and validate.PLAIN.fullmatch(value):
        return value
    raise PydanticCustomError(
        "number", "Input should be a valid decimal: a number, or a text of plain digits"
    )


def _whole(value: Any) -> Any:
    """Like `_exact`, and without a fraction: `72`, `72.0` and `"72"` are one number."""
    if type(value) is int:
        return value
    exact = Decimal(_exact(value))
    fits = exact.is_finite() and -_LARGEST_WHOLE <= exact <= _LARGEST_WHOLE
    if not fits or exact != exact.to_integral_value():
        raise PydanticCustomError("whole", "Input should be a whole number")
    return int(exact)


def _sku(value: str) -> str:
    try:
        return validate.sku("sku", value)
    except InvalidInputError as error:
        raise PydanticCustomError("sku", "{told}", {"told": str(error)}) from None


Number = Annotated[Decimal, BeforeValidator(_exact)]
Whole = Annotated[int, BeforeValidator(_whole)]
Sku = Annotated[str, AfterValidator(_sku)]
Channel = Literal["AI_AGENT", "MANUAL", "API"]


class Wire(BaseModel):
    """What travels. A field that is null or an empty text is as good as left out."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _drop_nothing(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        # nearly every payload, and each of its lines, passes here without a loop or a copy
        said = value.values()
        if None not in said and "" not in said:
            return value
        return {name: item for name, item in value.items() if item is not None and item != ""}


class Payload(Wire):
    """Base of all payloads."""

    tenant_id: UUID


class ItemPayload(Wire):
    """One line to reserve. `product_id`, where given, must be the SKU's product (READING 4)."""

    sku: str
    product_id: UUID | None = None
    quantity: Number
    unit_of_measure: Unit | None = None

    def item(self) -> Item:
        """As the engine takes it.

        BUC is what the specification's schema fills in where nothing was said: the product's unit.
        """
        unit = None if self.unit_of_measure is Unit.BUC else self.unit_of_measure
        return Item(self.sku, self.quantity, self.product_id, unit)


class Metadata(Wire):
    """Who asks, from where, and why (§2.3).

    The library and the command line take any short text as a channel; what travels is one of three.
    """

    requested_by: str | None = None
    channel: Channel | None = "AI_AGENT"
    notes: str | None = None


_NO_METADATA = Metadata.model_construct(channel=None)
"""The channel has its default within the metadata (§2.3); without them nobody said anything."""


class ReserveCreate(Payload):
    """`stock:reserve:create` (§2.3). Without `reservation_key` the job's id makes it repeatable."""

    negotiation_id: UUID
    items: Annotated[tuple[ItemPayload, ...], Field(min_length=1, max_length=100)]
    reservation_type: ReservationType = ReservationType.SOFT
    expires_in_hours: Whole = 72
    reservation_key: str | None = None
    priority: Priority = Priority.NORMAL
    metadata: Metadata = _NO_METADATA
    replaces: str | None = None


class QuantityPayload(Wire):
    """So much of one SKU."""

    sku: str
    quantity: Number


class ReserveRelease(Payload):
    """`stock:reserve:release` (§3.3). With `release_partial` only `items_to_release`."""

    reservation_id: str | None = None
    negotiation_id: UUID | None = None
    reason: ReleaseReason
    release_partial: bool = False
    items_to_release: tuple[QuantityPayload, ...] | None = None
    released_by: str | None = None
    notes: str | None = None

    @model_validator(mode="after")
    def _partial_names_items(self) -> Self:
        """Nobody means all of it by saying that it is a part."""
        if self.release_partial and not self.items_to_release:
            raise PydanticCustomError("items", "releasePartial needs itemsToRelease")
        return self

    def amounts(self) -> tuple[Quantity, ...] | None:
        """What to release; None is all of it."""
        if not self.release_partial or self.items_to_release is None:
            return None
        return tuple(Quantity(item.sku, item.quantity) for item in self.items_to_release)


class PartPayload(Wire):
    """So much of an order's line, by its number or by its SKU."""

    model_config = ConfigDict(extra="forbid")

    quantity: Number
    sku: str | None = None
    line_no: Whole | None = None


class OfOrder(Payload):
    """`stock:reserve:order` (job 29): the order must have been taken down.

    A field that nobody knows is refused in what concerns orders: one that was misspelt would mean
    all of the order.
    """

    model_config = ConfigDict(extra="forbid")

    order_id: UUID
    requested_by: str | None = None
    notes: str | None = None


class PartsOfOrder(OfOrder):
    """`stock:release:order` and `stock:deduct:delivered` (jobs 30, 31).

    Without `items` all that is outstanding. A delivery in part is told from its repeat by
    `delivery_id`, or else by the job's id.
    """

    items: tuple[PartPayload, ...] | None = None
    delivery_id: str | None = None

    def parts(self) -> tuple[OrderPart, ...] | None:
        """What is meant; None is all of it."""
        if self.items is None:
            return None
        return tuple(OrderPart(x.quantity, x.sku, x.line_no) for x in self.items)


class CheckExpired(Payload):
    """`stock:reserve:check-expired`: end what is past its expiry, of one tenant."""


class SyncErp(Payload):
    """`stock:sync:erp` (§4.3). Without `conflict_resolution` the integration's own counts.

    `file`, of CSV_IMPORT, names one below the tenant's folder: bytes do not travel in payloads.
    """

    erp_system: SystemName
    sync_type: SyncType = SyncType.INCREMENTAL
    skus: Annotated[tuple[Sku, ...], Field(max_length=10_000)] = ()
    webhook_payload: Any = None
    file: str | None = None
    force_update: bool = False
    accept_snapshot: bool = False
    dry_run: bool = False
    conflict_resolution: Strategy | None = None

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if self.sync_type is SyncType.SELECTIVE and not self.skus:
            raise PydanticCustomError("skus", "SELECTIVE needs skus")
        if self.skus and self.sync_type is not SyncType.SELECTIVE:
            raise PydanticCustomError("skus", "skus are of SELECTIVE only")
        return self

    def asked(self) -> Asked:
        """As the engine takes it."""
        return Asked(
            kind=self.sync_type,
            skus=self.skus,
            payload=self.webhook_payload,
            file=self.file,
            force=self.force_update,
            accept=self.accept_snapshot,
            dry=self.dry_run,
            strategy=self.conflict_resolution,
        )


def _oblio(system: SystemName) -> SystemName:
    if system is not SystemName.OBLIO:
        raise PydanticCustomError("oblio", "This job is OBLIO's; stock:sync:erp is of the others")
    return system


class SyncOblio(SyncErp):
    """`stock:sync:oblio` (job 28): the same, of OBLIO (READING 20)."""

    erp_system: Annotated[SystemName, AfterValidator(_oblio)] = SystemName.OBLIO


class PushErp(Payload):
    """`stock:push:erp`: tell an ERP what was sold, where that is switched on."""

    erp_system: SystemName


class RenewSubscription(Payload):
    """`stock:subscriptions:renew`: let an ERP go on telling of changes."""

    erp_system: SystemName


class Dispatch(Wire):
    """A schedule came due: fan out one job for each tenant (READING 31)."""

    schedule: str
    due_at: AwareDatetime


def problem(error: ValidationError) -> str:
    """Say in one sentence what is wrong with a payload."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "payload"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {first['msg']}{more}"
