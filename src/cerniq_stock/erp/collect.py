"""From one record's named values to a row, or to the remark that says why there is none.

The rules of every system: a quantity that is absent or unreadable is an error of its row, zero is
zero, a price that cannot be read is unknown, and what the source does not say stays unknown.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from cerniq_stock.domain.model import ZERO, ProductStatus
from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.rows import (
    Code,
    ErpRow,
    ErrorCode,
    Parsed,
    PayloadError,
    Remark,
    SkipCode,
    WarningCode,
)
from cerniq_stock.erp.text import (
    STATES,
    as_text,
    column_key,
    currency,
    looks_like_date,
    shown,
    sku_text,
    trimmed,
)
from cerniq_stock.erp.times import is_day, local_day, moment


class _Absent(Enum):
    ABSENT = "absent"


ABSENT: Final = _Absent.ABSENT
"""The source does not have this field at all; None is what it says with null."""

Named = tuple[str, Any]
"""The source's name of a field, and what stands there."""
NONE: Final[Named] = ("", ABSENT)


Place = tuple[str | None, str | None]
"""A warehouse, as it is named here, and a lot."""


def named(record: Mapping[str, Any], name: str) -> Named:
    """Return a field of a record with its name."""
    return name, record.get(name, ABSENT)


@dataclass(slots=True)
class Fields:
    """The values of one record, under the names of the source."""

    where: str
    sku: Named
    total: Named
    available: Named = NONE
    price: Named = NONE
    currency: Named = NONE
    status: Named = NONE
    warehouse: Named = NONE
    lot: Named = NONE
    modified: Named = NONE
    expires: Named = NONE


