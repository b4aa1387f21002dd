"""As much of OData's filters, orders and selections as fakes need, on rows that are dicts."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from operator import eq, ge, gt, le, lt, ne
from typing import Any

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<sign>[(),])|(?P<word>[^\s(),']+))", re.ASCII
)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": eq,
    "ne": ne,
    "gt": gt,
    "ge": ge,
    "lt": lt,
    "le": le,
}
Row = Mapping[str, Any]
Test = Callable[[Row], bool]
Term = Callable[[Row], Any]


class FilterError(ValueError):
    """A filter that an ERP would answer with 400."""


def matcher(text: str) -> Test:
    """Return what tells whether a row passes a filter: comparisons, `and`, `or`, `contains`."""
    return _Filter(text).whole() if text else lambda _: True


def ordered(rows: list[Row], order: str) -> list[Row]:
    """Sort rows as `$orderby` says, the last key first as sorting is stable."""
    for part in reversed(order.split(",") if order else []):
        name, _, way = part.strip().partition(" ")
        rows = sorted(rows, key=lambda row: _at(row, name), reverse=way == "desc")
    return rows


def selected(row: Row, select: str) -> dict[str, Any]:
    """Keep the named fields of a row; all without a name."""
    names = [name.strip() for name in select.split(",")] if select else list(row)
    unknown = [name for name in names if name not in row]
    if unknown:
        raise FilterError(f"no property {unknown[0]}")
    return {name: row[name] for name in names}


def _at(row: Row, name: str) -> Any:
    """Find a field, `Items/ItemCode` within the entity of that name."""
    if name in row:
        return row[name]
    entity, _, field = name.rpartition("/")
    if entity in row and field in row[entity]:
        return row[entity][field]
    raise FilterError(f"no property {name}")


class _Filter:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        at = 0
        text = text.rstrip()
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                raise FilterError("an open quote")
            self._tokens.append(token.group().strip())
            at = token.end()

    def whole(self) -> Test:
        test = self._any()
        if self._tokens:
            raise FilterError(f"what is {self._tokens[0]}?")
        return test

    def _any(self) -> Test:
        tests = [self._all()]
        while self._tokens[:1] == ["or"]:
            self._next()
            tests.append(self._all())
        return lambda row: any(test(row) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._tokens[:1] == ["and"]:
            self._next()
            tests.append(self._one())
        return lambda row: all(test(row) for test in tests)

    def _one(self) -> Test:
        first = self._next()
        if first == "(":
            test = self._any()
            self._next(")")
            return test
        if first in {"contains", "substringof"}:
            self._next("(")
            terms = [self._term(self._next())]
            self._next(",")
            terms.append(self._term(self._next()))
            self._next(")")
            whole, part = terms if first == "contains" else reversed(terms)
            return lambda row: str(part(row)) in str(whole(row))
        left, operator, right = self._term(first), self._next(), self._term(self._next())
        if operator not in _COMPARE:
            raise FilterError(f"no operator {operator}")
        return lambda row: _COMPARE[operator](left(row), right(row))

    def _term(self, token: str) -> Term:
        if token.startswith("'"):
            text = token[1:-1].replace("''", "'")
            return lambda _: text
        if _NUMBER.fullmatch(token):
            number = Decimal(token)
            return lambda _: number
        if _GUID.fullmatch(token) or _MOMENT.fullmatch(token):
            return lambda _: token
        return lambda row: _at(row, token)

    def _next(self, wanted: str | None = None) -> str:
        token = self._tokens.pop(0) if self._tokens else ""
        if not token or (wanted and token != wanted):
            raise FilterError(f"{wanted or 'something'} is missing")
        return token
