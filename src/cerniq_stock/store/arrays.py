"""Columns as the text of PostgreSQL arrays.

asyncpg looks at every element of an array several times; as text, a column is written in one go.
Columns that are all NULL are left out: unnest fills them up.
"""

from collections.abc import Iterable, Sequence
from typing import Any


def plain(column: Iterable[Any]) -> str:
    """Write ids, numbers and words, which need no quotes, as the text of an array."""
    return "{" + ",".join(map(str, column)) + "}"


def words(column: Iterable[str]) -> str:
    """Do the same with texts."""
    return "{" + ",".join(column) + "}"


def quoted(column: Sequence[str]) -> str:
    """Write any texts as the text of an array."""
    if not column:
        return "{}"
    body = '","'.join(column)
    if "\\" in body or body.count('"') != 2 * (len(column) - 1):
        body = '","'.join([_escaped(text) for text in column])
    return f'{{"{body}"}}'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def sparse(column: Sequence[str | None]) -> str | None:
    """Write texts of which some may be missing as the text of an array."""
    if all(text is None for text in column):
        return None
    return "{" + ",".join(["NULL" if x is None else f'"{_escaped(x)}"' for x in column]) + "}"
