"""How an integration's syncs behave: what is no secret, and no matter of reading payloads."""

import json
from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from cerniq_stock.domain.model import Unit
from cerniq_stock.domain.sync import Strategy
from cerniq_stock.errors import InvalidInputError

MAX_BYTES = 60_000
"""Of options as JSON; the table takes a little more."""
MAX_WAREHOUSES = 500

_UNSTORABLE = "\0"


def _storable(value: Any) -> Any:
    """Refuse what PostgreSQL's JSON cannot hold."""
    if isinstance(value, str) and any(c == _UNSTORABLE or "\ud800" <= c <= "\udfff" for c in value):
        raise ValueError("it has a NUL, or is not valid Unicode")
    return value


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


Warehouse = Annotated[
    str,
    BeforeValidator(_storable),
    StringConstraints(strip_whitespace=True, min_length=1, max_length=50),
]
TheirName = Annotated[
    str,
    BeforeValidator(_storable),
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
]
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]


class SyncOptions(BaseModel):
    """What the owner of an integration decides; in camelCase on the wire."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, validate_by_name=True
    )

    conflict_resolution: Annotated[Strategy, BeforeValidator(_upper)] = Strategy.ERP_WINS
    """Whose figure counts where both sides have changed."""
    create_unknown: StrictBool = False
    """Products that the ERP has and we have not are made."""
    default_unit: Annotated[Unit, BeforeValidator(_upper)] = Unit.BUC
    """Unit of products that are made."""
    warehouses: Annotated[dict[TheirName, Warehouse], Field(max_length=MAX_WAREHOUSES)] = {}
    """The ERP's name of a warehouse, and ours."""
    default_warehouse: Warehouse | None = None
    """Ours, for rows that name none; unset, the tenant's first."""
    min_rows_share: Share = 0.5
    """A full snapshot with less than this share of the last one's rows waits for a person."""
    max_zero_share: Share = 0.3
    """A snapshot that would set more than this share of the catalogue to zero waits, too."""
    use_erp_available: StrictBool = True
    """What the ERP has committed itself is blocked here."""
    sync_prices: StrictBool = True
    sync_status: StrictBool = True
    push: StrictBool = False
    """What is sold here is booked in the ERP, where its interface takes that."""

    def wire(self) -> dict[str, Any]:
        """All options as they go over the wire."""
        return self.model_dump(mode="json", by_alias=True)

    def chosen(self) -> dict[str, Any]:
        """Only what was chosen, to be stored: the rest follows the defaults of the day."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


NAMES = tuple(to_camel(name) for name in SyncOptions.model_fields)


def read_options(data: bytes | str | Mapping[str, Any]) -> SyncOptions:
    """Read options, as JSON or as an object. Raises InvalidInputError naming the option."""
    given = read_object(data, "options", most=MAX_BYTES)
    try:
        return SyncOptions.model_validate(given, by_alias=True, by_name=False)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False, include_context=False)
    # an unknown one is told first, as its value is what was meant
    fault = next((one for one in faults if one["type"] == "extra_forbidden"), faults[0])
    key = ".".join(map(str, fault["loc"])) or "options"
    if fault["type"] == "extra_forbidden":
        raise InvalidInputError(
            key, f"Options: unknown option {key}; there may be {', '.join(NAMES)}"
        )
    raise InvalidInputError(key, f"Options: {key}: {fault['msg'].removeprefix('Value error, ')}")


def check_warehouses(options: SyncOptions, ours: Collection[str]) -> None:
    """Refuse options that name warehouses which are none of ours. Raises InvalidInputError."""
    named = [("warehouses", name) for name in options.warehouses.values()]
    if options.default_warehouse is not None:
        named.append(("defaultWarehouse", options.default_warehouse))
    for option, name in named:
        if name not in ours:
            there_are = ", ".join(ours)
            raise InvalidInputError(
                option, f"Options: {option}: no warehouse {name} here; there are {there_are}"
            )


def read_object(data: bytes | str | Mapping[str, Any], what: str, *, most: int) -> dict[str, Any]:
    """Read a JSON object of at most `most` bytes. The sentences of its errors show none of it."""
    if isinstance(data, Mapping):
        return dict(data)
    has, is_ = ("have", "are") if what.endswith("s") else ("has", "is")
    if len(data) > most:
        raise InvalidInputError(what, f"The {what} {has} more than {most:,} bytes")
    wrong = ""
    try:
        given = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        place = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        wrong = f"The {what} {is_} not JSON{place}"
    # raised out here: what was being read would hang on the error that it comes from
    if wrong:
        raise InvalidInputError(what, wrong)
    if not isinstance(given, dict):
        raise InvalidInputError(what, f"The {what} must be a JSON object")
    return given


def _refuse_constant(_: str) -> None:
    raise ValueError
