"""Products from a CSV file. What cannot be read is named by line and column; nothing is guessed."""

import csv
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NoReturn

from cerniq_stock import validate
from cerniq_stock.domain.model import ProductStatus, Unit
from cerniq_stock.errors import InvalidInputError

REQUIRED = ("sku", "name")
CENT_OF_A_CENT = Decimal("0.0001")


@dataclass(frozen=True)
class Row:
    """One product as the file has it; what is absent or empty is not in `values`."""

    line: int
    values: dict[str, Any]


def read_products(name: str) -> list[Row]:
    """Read a file, or stdin for `-`. Raises InvalidInputError."""
    rows = _rows(_text(name))
    columns = _header(rows)
    products = [_product(columns, line, cells) for line, cells in rows if any(cells)]
    _refuse_twice(products)
    return products


def _text(name: str) -> str:
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError("file", f"{name} cannot be read: {reason}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        _fail(line, None, "the file is not UTF-8 text")


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with the number of the line it begins on: a quoted cell may span several."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for cells in reader:
            yield line, [cell.strip() for cell in cells]
            line = reader.line_num + 1
    except csv.Error as error:
        _fail(line, None, f"this is no CSV: {error}")


def _header(rows: Iterator[tuple[int, list[str]]]) -> list[str]:
    line, cells = next(rows, (1, []))
    columns = [cell.lower() for cell in cells]
    for column in columns:
        if column not in CELLS:
            _fail(line, column, f"no such column; there may be {', '.join(CELLS)}")
        if columns.count(column) > 1:
            _fail(line, column, "the column stands twice")
    for column in REQUIRED:
        if column not in columns:
            _fail(line, column, "the header lacks this column")
    return columns


def _product(columns: list[str], line: int, cells: list[str]) -> Row:
    if len(cells) != len(columns):
        _fail(line, None, f"{len(cells)} cells under {len(columns)} columns")
    values = {}
    for column, cell in zip(columns, cells, strict=True):
        if cell or column in REQUIRED:
            try:
                values[column] = CELLS[column](cell)
            except (ValueError, InvalidOperation, InvalidInputError) as error:
                reason = error if isinstance(error, InvalidInputError) else f"unusable: {cell!r}"
                _fail(line, column, str(reason))
    return Row(line, values)


def _refuse_twice(products: list[Row]) -> None:
    seen: dict[str, int] = {}
    for row in products:
        sku = row.values["sku"]
        if sku in seen:
            _fail(row.line, "sku", f"{sku} stands in line {seen[sku]} already")
        seen[sku] = row.line


def _fail(line: int, column: str | None, reason: str) -> NoReturn:
    where = f"line {line}" if column is None else f"line {line}, column {column}"
    raise InvalidInputError(column or "file", f"{where}: {reason}")


def _price(cell: str) -> Decimal:
    price = Decimal(cell)
    if not price.is_finite() or not 0 <= price < 10**10:
        raise InvalidInputError("price", f"price must be from 0 to below 10000000000: {cell}")
    if price != price.quantize(CENT_OF_A_CENT):
        raise InvalidInputError("price", f"price has more than four decimal places: {cell}")
    return price


def _points(column: str) -> Callable[[str], Decimal]:
    def read(cell: str) -> Decimal:
        number = validate.number(column, cell)
        if number < 0:
            raise InvalidInputError(column, f"{column} must not be below zero: {cell}")
        return number

    return read


CELLS: dict[str, Callable[[str], Any]] = {
    "sku": lambda cell: validate.text("sku", cell, most=validate.MAX_SKU),
    "name": lambda cell: validate.text("name", cell, most=200),
    "unit": lambda cell: validate.choice("unit", Unit, cell.upper()),
    "status": lambda cell: validate.choice("status", ProductStatus, cell.upper()),
    "price": _price,
    "currency": lambda cell: validate.text("currency", cell.upper(), most=3),
    "reorder_point": _points("reorder_point"),
    "reorder_quantity": _points("reorder_quantity"),
    "expected_restock_date": date.fromisoformat,
}
"""How each column is read. The names are those of the products' table."""
