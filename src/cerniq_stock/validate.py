"""From what a caller says to commands that mean something (§2.3, §3.3), or one clear sentence.

Quantities leave here with exactly three decimal places, so that `1` and `1.0` are the same
question. Whether the unit allows them is decided with the product at hand (`domain.reserve`).
"""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from hashlib import blake2b
from typing import Any, TypeVar
from uuid import UUID

from cerniq_stock.domain.commands import Item, OrderPart, Quantity
from cerniq_stock.domain.model import Unit
from cerniq_stock.errors import InvalidInputError

MAX_LINES = 100
MAX_ORDER_LINES = 5_000
MAX_QUANTITY = Decimal(10_000)
MAX_STOCK = Decimal(10_000_000_000)
MAX_ORDERED = Decimal(1_000_000_000)
MAX_HOURS = 168
MAX_SKU = 50
MAX_KEY = 100
MAX_NOTES = 500
MAX_NAME = 100
MAX_ROWS = 10_000
SHOWN = 80
"""Characters of a wrong value that its error repeats."""

PLAIN = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?")
"""A number as text. Python would also read `1_0`, other alphabets' digits and `Infinity`."""

_THOUSANDTH = Decimal("0.001")
_STATE = re.compile(r"[A-Z][A-Z_]{0,29}")
_ID = re.compile(r"[0-9A-Z]{26}")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


E = TypeVar("E", bound=StrEnum)


def storable(text: str) -> str:
    """Put U+FFFD for what no database takes of others' texts: NULs, halves of surrogate pairs."""
    if text.isascii() and "\0" not in text:
        return text  # nearly every one
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _shown(value: object) -> str:
    """Quote what came in, as far as it can be written and read."""
    try:
        told = repr(value)
    except ValueError:
        return f"{type(value).__name__} of too many digits"
    return told if len(told) <= SHOWN else told[: SHOWN - 1] + "…"


def text(field: str, value: object, *, most: int) -> str:
    """Accept a non-empty text of at most `most` characters that PostgreSQL can store."""
    if not isinstance(value, str) or not value:
        raise InvalidInputError(field, f"{field} must be a non-empty text")
    if len(value) > most:
        raise InvalidInputError(field, f"{field} has {len(value)} characters, at most {most}")
    if "\0" in value:
        raise InvalidInputError(field, f"{field} contains a NUL character")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InvalidInputError(field, f"{field} is not valid Unicode text")
    return value


def optional_text(field: str, value: str | None, *, most: int) -> str | None:
    """Like `text`, or None."""
    return None if value is None else text(field, value, most=most)


def sku(field: str, value: object) -> str:
    """Accept a SKU as people write it, without the blanks around it."""
    return text(field, value.strip() if isinstance(value, str) else value, most=MAX_SKU)


def made_id(field: str, value: object) -> str:
    """Accept an id that this engine made: of a run, a conflict, a movement."""
    known = value.strip() if isinstance(value, str) else ""
    if not _ID.fullmatch(known):
        raise InvalidInputError(
            field, f"{field} is not an id of 26 capital letters and digits: {_shown(value)}"
        )
    return known


def uuid(field: str, value: UUID | str) -> UUID:
    """Accept a UUID, as such or in text."""
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise InvalidInputError(field, f"{field} is not a UUID: {_shown(value)}") from None


def number(field: str, value: object, *, most: Decimal = MAX_STOCK) -> Decimal:
    """Accept an exact number with at most three decimal places, of either sign.

    Binary fractions are refused: they are not what their digits say.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        raise InvalidInputError(field, f"{field} must be an exact number, not {_shown(value)}")
    if isinstance(value, str) and not PLAIN.fullmatch(value):
        raise InvalidInputError(field, f"{field} is not a usable number: {_shown(value)}")
    try:
        quantity = Decimal(value)
        exact = quantity.quantize(_THOUSANDTH)
    except InvalidOperation:
        raise InvalidInputError(field, f"{field} is not a usable number: {_shown(value)}") from None
    if not quantity.is_finite():
        raise InvalidInputError(field, f"{field} is not a usable number: {_shown(value)}")
    if exact != quantity:
        raise InvalidInputError(field, f"{field} has more than three decimal places: {value}")
    if abs(exact) > most:
        raise InvalidInputError(field, f"{field} is more than {most}: {value}")
    return exact + 0  # no negative zero


def positive(field: str, value: object, *, most: Decimal = MAX_STOCK) -> Decimal:
    """Accept an exact number above zero."""
    quantity = number(field, value, most=most)
    if quantity <= 0:
        raise InvalidInputError(field, f"{field} must be above zero: {value}")
    return quantity


def hours(field: str, value: int) -> int:
    """Accept whole hours, 1 to 168 (§2.3)."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_HOURS:
        raise InvalidInputError(field, f"{field} must be a whole number from 1 to {MAX_HOURS}")
    return value


