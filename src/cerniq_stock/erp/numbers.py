"""Numbers of other people's systems, exactly, or not at all.

A text is read whole or refused: `12 buc`, `1e3` and `5-` are no numbers. How `1.234` is meant
depends on the configured decimal sign and on nothing else, so that two cells of one file are never
read in two ways. JSON numbers are exact already; a binary number (XLSX) counts with the fifteen
digits that spreadsheets show.
"""

import re
from decimal import Decimal
from functools import cache

from cerniq_stock.validate import MAX_STOCK

SPACES = (" ", "\u00a0", "\u202f")
MAX_PRICE = Decimal(10) ** 10
"""What the catalogue can store: below this."""

_THOUSANDTH = Decimal("0.001")
_PRICE_PLACES = 12


@cache
def grammar(decimal: str, thousands: tuple[str, ...]) -> re.Pattern[str]:
    """Return the pattern of a number: digits in one piece, or in threes with one and the same sign.

    ASCII digits only: a class of all digits would take those of other alphabets.
    """
    pieces = ["[0-9]+"]
    if thousands:
        signs = "".join(map(re.escape, thousands))
        pieces.insert(0, rf"[0-9]{{1,3}}(?:([{signs}])[0-9]{{3}}(?:\1[0-9]{{3}})*)?")
    return re.compile(rf"[+-]?(?:{'|'.join(pieces)})(?:{re.escape(decimal)}[0-9]+)?")


class Numbers:
    """How the numbers of one source are written.

    `decimal` is `.` or `,`. `thousands` are the signs between groups of three digits; a space
    stands for the unbreakable ones as well.
    """

    __slots__ = ("_pattern", "_table")

    def __init__(self, decimal: str, thousands: tuple[str, ...]) -> None:
        signs = tuple(dict.fromkeys(thousands + (SPACES if " " in thousands else ())))
        self._pattern = grammar(decimal, signs)
        self._table = str.maketrans({decimal: ".", **dict.fromkeys(signs)})

    def read(self, value: object) -> Decimal | None:
        """Read a number, or return None. Booleans are none, NaN and Infinity neither."""
        if isinstance(value, str):
            text = value.strip()
            return Decimal(text.translate(self._table)) if self._pattern.fullmatch(text) else None
        if isinstance(value, bool) or not isinstance(value, (int, Decimal, float)):
            return None
        number = Decimal(f"{value:.15g}") if isinstance(value, float) else Decimal(value)
        return number if number.is_finite() else None

    def quantity(self, value: object) -> Decimal | None:
        """Read a quantity of at most three decimal places within the engine's limit, or None.

        Zeros after the third place do not count: `12.0000` is 12.
        """
        number = self.read(value)
        if number is None or (number and number.adjusted() > MAX_STOCK.adjusted()):
            return None
        exact = number.quantize(_THOUSANDTH)
        if exact != number or abs(exact) > MAX_STOCK:
            return None
        return exact + 0  # no negative zero

    def price(self, value: object) -> Decimal | None:
        """Read a price: not below zero, and one that the catalogue can store; else None."""
        number = self.read(value)
        if number is None or number < 0 or number >= MAX_PRICE:
            return None
        exact = number.normalize() + 0
        exponent = exact.as_tuple().exponent
        return exact if isinstance(exponent, int) and exponent >= -_PRICE_PLACES else None
