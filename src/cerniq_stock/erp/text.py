"""Texts of other people's systems: SKUs, header names, currencies, states."""

import json
import re
import unicodedata
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from cerniq_stock.domain.model import ProductStatus
from cerniq_stock.erp.rows import ErrorCode
from cerniq_stock.validate import MAX_SKU, storable

SHOWN = 80
"""Characters of an offending text that a remark repeats."""
EXACT_DIGITS = 15
"""Digits of a number that spreadsheets and binary fractions keep."""

_OUTER: Final = "".join(
    [
        *(chr(code) for code in range(0x21) if chr(code).isspace() or code == 0),
        "\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a",
        "\u200b\u2028\u2029\u202f\u205f\u3000\ufeff",
    ]
)
"""Blanks, unbreakable ones, the padding of CHAR columns, and marks that nobody sees."""
_SCIENTIFIC = re.compile(r"[0-9][.,][0-9]+[Ee][+-]?[0-9]{1,3}|[0-9]+[Ee]\+[0-9]{2,3}")
_MONTH = r"(?:ian|jan|feb|mar|apr|mai|may|iun|jun|iul|jul|aug|sept?|oct|noi|nov|dec)\.?"
_DAY = "(?:0?[1-9]|[12][0-9]|3[01])"
_DATE = re.compile(
    rf"{_DAY}[- ]{_MONTH}(?:[- ][0-9]{{2,4}})?"
    rf"|{_MONTH}[- ][0-9]{{2,4}}"
    rf"|{_DAY}([./-]){_DAY}\1(?:[0-9]{{2}}|[0-9]{{4}})"
    rf"|[12][0-9]{{3}}([./-])(?:0[1-9]|1[0-2])\2{_DAY}(?:T?[ 0-9:.]+)?",
    re.IGNORECASE,
)
_CEDILLAS: Final = str.maketrans("şţŞŢ", "șțȘȚ")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_NOT_IN_KEY = re.compile(r"[\s._\-:*\u200b\ufeff]+")

STATES = {
    **dict.fromkeys(("a", "activ", "active", "enabled", "on"), ProductStatus.ACTIVE),
    **dict.fromkeys(("i", "inactiv", "inactive", "disabled", "off"), ProductStatus.INACTIVE),
    **dict.fromkeys(
        ("d", "dezactivat", "discontinued", "obsolete", "deleted"), ProductStatus.DISCONTINUED
    ),
}
"""Words for a product's state that need no `status_map`."""


def trimmed(text: str) -> str:
    """Take away what surrounds a text and put it into the composed form (NFC)."""
    text = text.strip(_OUTER)
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def on_one_line(text: str) -> str:
    """Return a text as it can stand in a sentence: storable, without line breaks and the like."""
    return storable(_CONTROL.sub(" ", text).strip())


def shown(value: object) -> str | None:
    """Write an offending value as it came, shortened and storable; None where there was nothing."""
    match value:
        case None:
            return None
        case bool():
            text = "true" if value else "false"
        case str():
            text = value
        case int():
            text = str(value) if value.bit_length() < SHOWN * 8 else "a number of too many digits"
        case datetime() | date():
            text = value.isoformat()
        case list() | dict():
            text = json.dumps(value, ensure_ascii=False, default=str)
        case _:
            text = str(value)
    return storable(text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…")


def as_text(value: object) -> str | None:
    """Return a name or number as trimmed, storable text; None for nothing, and what is neither."""
    if isinstance(value, str):
        return storable(trimmed(value)) or None
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    return shown(int(value) if isinstance(value, float) and value.is_integer() else value)


def sku_text(value: object) -> str | ErrorCode:
    """Return a SKU as text, or why it is none. Leading zeros stay; nothing becomes a number.

    Whole numbers of JSON are exact. Others, and those of spreadsheets, are as long as they have no
    fraction and at most fifteen digits.
    """
    match value:
        case str():
            text = trimmed(value)
        case bool():
            return ErrorCode.UNUSABLE_SKU
        case int():
            text = str(value) if value.bit_length() < MAX_SKU * 4 else "9" * (MAX_SKU + 1)
        case Decimal() | float():
            return _sku_of_number(Decimal(value))
        case datetime() | date():
            text = value.isoformat().removesuffix("T00:00:00")
        case None:
            return ErrorCode.MISSING_SKU
        case _:
            return ErrorCode.UNUSABLE_SKU
    return _usable(text)


def _usable(text: str) -> str | ErrorCode:
    if not text:
        return ErrorCode.MISSING_SKU
    if len(text) > MAX_SKU or "\0" in text:
        return ErrorCode.UNUSABLE_SKU
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        return ErrorCode.UNUSABLE_SKU
    return ErrorCode.SKU_SCIENTIFIC_NOTATION if _SCIENTIFIC.fullmatch(text) else text


def _sku_of_number(number: Decimal) -> str | ErrorCode:
    if not number.is_finite():
        return ErrorCode.UNUSABLE_SKU
    if "E+" in str(number):
        return ErrorCode.SKU_SCIENTIFIC_NOTATION
    if number.adjusted() >= EXACT_DIGITS or number != number.to_integral_value():
        return ErrorCode.SKU_PRECISION_LOST
    return str(int(number))


def looks_like_date(sku: str) -> bool:
    """Tell whether a spreadsheet may have made a day of this SKU: `10-mar.`, `2026-03-10`.

    `MAR-10` in capitals is what it would have been before.
    """
    return len(sku) >= 5 and bool(_DATE.fullmatch(sku)) and not (sku.isupper() and sku[0].isalpha())


def sku_key(sku: str) -> str:
    """Return a SKU as it is compared: old letters with a cedilla equal those with a comma below."""
    return sku if sku.isascii() else sku.translate(_CEDILLAS)


def column_key(text: str) -> str:
    """Return a name as headers are compared: without case, diacritics, spaces, dots and dashes."""
    return _NOT_IN_KEY.sub("", plain_letters(text))


def plain_letters(text: str) -> str:
    """Return a text without case and diacritics."""
    letters = unicodedata.normalize("NFKD", text).casefold()
    return "".join(x for x in letters if not unicodedata.combining(x))


def currency(value: object) -> str | None:
    """Return a currency's three letters (`lei` is RON); None for anything else."""
    text = trimmed(value).upper() if isinstance(value, str) else ""
    if len(text) != 3 or not (text.isascii() and text.isalpha()):
        return None
    return "RON" if text == "LEI" else text
