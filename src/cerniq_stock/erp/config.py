"""How one integration's payloads are to be read. Every key is optional; unknown ones are refused.

One model serves all systems; `docs/erp.md` says which key matters where.
"""

import codecs
import json
from collections.abc import Mapping
from datetime import date, datetime
from functools import cached_property
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from cerniq_stock.domain.model import ProductStatus
from cerniq_stock.erp.numbers import SPACES, Numbers
from cerniq_stock.erp.text import column_key
from cerniq_stock.errors import InvalidInputError

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Currency = Annotated[
    str,
    BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
    StringConstraints(pattern=r"^[A-Z]{3}$"),
]
Status = Annotated[
    ProductStatus,
    BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
]
COLUMNS = (
    *("sku", "total", "available", "price", "currency"),
    *("status", "warehouse", "last_modified", "lot"),
)


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ValueError(f"there is no time zone {name!r}") from None
    return name


def _codec(name: str) -> str:
    try:
        b"    ".decode(name)  # finds no codecs that make something else than text
    except (LookupError, ValueError):
        raise ValueError(f"there is no encoding {name!r}") from None
    return codecs.lookup(name).name


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FieldMapping(_Strict):
    """Where each figure stands in a record: a path such as `stock.levels[0].qty`.

    Both the names used here and those of the specification (`stockTotal`) are understood.
    """

    sku: Name
    total: Name = Field(validation_alias=AliasChoices("total", "stockTotal"))
    available: Name | None = Field(
        None, validation_alias=AliasChoices("available", "stockAvailable")
    )
    price: Name | None = None
    currency: Name | None = None
    status: Name | None = None
    warehouse: Name | None = None
    last_modified: Name | None = Field(
        None, validation_alias=AliasChoices("last_modified", "lastModified")
    )
    lot: Name | None = Field(None, validation_alias=AliasChoices("lot", "batchNumber"))


class ErpConfig(_Strict):
    """What an integration says about its source."""

    timezone: Annotated[str, AfterValidator(_zone)] = "Europe/Bucharest"
    """Of times that name no zone."""
    decimal: Literal[".", ","] = "."
    """Sign before the fraction, in texts. A dot unless set: see `docs/erp.md` for why."""
    thousands: Literal["", ".", ",", " ", "'"] | None = None
    """Sign between groups of three digits, "" for none. Unset: dot or space where the decimal sign
    is a comma, none where it is a dot. A space stands for the unbreakable ones as well."""
    columns: dict[str, Name | None] = {}
    """CSV_IMPORT: the header of each column by what it means; null where it is not to be used."""
    status_map: dict[str, Status] = {}
    """The source's words for a product's state; they come before those known by themselves."""
    vat: Literal["with", "without"] | None = None
    """OBLIO: prices are made such; unset, they stay as they come, some with and some without."""
    expired_lots: Literal["count", "zero"] = "count"
    """SAGA: whether lots whose day is over are stock, or none of it."""
    add_ordered: bool = False
    """SAP_B1: what is on order from vendors makes up for what is committed."""
    price_list: int | None = None
    """SAP_B1: which of the price lists counts. Unset, prices are unknown."""
    warehouses: tuple[Name, ...] | dict[Name, Name] | None = None
    """Which of the source's warehouses count; as an object with the names they have here."""
    warehouse: Name | None = None
    """The source's warehouse that a payload is of, where its rows name none."""
    company_currency: Currency | None = None
    """Currency of systems that keep their prices in one only."""
    currency_default: Currency | None = None
    """Currency of a price for which the source names none."""
    field_mapping: FieldMapping | None = None
    """CUSTOM_API, SENIOR, WIZCOUNT: where each figure stands in a record."""
    items_path: str | None = Field(None, max_length=200)
    """Where the list of records stands; "" where it is the payload itself."""
    delimiter: Literal[";", ",", "\t", "|"] | None = None
    """CSV_IMPORT: unset, it is found in the header line."""
    encoding: Annotated[str, AfterValidator(_codec)] = "cp1250"
    """CSV_IMPORT: code page of a file that is no Unicode."""
    sheet: Name | None = None
    """CSV_IMPORT: name of a workbook's sheet; unset, the first that is not hidden."""
    today: date | None = None
    """SAGA, SAP_B1: the day on which days are judged; unset, that of the parsing."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.thousands == self.decimal:
            raise ValueError("thousands and decimal must be different signs")
        for field in self.columns:
            if field not in COLUMNS:
                raise ValueError(f"columns: {field} is none of {', '.join(COLUMNS)}")
        for field in ("sku", "total"):
            if field in self.columns and self.columns[field] is None:
                raise ValueError(f"columns: {field} cannot be left out")
        named = self.warehouses.values() if isinstance(self.warehouses, dict) else ()
        if len(set(named)) < len(named):
            raise ValueError("warehouses: two of them would have the same name here")
        return self

    @cached_property
    def numbers(self) -> Numbers:
        """How numbers in texts are written."""
        if self.thousands is not None:
            return Numbers(self.decimal, (self.thousands,) if self.thousands else ())
        return Numbers(self.decimal, (".", *SPACES) if self.decimal == "," else ())

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        return ZoneInfo(self.timezone)

    @cached_property
    def states(self) -> dict[str, ProductStatus]:
        """`status_map` by comparable words."""
        return {column_key(word): status for word, status in self.status_map.items()}

    @cached_property
    def only_warehouse(self) -> str | None:
        """The source's warehouse that unnamed rows are of, if that is known."""
        if self.warehouse is None and self.warehouses is not None and len(self.warehouses) == 1:
            return next(iter(self.warehouses))
        return self.warehouse

    def day(self) -> date:
        """Return the day on which windows of validity are judged."""
        return self.today or datetime.now(self.zone).date()


def read_config(data: bytes | str | Mapping[str, Any]) -> ErpConfig:
    """Read a configuration, as JSON or as an object. Raises InvalidInputError naming the key."""
    try:
        given = json.loads(data) if isinstance(data, (bytes, str)) else data
    except (ValueError, RecursionError) as error:
        raise InvalidInputError("config", f"The configuration is not JSON: {error}") from None
    if not isinstance(given, Mapping):
        raise InvalidInputError("config", "The configuration must be a JSON object")
    try:
        return ErpConfig.model_validate(given)
    except ValidationError as error:
        faults = error.errors()
    # an unknown key is told first: most often it is the name of a missing one, misspelt
    fault = next((one for one in faults if one["type"] == "extra_forbidden"), faults[0])
    key = ".".join(map(str, fault["loc"])) or "config"
    if fault["type"] == "extra_forbidden":
        known = FieldMapping if fault["loc"][0] == "field_mapping" else ErpConfig
        names = ", ".join(known.model_fields)
        raise InvalidInputError(key, f"Configuration: unknown key {key}; there may be {names}")
    reason = fault["msg"].removeprefix("Value error, ")
    where = f"{key}: " if fault["loc"] else ""
    raise InvalidInputError(key, f"Configuration: {where}{reason}")