class Collector:
    """Gathers what one payload was understood as."""

    def __init__(self, config: ErpConfig) -> None:
        self.config = config
        self.rows: list[ErpRow] = []
        self._errors: list[Remark] = []
        self._warnings: list[Remark] = []
        self._skipped: list[Remark] = []
        self._states = STATES | config.states
        self._seen_states: dict[str, ProductStatus | None] = {}

    def parsed(self) -> Parsed:
        """Return everything so far, and begin anew."""
        done = Parsed(
            *(tuple(self.rows), tuple(self._errors)), *(tuple(self._warnings), tuple(self._skipped))
        )
        self.rows, self._errors, self._warnings, self._skipped = [], [], [], []
        return done

    def remark(
        self,
        code: Code,
        where: str,
        field: Named = NONE,
        sku: str | None = None,
        place: Place = (None, None),
    ) -> None:
        """Note something. `place` is the warehouse and the lot that an error concerns."""
        name, value = field
        raw = None if value is ABSENT else shown(value)
        remark = Remark(where, name or None, code, raw, sku, *place)
        if isinstance(code, ErrorCode):
            self._errors.append(remark)
        elif isinstance(code, WarningCode):
            self._warnings.append(remark)
        else:
            self._skipped.append(remark)

    # -- single values ----------------------------------------------------------------------

    def sku(self, where: str, field: Named) -> str | None:
        """Read a SKU; where there is none an error is noted and None returned."""
        name, value = field
        found = sku_text(None if value is ABSENT else value)
        if isinstance(found, ErrorCode):
            self.remark(found, where, (name, value))
            return None
        return found

    def total(self, where: str, field: Named, sku: str, place: Place) -> Decimal | None:
        """Read the quantity there is; None where it is no good."""
        if nothing(field[1]):
            self.remark(ErrorCode.MISSING_TOTAL, where, field, sku, place)
            return None
        return self.quantity(where, field, sku, place)

    def quantity(self, where: str, field: Named, sku: str, place: Place) -> Decimal | None:
        """Read a quantity that is there; null and "" are no numbers either."""
        number = self.config.numbers.quantity(field[1])
        if number is None:
            self.remark(ErrorCode.UNPARSEABLE_NUMBER, where, field, sku, place)
        return number

    def price(
        self, where: str, price: Named, unit: Named, sku: str
    ) -> tuple[Decimal | None, str | None]:
        """Read price and currency: nothing, or null, is an unknown price.

        A price in what is no currency is no price.
        """
        known = currency(unit[1])
        if nothing(price[1]):
            return None, known
        if known is None and not nothing(unit[1]):
            self.remark(WarningCode.UNPARSEABLE_PRICE, where, unit, sku)
            return None, None
        amount = self.config.numbers.price(price[1])
        if amount is None:
            self.remark(WarningCode.UNPARSEABLE_PRICE, where, price, sku)
            return None, known
        return amount, known or self.config.currency_default

    def status(self, value: object) -> ProductStatus | None:
        """Read a product's state; a word that nobody explained is unknown."""
        word = None if value is ABSENT else shown(value)
        if word is None:
            return None
        if word not in self._seen_states:
            self._seen_states[word] = self._states.get(column_key(word))
        return self._seen_states[word]

    def warehouse(self, value: object) -> tuple[str | None, bool]:
        """Return a warehouse's name here, and whether its rows count.

        Where rows name none it is the configured one.
        """
        name = as_text(value) or self.config.only_warehouse
        counting = self.config.warehouses
        if name is None or counting is None:
            return name, True
        if isinstance(counting, dict):
            return counting.get(name), name in counting
        return name, name in counting

    def modified(self, where: str, field: Named, sku: str) -> datetime | None:
        """Read the moment of the last change. A day alone is told, and its beginning taken."""
        if field[1] is ABSENT:
            return None
        found = moment(field[1], self.config.zone)
        if found is not None and is_day(field[1]):
            self.remark(WarningCode.UPDATE_TIME_MISSING_DATE_ONLY, where, field, sku)
        return found

    # -- records ----------------------------------------------------------------------------

    def add(self, fields: Fields) -> None:
        """Make a row of a record, or a remark."""
        sku = self.sku(fields.where, fields.sku)
        if sku is None:
            return
        warehouse, counts = self.warehouse(fields.warehouse[1])
        if not counts:
            return
        lot = as_text(fields.lot[1])
        place = warehouse, lot
        total = self.total(fields.where, fields.total, sku, place)
        if total is None:
            return
        available = None
        if fields.available[1] is not ABSENT:
            available = self.quantity(fields.where, fields.available, sku, place)
            if available is None:
                return
        if total > 0 and self._is_over(fields, sku) and self.config.expired_lots == "zero":
            total, available = ZERO, None if available is None else min(available, ZERO)
        if looks_like_date(sku):
            self.remark(WarningCode.SKU_LOOKS_LIKE_DATE, fields.where, fields.sku, sku)
        price, unit = self.price(fields.where, fields.price, fields.currency, sku)
        self.row(
            ErpRow(
                *(sku, total, available, price, unit, self.status(fields.status[1]), warehouse),
                *(self.modified(fields.where, fields.modified, sku), lot, fields.where),
            ),
            fields.available,
        )

    def _is_over(self, fields: Fields, sku: str) -> bool:
        """Tell whether the last day of goods has passed, and say so."""
        last = local_day(fields.expires[1], self.config.zone)
        if last is None or last >= self.config.day():
            return False
        self.remark(WarningCode.LOT_EXPIRED, fields.where, fields.expires, sku)
        return True

    def row(self, row: ErpRow, available: Named = NONE) -> None:
        """Take a row; more available than there is in all is told."""
        if row.available is not None and row.available > row.total:
            self.remark(WarningCode.AVAILABLE_GT_TOTAL, row.where, available, row.sku)
        self.rows.append(row)

    def skip(self, code: SkipCode, where: str, field: Named, sku: object = None) -> None:
        """Note what is rightly no row."""
        known = sku_text(sku)
        self.remark(code, where, field, None if isinstance(known, ErrorCode) else known)


def records(
    values: list[Any], path: str, collector: Collector
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the records of a list with their paths; what is no object is an error of its own."""
    for number, value in enumerate(values):
        where = f"{path}[{number}]"
        if isinstance(value, dict):
            yield where, value
        else:
            collector.remark(ErrorCode.MISSING_SKU, where, ("", value))


def the_list(payload: object, key: str, system: str) -> list[Any]:
    """Return the list of an envelope. Raises PayloadError where there is none."""
    if isinstance(payload, dict):
        found = payload.get(key)
        if isinstance(found, list):
            return found
        error = payload.get("error")
        if error:
            raise PayloadError(f"{system} answered with an error: {_told(error)}")
    raise PayloadError(f"This is no answer of {system}: there is no list named {key!r}")


def _told(error: object) -> str:
    """The sentence of an error body; OData has it one or two levels down."""
    for key in ("message", "value"):
        if isinstance(error, dict) and error.get(key):
            error = error[key]
    return shown(error) or "without a word"


def nothing(value: object) -> bool:
    """Tell whether a field is absent, null or empty."""
    return value is ABSENT or value is None or (isinstance(value, str) and not trimmed(value))