def rows(value: int) -> int:
    """Accept how many rows an answer may have."""
    if type(value) is not int or not 1 <= value <= MAX_ROWS:
        raise InvalidInputError("limit", f"limit must be a whole number from 1 to {MAX_ROWS:,}")
    return value


def choice(field: str, kind: type[E], value: object) -> E:
    """Accept a member of an enumeration, or its word."""
    if isinstance(value, kind):
        return value
    try:
        return kind(str(value))
    except ValueError:
        words = ", ".join(kind)
        raise InvalidInputError(field, f"{field} must be one of {words}: {_shown(value)}") from None


def state(field: str, value: str) -> str:
    """Accept the name of a negotiation's state: capital letters and underscores."""
    if not isinstance(value, str) or not _STATE.fullmatch(value):
        raise InvalidInputError(
            field, f"{field} must be a word in capital letters: {_shown(value)}"
        )
    return value


def items(
    lines: Iterable[Item], *, most: int = MAX_LINES, most_quantity: Decimal = MAX_QUANTITY
) -> tuple[Item, ...]:
    """Accept 1 to `most` lines: those of a reservation, unless told otherwise."""
    try:
        checked = tuple([_item(line, most_quantity) for line in lines])
    except (TypeError, AttributeError):
        raise InvalidInputError("items", "items must be a list of Item") from None
    if not 1 <= len(checked) <= most:
        raise InvalidInputError("items", f"{len(checked)} lines; there may be 1 to {most}")
    return checked


def _item(line: Item, most_quantity: Decimal) -> Item:
    sku = text("sku", line.sku, most=MAX_SKU)
    quantity = positive("quantity", line.quantity, most=most_quantity)
    product_id = None if line.product_id is None else uuid("productId", line.product_id)
    unit = None if line.unit is None else choice("unitOfMeasure", Unit, line.unit)
    return Item(sku, quantity, product_id, unit)


def quantities(
    amounts: Mapping[str, Decimal] | Iterable[Quantity] | None,
) -> tuple[Quantity, ...] | None:
    """Accept amounts by SKU for a partial release; None means everything."""
    if amounts is None:
        return None
    try:
        pairs = [_pair(x) for x in (amounts.items() if isinstance(amounts, Mapping) else amounts)]
    except (TypeError, ValueError):
        raise InvalidInputError("items", "items must be quantities by SKU") from None
    checked = tuple(
        Quantity(text("sku", sku, most=MAX_SKU), positive("quantity", quantity))
        for sku, quantity in pairs
    )
    if not 1 <= len(checked) <= MAX_LINES:
        raise InvalidInputError("items", f"{len(checked)} lines; there may be 1 to {MAX_LINES}")
    return checked


def order_parts(
    parts: Mapping[str, Decimal] | Iterable[OrderPart] | None,
) -> tuple[OrderPart, ...] | None:
    """Accept parts of an order, by SKU or by line; None means all there is."""
    if parts is None:
        return None
    if isinstance(parts, Mapping):
        parts = [OrderPart(quantity, sku) for sku, quantity in parts.items()]
    try:
        checked = tuple([_part(part) for part in parts])
    except (TypeError, AttributeError):
        raise InvalidInputError("items", "items must be parts of an order") from None
    if not 1 <= len(checked) <= MAX_ORDER_LINES:
        raise InvalidInputError(
            "items", f"{len(checked)} parts; there may be 1 to {MAX_ORDER_LINES}"
        )
    return checked


def _part(part: OrderPart) -> OrderPart:
    if part.sku is None and part.line_no is None:
        raise InvalidInputError("items", "each part must name a line or a SKU")
    line_no = part.line_no
    if line_no is not None and (type(line_no) is not int or line_no < 1):
        raise InvalidInputError(
            "lineNo", f"lineNo must be a whole number from 1: {_shown(line_no)}"
        )
    return OrderPart(
        positive("quantity", part.quantity),
        optional_text("sku", part.sku, most=MAX_SKU),
        line_no,
    )


def _pair(entry: Any) -> tuple[Any, Any]:
    if isinstance(entry, Quantity):
        return entry.sku, entry.quantity
    if isinstance(entry, str):
        raise TypeError(entry)
    sku, quantity = entry
    return sku, quantity


def fingerprint(*question: object) -> bytes:
    """Digest of everything that was asked, to tell a repeat from a reuse of its key."""
    return blake2b(repr(question).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def reserve_fingerprint(
    lines: tuple[Item, ...],
    negotiation: UUID,
    type_: str,
    priority: str,
    hours: int,
    replaces: str | None,
) -> bytes:
    """Do the same for a reservation, where the general way would be a tenth of all the work."""
    asked = [f"{x.sku}\0{x.quantity}\0{x.product_id}\0{x.unit}" for x in lines]
    asked += negotiation.hex, type_, priority, str(hours), replaces or ""
    return blake2b("\0".join(asked).encode(), digest_size=16).digest()
