"""Paths into a decoded payload: `stock.levels[0].qty`, or `stock.levels.0.qty`."""

import re
from functools import lru_cache
from typing import Any

from cerniq_stock.erp.collect import ABSENT
from cerniq_stock.erp.rows import PayloadError

_INDEX = re.compile(r"\[(-?[0-9]{1,9})\]")


@lru_cache(1000)
def _steps(path: str) -> tuple[str, ...]:
    return tuple(step for step in _INDEX.sub(r".\1", path).split(".") if step)


def value_at(record: Any, path: str) -> Any:
    """Return what stands at a path, or ABSENT. A field that has the whole path as its name wins."""
    if isinstance(record, dict) and path in record:
        return record[path]
    for step in _steps(path):
        if isinstance(record, dict):
            record = record.get(step, ABSENT)
        elif isinstance(record, list):
            record = _element(record, step)
        else:
            return ABSENT
    return record


def _element(values: list[Any], step: str) -> Any:
    try:
        return values[int(step)]
    except (ValueError, IndexError):
        return ABSENT


def list_at(payload: Any, path: str, system: str) -> list[Any]:
    """Return the list at a path; "" is the payload itself. Raises PayloadError."""
    found = value_at(payload, path) if path else payload
    if not isinstance(found, list):
        place = f"at {path!r}" if path else "at the top"
        raise PayloadError(f"This is no answer of {system}: there is no list {place}")
    return found
