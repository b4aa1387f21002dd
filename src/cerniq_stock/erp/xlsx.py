"""The rows of a workbook's sheet, one by one, with the values as they are stored.

Numbers are binary there, with the fifteen digits that spreadsheets keep. Formulas count with the
result stored beside them; without one the cell is empty.
"""

import re
import warnings
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.rows import PayloadError
from cerniq_stock.erp.text import on_one_line

MAX_BYTES = 256 << 20
"""Of everything in a workbook, unpacked."""
MAX_RATIO = 150
"""Times that a part may grow when it is unpacked; sheets grow some ten to fifty times."""
SMALL = 1 << 20
"""Parts below this may grow as they like."""
MAX_PARTS = 2_000
MAX_ROWS = 1_048_576
"""What a sheet can have."""

NAMED = (".xlsx", ".xlsm")
"""How the names of workbooks end."""

_PADDED = re.compile("0{2,}")
_OLD_WORKBOOK = b"\xd0\xcf\x11\xe0"

Row = tuple[int, list[Any]]


def is_workbook(head: bytes) -> bool:
    """Tell by a file's first bytes whether it is a workbook. Raises PayloadError for old ones."""
    if head.startswith(_OLD_WORKBOOK):
        raise PayloadError("The file is an old or encrypted workbook; save it as .xlsx or CSV")
    return head.startswith(b"PK\x03\x04")


def rows(path: Path, config: ErpConfig) -> Iterator[Row]:
    """Yield each row with its number; of several empty ones in a row only the first.

    The sheet is the one that `sheet` names, or the first that is not hidden. Hidden rows count.
    Raises PayloadError for what is no workbook, for one that would unpack to too much, and for XML
    that defines entities.
    """
    with path.open("rb") as file:
        try:
            _refuse_bomb(file)
            yield from _rows(file, config)
        except PayloadError:
            raise
        except Exception as error:  # noqa: BLE001 - a damaged workbook fails in as many ways as it has parts
            raise PayloadError(f"The workbook cannot be read: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """Say what was wrong first: the library puts a sentence about the file around it."""
    while below := error.__cause__ or error.__context__:
        error = below
    if type(error).__module__.startswith("defusedxml"):
        return "its XML defines entities"
    return on_one_line(f"{type(error).__name__}: {error}".splitlines()[0])


def _refuse_bomb(file: IO[bytes]) -> None:
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
    if len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > MAX_BYTES:
        raise PayloadError(f"The workbook would unpack to more than {MAX_BYTES >> 20} MiB")
    for part in parts:
        if part.file_size > max(SMALL, part.compress_size * MAX_RATIO):
            name = on_one_line(part.filename)
            raise PayloadError(f"The workbook's part {name} is packed suspiciously tight")


def _rows(file: IO[bytes], config: ErpConfig) -> Iterator[Row]:
    from openpyxl import DEFUSEDXML, load_workbook  # noqa: PLC0415 - it is large, and seldom needed

    assert DEFUSEDXML, "without defusedxml entities would be expanded"
    # it warns of everything it does not keep, which is nothing to us
    warnings.filterwarnings("ignore", category=UserWarning, module="openpyxl")
    book = load_workbook(file, read_only=True, data_only=True, keep_links=False)
    try:
        sheet = _sheet(book, config)
        sheet.reset_dimensions()  # what is written there need not be true
        yield from _cells(sheet)
    finally:
        book.close()


def _sheet(book: Any, config: ErpConfig) -> Any:
    names = ", ".join(on_one_line(sheet.title) for sheet in book.worksheets)
    for sheet in book.worksheets:
        wanted = config.sheet
        if sheet.title == wanted or (wanted is None and sheet.sheet_state == "visible"):
            return sheet
    raise PayloadError(
        f"The workbook has no sheet {config.sheet!r}; it has {names}"
        if config.sheet
        else "The workbook has no sheet that is not hidden; name one with sheet"
    )


def _cells(sheet: Any) -> Iterator[Row]:
    blank_before = False
    for number, row in enumerate(sheet.iter_rows(), 1):
        if number > MAX_ROWS:
            raise PayloadError(f"The sheet has more than {MAX_ROWS:,} rows")
        cells = [_value(cell) for cell in row]
        while cells and cells[-1] is None:
            cells.pop()
        if cells or not blank_before:
            yield number, cells
        blank_before = not cells


def _value(cell: Any) -> Any:
    """Return what is in a cell. Whole numbers are no more exact than others.

    A number that is shown with zeros before it (format `00000`) is the text that people see.
    """
    value = cell.value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if value == int(value) and value >= 0 and _PADDED.fullmatch(cell.number_format or ""):
        return str(int(value)).zfill(len(cell.number_format))
    return Decimal(value) if isinstance(value, int) else value
