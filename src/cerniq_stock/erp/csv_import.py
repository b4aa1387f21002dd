"""Tables from merchants: CSV in any usual encoding, and XLSX. They are read as a stream.

A cell means what the configuration says, and never what its neighbours suggest: the delimiter is
found in the header line only, the decimal sign is a setting.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cerniq_stock.erp import xlsx
from cerniq_stock.erp.collect import NONE, Collector, Fields, Named, nothing
from cerniq_stock.erp.config import COLUMNS, ErpConfig
from cerniq_stock.erp.csv_text import HEADER_WITHIN, CsvLines
from cerniq_stock.erp.header import Header, header_of, keys_of, known_columns
from cerniq_stock.erp.rows import ErrorCode, Parsed, PayloadError, SkipCode
from cerniq_stock.erp.text import (
    as_text,
    column_key,
    on_one_line,
    plain_letters,
    sku_text,
    trimmed,
)
from cerniq_stock.erp.times import moment

CHUNK = 1_000
"""Lines that are understood at a time."""

_TOTALS = frozenset({"total", "totalgeneral", "subtotal", "totaluri", "grandtotal"})
_TOTAL = re.compile(
    r"[\W_]*(?:(?:sub|grand)[\W_]*)?t(?:otal(?:ul|uri|urile|e|s)?| o t a l)(?![^\W\d_])"
)
"""How a cell begins that tells of a sum. These are whole words: a `totalizator` is an article."""
_FORMULA = re.compile(r'\s*="([^"]*)"\s*')
"""How a CSV file tells spreadsheets to leave a text alone: `="00123"`."""
_HEAD = 512

Line = tuple[int, list[Any] | None]


def parse_file(path: Path | str, config: ErpConfig, name: str | None = None) -> Iterator[Parsed]:
    """Yield what each thousand lines of a file mean, so that only so many are in memory.

    `where` is the number of the line, or of the sheet's row. Duplicates are for `gather`, or for
    whoever stores the rows. Raises PayloadError for a file that cannot be read, at its start or
    anywhere: what was yielded before is no whole answer then, and must not be taken for one. `name`
    is what the file was called before it was copied to `path`.
    """
    path = Path(path)
    source = _source(path, config, name or path.name)
    lines = iter(source)
    collector = Collector(config)
    header = None
    before = _until_header(lines, config)
    for number, cells, found in before:
        header = found
        if found is None:
            blank = not any(map(_filled, cells or ()))
            _skip(collector, SkipCode.BLANK_LINE if blank else SkipCode.TITLE_LINE, number, cells)
    assert header is not None
    reader = _Reader(collector, header, source if isinstance(source, CsvLines) else None)
    count = 0
    for count, (number, cells) in enumerate(lines, 1):
        reader.line(str(number), cells)
        if count % CHUNK == 0:
            yield collector.parsed()
    if count % CHUNK or not count:
        yield collector.parsed()


def _source(path: Path, config: ErpConfig, name: str) -> CsvLines | Iterator[Line]:
    """Open a file as what its first bytes say it is."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise PayloadError(f"The file cannot be read: {error.strerror}") from None
    if not head:
        raise PayloadError("The file is empty")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise PayloadError("The file is a web page or XML, not a table")
    if xlsx.is_workbook(head):
        return xlsx.rows(path, config)
    if name.lower().endswith(xlsx.NAMED):
        raise PayloadError("The file is named like a workbook, but this is no workbook")
    return CsvLines(path, config)


def _until_header(
    lines: Iterator[Line], config: ErpConfig
) -> Iterator[tuple[int, list[Any] | None, Header | None]]:
    """Yield the lines up to the header, which is the last of them."""
    nearest, likeness = None, 0
    for _ in range(HEADER_WITHIN):
        line = next(lines, None)
        if line is None:
            break
        number, cells = line
        found = header_of(cells or (), config)
        yield number, cells, found
        if found is not None:
            return
        if (known := known_columns(cells or (), config)) > likeness:
            nearest, likeness = line, known
    seen = ""
    if nearest is not None:
        names = ", ".join(filter(None, map(as_text, nearest[1] or ())))
        seen = f"; line {nearest[0]} has {on_one_line(names[:200])}"
    raise PayloadError(
        f"There is no header with a SKU and one figure of stock in the first"
        f" {HEADER_WITHIN} lines{seen}; name the columns with columns"
    )


