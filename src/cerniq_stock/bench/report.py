"""Results: one JSON document, or tables for people."""

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.console import Console
from rich.table import Table

from cerniq_stock.bench.scratch import server_version

Document = dict[str, Any]

_SIDES = ("engine", "classic", "pgbench")
_HIDDEN = ("windows", "samples")


async def machine(server: str) -> Document:
    """Where a figure comes from: without it a figure says nothing."""
    return {
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "processor": _processor(),
        "load_average": round(os.getloadavg()[0], 2),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "uvloop": _version("uvloop"),
        "asyncpg": _version("asyncpg"),
        "postgresql": await server_version(server),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - a device, not a file
            names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def show(document: Document, *, as_json: bool) -> None:
    """Print a result to standard output."""
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        _tables(document)


def _tables(document: Document) -> None:
    console = Console()
    sides = [name for name in _SIDES if name in document]
    plain = {
        name: value for name, value in document.items() if name not in (*_HIDDEN, *sides, "ratio")
    }
    facts = Table(show_header=False, box=None)
    for name, value in plain.items():
        facts.add_row(name, _text(value))
    console.print(facts)
    if sides:
        console.print(_comparison(document, sides))


def _comparison(document: Document, sides: list[str]) -> Table:
    ratio = document.get("ratio", {})
    table = Table("", *[*sides, "ratio"][: len(sides) + bool(ratio)])
    for name in document[sides[0]]:
        if name not in _HIDDEN:
            values = [_text(document[side].get(name)) for side in sides]
            table.add_row(name, *values, *([_text(ratio.get(name))] if ratio else []))
    return table


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:,.2f}"
        case bool() | str():
            return str(value)
        case int():
            return f"{value:,}"
        case dict():
            return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
        case _:
            return "\n".join(map(str, value))
