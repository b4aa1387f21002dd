"""`cerniq-stock erp parse`: what the payloads of ERPs are understood as."""

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cerniq_stock.cli.call import Call, command, top_level
from cerniq_stock.cli.output import Part, Shown, Table
from cerniq_stock.cli.problems import UsageProblemError
from cerniq_stock.erp.rows import ErpRow, Parsed, PayloadError, Remark, SystemName
from cerniq_stock.errors import InvalidInputError

if TYPE_CHECKING:
    from cerniq_stock.erp.config import ErpConfig

commands = top_level()

E = TypeVar("E", ErpRow, Remark)
_KINDS = ("errors", "warnings", "skipped")
_SPLIT = "\0"
_SETTINGS = ("config", "options")
_NO_NAME = re.compile(r"""["'{}=:\0\r\n]|^\s*\[""")
"""In what was given as a file's name: it may be the settings themselves, with their secrets."""


@command(
    commands,
    "parse",
    "erp parse --system SAGA answer.json",
    "erp parse --system OBLIO page-1.json page-2.json --json",
    "erp parse --system CSV_IMPORT --config config.json stock.csv",
)
def parse(
    _: Call,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="Payloads of one answer; - is stdin.")
    ],
    *,
    system: Annotated[SystemName, typer.Option(case_sensitive=False, help="Whose payload it is.")],
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="How to read it: JSON, see docs/erp.md; erp add's file will do."
        ),
    ] = None,
) -> Shown:
    """Show what payloads would be understood as. Needs no database, and changes nothing.

    Several files are the pages of one answer, and are put together: lots are summed, duplicates
    are found. Each line of the answer is a row, or a remark that says why it is none. Rows in error
    are part of the answer, and no error of the command; a file that cannot be read at all is one.

    Quantities and prices are texts in JSON, so that they stay exact.
    """
    from cerniq_stock.erp.gather import gather  # noqa: PLC0415 - it brings pydantic

    if [*files, config].count("-") > 1:
        raise UsageProblemError("USAGE", "Only one of the files and --config can be stdin")
    settings = _config(config)
    try:
        found = gather(_pages(files, system, settings))
    except PayloadError as error:
        raise InvalidInputError("file", str(error)) from None
    names = files if len(files) > 1 else None
    return Shown(_document(found, names), (_counts(found), *_tables(found, names)))


def _config(name: str | None) -> "ErpConfig":
    from cerniq_stock.erp.config import read_config  # noqa: PLC0415 - it brings pydantic

    data = b"{}" if name is None else read_bytes(name, "config")
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        return read_config(data)  # which says why not
    # the whole file of `erp add` will do: there it is a part
    whole = isinstance(given, dict) and given and given.keys() <= {"connection", "parse"}
    return read_config(given.get("parse", {}) if whole else data)


def read_bytes(name: str, field: str = "file") -> bytes:
    """Read a file, or stdin for `-`. Raises InvalidInputError, which repeats no settings."""
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
    # raised out here: what could not be read would hang on the error that it comes from
    if _NO_NAME.search(name):
        option = f"--{field}" if field in _SETTINGS else "This"
        raise InvalidInputError(field, f"{option} takes a file, or - for stdin")
    raise InvalidInputError(field, f"{name} cannot be read: {reason}")


def _pages(files: list[str], system: SystemName, config: "ErpConfig") -> Iterator[Parsed]:
    """Yield every page; with several files, what is said of each is marked with its number."""
    for number, name in enumerate(files):
        try:
            for page in _parsed(name, system, config):
                yield page if len(files) == 1 else _marked(page, number)
        except PayloadError as error:
            raise InvalidInputError("file", f"{name}: {error}") from None


def _parsed(name: str, system: SystemName, config: "ErpConfig") -> Iterator[Parsed]:
    from cerniq_stock.erp.csv_import import parse_file  # noqa: PLC0415 - it brings pydantic
    from cerniq_stock.erp.payload import decode  # noqa: PLC0415 - with its user
    from cerniq_stock.erp.systems import SYSTEMS  # noqa: PLC0415 - it brings pydantic

    read = SYSTEMS[system].parse
    if read is not None:
        yield read(decode(read_bytes(name)), config)
    else:
        with _on_disk(name) as path:
            yield from parse_file(path, config)


@contextmanager
def _on_disk(name: str) -> Iterator[Path]:
    """A file is read more than once; what comes from stdin is put aside."""
    if name != "-":
        yield Path(name)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(sys.stdin.buffer.read())
        file.flush()
        yield Path(file.name)


def _marked(page: Parsed, number: int) -> Parsed:
    def mark(entry: E) -> E:
        return replace(entry, where=f"{number}{_SPLIT}{entry.where}")

    return Parsed(
        tuple(map(mark, page.rows)),
        tuple(map(mark, page.errors)),
        tuple(map(mark, page.warnings)),
        tuple(map(mark, page.skipped)),
    )


def _document(found: Parsed, files: list[str] | None) -> dict[str, Any]:
    document: dict[str, Any] = {"rows": [_row(row) | _file(row, files) for row in found.rows]}
    for kind in _KINDS:
        document[kind] = [_remark(each) | _file(each, files) for each in getattr(found, kind)]
    return document


def _row(row: ErpRow) -> dict[str, str | None]:
    return {
        "sku": row.sku,
        "total": _number(row.total),
        "available": _number(row.available),
        "price": _number(row.price),
        "currency": row.currency,
        "status": row.status,
        "warehouse": row.warehouse,
        "last_modified": _moment(row.last_modified),
    }


def _remark(remark: Remark) -> dict[str, str | None]:
    return {
        "where": remark.where.rpartition(_SPLIT)[2],
        "field": remark.field,
        "code": remark.code.value,
        "raw": remark.raw,
        "sku": remark.sku,
    }


def _line(remark: Remark) -> str | None:
    """Where it stands, for people: in a table there are only numbers of lines."""
    where = _remark(remark)["where"]
    return f"line {where}" if where is not None and where.isdecimal() else where


def _file(entry: ErpRow | Remark, files: list[str] | None) -> dict[str, str]:
    return {} if files is None else {"file": files[int(entry.where.partition(_SPLIT)[0])]}


def _number(value: Decimal | None) -> str | None:
    from cerniq_stock.domain.messages import plain  # noqa: PLC0415 - with its user

    return None if value is None else plain(value)


def _moment(value: datetime | None) -> str | None:
    from cerniq_stock.erp.times import written  # noqa: PLC0415 - with its user

    return None if value is None else written(value)


def _counts(found: Parsed) -> str:
    return ", ".join(f"{kind} {len(getattr(found, kind))}" for kind in ("rows", *_KINDS))


def _tables(found: Parsed, files: list[str] | None) -> Iterator[Part]:
    more = () if files is None else ("file",)
    columns = ("SKU", "total", "available", "price", "", "status", "warehouse", "last modified")
    rows = [
        (
            *(row.sku, row.total, row.available, row.price, row.currency, row.status),
            *(row.warehouse, _moment(row.last_modified), *_file(row, files).values()),
        )
        for row in found.rows
    ]
    yield Table((*columns, *more), rows, "No rows")
    for kind in _KINDS:
        remarks = [
            (_line(each), *list(_remark(each).values())[1:], *_file(each, files).values())
            for each in getattr(found, kind)
        ]
        if remarks:
            yield f"\n{kind.capitalize()}"
            yield Table(("where", "field", "code", "raw", "SKU", *more), remarks)
