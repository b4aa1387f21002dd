"""From bytes to a decoded JSON value, or one sentence about why it is none."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from cerniq_stock.erp.rows import PayloadError
from cerniq_stock.erp.text import shown


def decode(data: bytes) -> Any:
    """Decode JSON with exact numbers (`Decimal` for fractions and exponents).

    A byte-order mark is taken away: old versions of Business Central send one. Raises PayloadError
    for what is empty, HTML, no UTF-8, no JSON, too deep, or has NaN or Infinity in it.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PayloadError(f"The payload is not UTF-8 text: byte {error.start}") from None
    begin = text.lstrip()[:200]
    if not begin:
        raise PayloadError("The payload is empty")
    if begin.startswith("<"):
        raise PayloadError(f"The payload is a web page or XML, not JSON: {shown(begin)}")
    try:
        return json.loads(text, parse_float=fraction, parse_int=whole, parse_constant=_refuse)
    except RecursionError:
        raise PayloadError("The payload is nested too deeply") from None
    except ValueError as error:
        raise PayloadError(f"The payload is not JSON: {error}") from None


def fraction(text: str) -> Decimal | str:
    """Read a fraction exactly; one of an impossible exponent stays text, which is no number."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


def whole(text: str) -> int | str:
    """Read a whole number; one of more digits than Python reads (4,300) stays text.

    As a text it is as unusable, a quantity too large and a SKU too long, but so is its row only.
    """
    try:
        return int(text)
    except ValueError:
        return text


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")
