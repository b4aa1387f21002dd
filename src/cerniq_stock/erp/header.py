"""Which column of a table means what.

Names are compared without case, diacritics, spaces, dots and dashes. Where two columns may be meant
nothing is chosen: the configuration has to say it with `columns`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cerniq_stock.erp.config import COLUMNS, ErpConfig
from cerniq_stock.erp.rows import PayloadError
from cerniq_stock.erp.text import as_text, column_key

_ALIASES: dict[str, tuple[str, ...]] = {
    "sku": ("sku", "cod", "cod articol", "cod produs", "cod intern", "product code"),
    # one figure of stock, whatever it is called; which is the total is not guessed
    "total": (
        *("total", "stoc", "stoc curent", "stoc total", "cantitate", "cant", "cantitate totală"),
        *("disponibil", "stoc disponibil", "cantitate disponibilă"),
        *("stock", "stock total", "quantity", "qty"),
    ),
    "available": ("available", "stock available"),
    "price": (
        *("preț", "preț vânzare", "preț de vânzare", "preț cu TVA", "preț vânzare cu TVA"),
        *("preț fără TVA", "price"),
    ),
    "currency": ("monedă", "moneda", "valută", "valuta", "currency"),
    "status": ("stare", "status"),
    "warehouse": ("gestiune", "cod gestiune", "depozit", "warehouse"),
    "last_modified": ("data modificare", "data modificării", "ultima modificare", "last modified"),
    "lot": ("lot",),
}
_BARCODES = frozenset(map(column_key, ("ean", "cod EAN", "cod bare", "cod de bare", "barcode")))
"""They are the SKU where nothing else is."""
_FIELDS = {column_key(name): field for field, names in _ALIASES.items() for name in names}


@dataclass(frozen=True, slots=True)
class Header:
    """Where each field stands: its column's number and name. `width` counts the named columns."""

    places: dict[str, tuple[int, str]]
    keys: tuple[str, ...]

    @property
    def width(self) -> int:
        """How many columns there are, without those after the last that has a name."""
        return len(self.keys)


def keys_of(cells: Sequence[Any]) -> tuple[str, ...]:
    """Return the comparable names of a line's cells, without the empty ones at its end."""
    keys = [column_key(as_text(cell) or "") for cell in cells]
    while keys and not keys[-1]:
        keys.pop()
    return tuple(keys)


def known_columns(cells: Sequence[Any], config: ErpConfig) -> int:
    """Count the cells that name a column: how much like a header a line is."""
    wanted = {column_key(name) for name in config.columns.values() if name is not None}
    return sum(key in wanted or key in _FIELDS or key in _BARCODES for key in keys_of(cells))


def header_of(cells: Sequence[Any], config: ErpConfig) -> Header | None:
    """Read a header; None where the line has no SKU or no stock among its cells.

    Raises PayloadError where two columns may mean the same, or a configured one is missing.
    """
    keys = keys_of(cells)
    found = _candidates(keys, config)
    if not found["sku"] or not found["total"]:
        return None
    places = {}
    for field, numbers in found.items():
        if len(numbers) > 1:
            names = " and ".join(repr(as_text(cells[number])) for number in numbers)
            raise PayloadError(f"The columns {names} may both be {field}; say which with columns")
        if numbers:
            places[field] = numbers[0], as_text(cells[numbers[0]]) or ""
        elif name := config.columns.get(field):
            raise PayloadError(f"The header has no column {name!r}, which columns names as {field}")
    return Header(places, keys)


def _candidates(keys: tuple[str, ...], config: ErpConfig) -> dict[str, list[int]]:
    """The columns that may mean each field. What `columns` names means nothing else."""
    named = {field: name and column_key(name) for field, name in config.columns.items()}
    taken = set(named.values())
    found: dict[str, list[int]] = {field: [] for field in COLUMNS}
    for number, key in enumerate(keys):
        field = None if key in taken else _FIELDS.get(key)
        if field is not None and field not in named:
            found[field].append(number)
        for field in (field for field, wanted in named.items() if wanted == key):
            found[field].append(number)
    if not found["sku"] and "sku" not in named:
        found["sku"] = [number for number, key in enumerate(keys) if key in _BARCODES - taken]
    return found
