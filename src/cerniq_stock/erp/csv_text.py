"""The lines of a CSV file, one by one, in whatever encoding and with whatever delimiter."""

import codecs
import csv
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final, TextIO

from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.header import known_columns
from cerniq_stock.erp.rows import PayloadError

DELIMITERS: Final = (";", ",", "\t", "|")
HEADER_WITHIN = 50
"""Lines among which the header must be."""
MAX_LINE = 1_000_000
"""Characters of a line; without a bound a file without line ends would fill the memory."""

_HEAD = 4096
_BLOCK = 1 << 20
_SEPARATOR = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)

Line = tuple[int, list[str] | None]


class CsvLines:
    """Yields each row with the number of the line it begins on; None where its quotes are wrong.

    Raises PayloadError for what is no text, and for a quote that nobody closes.
    """

    def __init__(self, path: Path, config: ErpConfig) -> None:
        self._path = path
        self._config = config
        self._delimiter = ""
        self._row: list[str] = []

    @property
    def raw(self) -> str:
        """The row that was read last, as it stands in the file."""
        return "".join(self._row)

    def loose(self) -> list[str]:
        """Return the cells of that row as far as they can be told where its quotes are wrong."""
        try:
            return next(csv.reader(self._row, delimiter=self._delimiter), [])
        except csv.Error:
            return []

    def __iter__(self) -> Iterator[Line]:
        encoding = encoding_of(self._path, self._config)
        try:
            with self._path.open(encoding=encoding, newline="") as text:
                self._delimiter = self._config.delimiter or _delimiter(text, self._config)
                text.seek(0)
                yield from self._rows(text)
        except UnicodeError as error:
            raise PayloadError(f"The file is no {encoding} text: {error}") from None

    def _rows(self, text: TextIO) -> Iterator[Line]:
        row = self._row
        reader = csv.reader(self._remembered(text), delimiter=self._delimiter, strict=True)
        line = 1
        while True:
            try:
                for cells in reader:
                    yield line, cells
                    row.clear()
                    line = reader.line_num + 1
            except csv.Error as error:
                if "expected after" not in str(error):
                    reason = str(error).replace("unexpected end of data", "a quote is never closed")
                    raise PayloadError(f"Line {line}: this is no CSV: {reason}") from None
                yield line, None
                row.clear()
                line = reader.line_num + 1
            else:
                return

    def _remembered(self, text: TextIO) -> Iterator[str]:
        for line in _bounded(text):
            self._row.append(line)
            yield line


def encoding_of(path: Path, config: ErpConfig) -> str:
    """Tell a file's encoding: by its mark, then strict UTF-8, then UTF-16, then the configured."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        if b"\0" in head and (guess := _utf16(head)):
            return guess
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(head)
            while block := file.read(_BLOCK):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return config.encoding
    return "utf-8-sig"


def _utf16(head: bytes) -> str | None:
    """Tell which UTF-16 a file without a mark is: its ASCII letters have a zero on one side."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) * 4 < len(head) or min(even, odd) * 10 > max(even, odd):
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _delimiter(text: TextIO, config: ErpConfig) -> str:
    """Find the delimiter that makes most columns of the header; data lines have no say."""
    first = list(islice(_bounded(text), HEADER_WITHIN))
    if first and (told := _SEPARATOR.fullmatch(first[0])) and told[1] in DELIMITERS:
        return told[1]
    best = {sign: max(_known(first, sign, config), default=0) for sign in DELIMITERS}
    return max(DELIMITERS, key=lambda sign: best[sign])


def _known(first: list[str], delimiter: str, config: ErpConfig) -> Iterator[int]:
    try:
        for cells in csv.reader(first, delimiter=delimiter):
            yield known_columns(cells, config)
    except csv.Error:
        return


def _bounded(text: TextIO) -> Iterator[str]:
    number = 0
    while line := text.readline(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE and line[-1] not in "\r\n":
            raise PayloadError(f"Line {number} is longer than {MAX_LINE:,} characters")
        yield line
