"""What is said: data on stdout, for people or as one JSON document; the rest on stderr."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from io import TextIOWrapper
from typing import Any, TextIO

from cerniq_stock.cli.problems import OutputError, Problem, one_line
from cerniq_stock.domain.messages import plain

WIDTH = 100


@dataclass(frozen=True)
class Table:
    """Rows under column names. `nothing` is said on stderr instead where there are no rows."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
    nothing: str = "Nothing found"


Part = str | Table


@dataclass(frozen=True)
class Shown:
    """What a command has to say: the document for programs, the parts for people."""

    document: Any
    parts: tuple[Part, ...]
    warnings: tuple[str, ...] = ()
    exit_code: int = 0


def cell(value: object) -> str:
    """Write one value as people read it."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return plain(value)
        case datetime():
            return when(value)
        case tuple() | list():
            return ", ".join(map(cell, value))
        case _:
            return one_line(value)


def when(moment: datetime) -> str:
    """Write a moment in local time, to the second."""
    return moment.astimezone().replace(tzinfo=None).isoformat(timespec="seconds")


def show(shown: Shown, *, as_json: bool, quiet: bool) -> None:
    """Say it all. Raises OutputError when stdout takes no more."""
    if as_json:
        show_document(shown.document)
    else:
        with _written():
            _show_parts(shown.parts, quiet=quiet)
    for warning in shown.warnings:
        note(f"Warning: {warning}", quiet=quiet)


def show_problem(problem: Problem, *, as_json: bool) -> None:
    """Tell what went wrong: the sentence on stderr, and the document where one was asked for."""
    if as_json:
        with suppress(OutputError):
            show_document(problem.document)
    note(f"Error: {problem.sentence}")


def note(text: str, *, quiet: bool = False) -> None:
    """Write a line to stderr, unless nobody listens."""
    if not quiet:
        with suppress(OSError):
            print(one_line(text), file=sys.stderr, flush=True)


def show_document(document: Any) -> None:
    """Write one JSON document in UTF-8, whatever the locale."""
    from cerniq_stock.wire import dumps  # noqa: PLC0415 - it brings pydantic

    # what is no character escapes the way JSON does
    line = f"{dumps(document)}\n".encode(errors="backslashreplace")
    with _written():
        sys.stdout.flush()
        sys.stdout.buffer.write(line)


@contextmanager
def _written() -> Iterator[None]:
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise  # the reader has seen enough
    except OSError as error:
        # what is still buffered would fail again, loudly, at the very end
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(f"The output cannot be written: {error.strerror}") from None


def _show_parts(parts: tuple[Part, ...], *, quiet: bool) -> None:
    _spell_out(sys.stdout)
    for part in parts:
        if isinstance(part, str):
            print(part)
        elif not part.rows:
            note(part.nothing, quiet=quiet)
        else:
            from cerniq_stock.cli.rendering import draw  # noqa: PLC0415 - programs do without

            rows = [[cell(value) for value in row] for row in part.rows]
            draw(part.columns, rows, right=_numeric_columns(part))


def _spell_out(stream: TextIO) -> None:
    """Let a terminal that lacks a letter show its number instead of failing."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def _numeric_columns(table: Table) -> set[int]:
    return {number for number in range(len(table.columns)) if _numeric(table, number)}


def _numeric(table: Table, number: int) -> bool:
    values = [row[number] for row in table.rows if row[number] is not None]
    return bool(values) and all(type(value) in {Decimal, int} for value in values)


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that is told how far a long work is: a bar on a terminal, else lines."""
    if quiet:
        yield lambda stage, done, total: None
    elif not sys.stderr.isatty():
        yield _stage_notes()
    else:
        from cerniq_stock.cli.rendering import bars  # noqa: PLC0415 - programs do without

        with bars() as report:
            yield report


def _stage_notes() -> Callable[[str, int, int], None]:
    """One line per stage, when it begins: a log needs no more."""
    seen: set[str] = set()

    def report(stage: str, _: int, total: int) -> None:
        if stage not in seen:
            seen.add(stage)
            note(f"{stage} ({total})" if total > 1 else stage)

    return report