def _skip(collector: Collector, code: SkipCode, number: int | str, cells: list[Any] | None) -> None:
    text = " ".join(filter(None, map(as_text, cells or ())))
    collector.skip(code, str(number), ("", text))


def _miscounted(cells: list[Any], width: int) -> bool:
    """Tell whether cells are missing or too many; delimiters at the end of a line are none."""
    return len(cells) < width or any(map(_filled, cells[width:]))


def _filled(cell: Any) -> bool:
    return cell is not None and (not isinstance(cell, str) or bool(trimmed(cell)))


class _Reader:
    """Understands the lines below a header."""

    def __init__(self, collector: Collector, header: Header, csv: CsvLines | None) -> None:
        self._collector = collector
        self._header = header
        self._csv = csv  # rows of sheets have no ends of their own
        self._places = [header.places.get(field) for field in COLUMNS]
        self._sku = header.places["sku"][0]
        self._starts = {key[0] for key in (*_TOTALS, header.keys[self._sku])}

    def line(self, where: str, cells: list[Any] | None) -> None:
        """Make a row of a line, or a remark."""
        collector, width = self._collector, self._header.width
        if self._csv is None and cells is not None and len(cells) < width:
            cells = [*cells, *[None] * (width - len(cells))]
        if cells is not None and self._is_no_row(where, cells):
            return
        if self._csv is not None and (cells is None or _miscounted(cells, width)):
            self._wrong_count(where, self._csv.loose() if cells is None else cells)
        elif cells is not None:
            collector.add(self._fields(where, cells))

    def _wrong_count(self, where: str, cells: list[Any]) -> None:
        """Note a line that is no row, with what can still be read of whose it is.

        So that its stock is left alone: the other lots are no sum, and it is not missing either.
        """
        assert self._csv is not None
        collector, error = self._collector, ErrorCode.WRONG_FIELD_COUNT
        raw = self._csv.raw.rstrip("\r\n")
        missing = max(self._header.width - len(cells), 0)
        sku, *_, warehouse, _, lot = self._named([*cells, *[None] * missing])
        known = sku_text(sku[1])
        if isinstance(known, ErrorCode):
            collector.remark(error, where, ("", raw))
            return
        name, counts = collector.warehouse(warehouse[1])
        if not counts:  # cells may be shifted: it need not be another warehouse's
            name, _ = collector.warehouse(None)
        collector.remark(error, where, ("", raw), known, (name, as_text(lot[1])))

    def _is_no_row(self, where: str, cells: list[Any]) -> bool:
        """Skip blank lines, totals, and the header when it comes again."""
        sku = cells[self._sku] if self._sku < len(cells) else None
        if not nothing(sku):
            if not isinstance(sku, str) or sku[:1].casefold() not in self._starts:
                return False  # nearly every line
            key = column_key(sku)
            if key in _TOTALS:
                code = SkipCode.TOTALS_LINE
            elif key == self._header.keys[self._sku] and keys_of(cells) == self._header.keys:
                code = SkipCode.TITLE_LINE
            else:
                return False
        elif not any(map(_filled, cells)):
            code = SkipCode.BLANK_LINE
        elif any(isinstance(cell, str) and _tells_total(cell) for cell in cells):
            code = SkipCode.TOTALS_LINE
        else:
            return False
        _skip(self._collector, code, where, cells)
        return True

    def _fields(self, where: str, cells: list[Any]) -> Fields:
        sku, total, available, price, currency, status, warehouse, modified, lot = self._named(
            cells
        )
        return Fields(
            *(where, sku, total, available, price, currency, status, warehouse, lot),
            modified if modified is NONE else self._moment(modified),
        )

    def _named(self, cells: list[Any]) -> list[Named]:
        """Find the cells of all fields, in the order of `COLUMNS`."""
        found = [NONE if place is None else (place[1], cells[place[0]]) for place in self._places]
        name, sku = found[0]
        if isinstance(sku, str) and (text := _FORMULA.fullmatch(sku)):
            found[0] = name, text[1]
        return found

    def _moment(self, field: Named) -> Named:
        """Read a moment here, so that days alone, which tables usually have, are not told."""
        return field[0], moment(field[1], self._collector.config.zone)


def _tells_total(cell: str) -> bool:
    return _TOTAL.match(plain_letters(cell)) is not None
