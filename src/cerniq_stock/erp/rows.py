"""What every parser returns, whatever the system: rows, and remarks where there is none."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from cerniq_stock.domain.model import ProductStatus
from cerniq_stock.errors import CerniqError


class SystemName(StrEnum):
    """The systems that goods are known to."""

    SAGA = "SAGA"
    SENIOR = "SENIOR"
    WIZCOUNT = "WIZCOUNT"
    SAP_B1 = "SAP_B1"
    MICROSOFT_BC = "MICROSOFT_BC"
    OBLIO = "OBLIO"
    CUSTOM_API = "CUSTOM_API"
    CSV_IMPORT = "CSV_IMPORT"


class ErrorCode(StrEnum):
    """Why there is no row; the last known stock stays as it is."""

    MISSING_SKU = "MISSING_SKU"
    """No SKU, or nothing in it."""
    UNUSABLE_SKU = "UNUSABLE_SKU"
    """Longer than 50 characters, with a NUL in it, or neither text nor number."""
    SKU_SCIENTIFIC_NOTATION = "SKU_SCIENTIFIC_NOTATION"
    """`5,94E+12`: a spreadsheet has lost the digits."""
    SKU_PRECISION_LOST = "SKU_PRECISION_LOST"
    """A binary number of more than 15 digits, or with a fraction."""
    MISSING_TOTAL = "MISSING_TOTAL"
    """The quantity is absent, null or empty. It is never taken for 0."""
    UNPARSEABLE_NUMBER = "UNPARSEABLE_NUMBER"
    """A quantity that is none, has more than three decimal places or exceeds the engine's limit."""
    CONFLICTING_DUPLICATE = "CONFLICTING_DUPLICATE"
    """The same SKU, warehouse and lot with other figures; every row of them is dropped."""
    WRONG_FIELD_COUNT = "WRONG_FIELD_COUNT"
    """A line with more or fewer cells than the header, or with a misplaced quote."""


class WarningCode(StrEnum):
    """What to look at; the row stays."""

    AVAILABLE_GT_TOTAL = "AVAILABLE_GT_TOTAL"
    IDENTICAL_DUPLICATE = "IDENTICAL_DUPLICATE"
    """The row is there already, with the same figures; there is one of it now."""
    SKU_DIFFERS_ONLY_BY_CASE = "SKU_DIFFERS_ONLY_BY_CASE"
    SKU_LOOKS_LIKE_DATE = "SKU_LOOKS_LIKE_DATE"
    """`10-mar.`: a spreadsheet may have taken `MAR-10` for a day."""
    LOT_EXPIRED = "LOT_EXPIRED"
    """There are goods whose day is over; `expired_lots` says whether they count."""
    STOCKABLE_WITHOUT_STOCK_ROWS = "STOCKABLE_WITHOUT_STOCK_ROWS"
    """Goods of which the answer names no stock at all; there is no row."""
    UNPARSEABLE_PRICE = "UNPARSEABLE_PRICE"
    """The price cannot be read; it is unknown then."""
    UPDATE_TIME_MISSING_DATE_ONLY = "UPDATE_TIME_MISSING_DATE_ONLY"
    """Only the day of the last change is known; its beginning is taken."""


class SkipCode(StrEnum):
    """What is rightly no row."""

    BLANK_LINE = "BLANK_LINE"
    TITLE_LINE = "TITLE_LINE"
    """A line before the header, or the header once more."""
    TOTALS_LINE = "TOTALS_LINE"
    NOT_STOCKABLE = "NOT_STOCKABLE"
    """A service, or goods that are not kept in stock."""


Code = ErrorCode | WarningCode | SkipCode


@dataclass(frozen=True, slots=True)
class ErpRow:
    """Stock of one product in one warehouse (and lot), as the ERP says.

    `total` and `available` are in the ERP's unit with at most three decimal places, and may be
    negative. `available` is None where the source knows no reservations. `price` is per unit in
    `currency`. `warehouse` is None where the source knows none. `last_modified` is in UTC. `where`
    is the path in the payload, or the number of the line.
    """

    sku: str
    total: Decimal
    available: Decimal | None = None
    price: Decimal | None = None
    currency: str | None = None
    status: ProductStatus | None = None
    warehouse: str | None = None
    last_modified: datetime | None = None
    lot: str | None = None
    where: str = ""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about one place of a payload.

    `field` is the source's own name, `raw` what stood there, shortened. `warehouse` and `lot` tell
    whose stock an error leaves alone; they are not shown.
    """

    where: str
    field: str | None
    code: Code
    raw: str | None
    sku: str | None
    warehouse: str | None = None
    lot: str | None = None


@dataclass(frozen=True, slots=True)
class Parsed:
    """What one page, or a chunk of a file, was understood as."""

    rows: tuple[ErpRow, ...] = ()
    errors: tuple[Remark, ...] = ()
    warnings: tuple[Remark, ...] = ()
    skipped: tuple[Remark, ...] = ()


class PayloadError(CerniqError):
    """The payload as a whole is not what the system answers; no row of it is known.

    It is never an empty answer. Over a network it may pass: another try may get a better one.
    """

    code = "BAD_PAYLOAD"
    retryable = True


class AnnouncementError(PayloadError):
    """A webhook's payload is not what the system sends, and will not be when it is read again."""

    retryable = False
