"""Answers as JSON: camelCase names, exact numbers, ISO times, as the specification has them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from decimal import Decimal
from functools import cache, lru_cache, partial
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from cerniq_stock.domain import outcomes
from cerniq_stock.domain.outcomes import Answer, ItemResult, ReservationError, camel

_ITEMS = TypeAdapter(tuple[ItemResult, ...])
_ERRORS = TypeAdapter(tuple[ReservationError, ...])


@cache
def _names(type_: type) -> tuple[tuple[str, str], ...]:
    return tuple((field.name, camel(field.name)) for field in fields(type_))


def number(quantity: Decimal) -> int | float:
    """Write a quantity as a JSON number. Three places of fourteen digits survive a double."""
    whole = int(quantity)
    return whole if whole == quantity else float(quantity)


_AS_IT_IS = frozenset({str, int, bool, float, type(None)})


def to_wire(value: Any) -> Any:  # noqa: PLR0911 - one return for each kind of value
    """Turn an answer into what `json.dumps` takes. Fields that are None stay, as null."""
    if type(value) in _AS_IT_IS:
        return value
    match value:
        case Decimal():
            return number(value)
        case UUID():
            return str(value)
        case date():
            return value.isoformat()
        case tuple() | list():
            return [to_wire(item) for item in value]
        case Mapping():
            return {key: to_wire(item) for key, item in value.items()}
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {wire: to_wire(getattr(value, name)) for name, wire in _names(type(value))}
        case _:
            return value


def dumps(value: Any) -> str:
    """Write an answer as one line of JSON."""
    return json.dumps(to_wire(value), ensure_ascii=False, separators=(",", ":"))


_quote = lru_cache(10_000)(partial(json.dumps, ensure_ascii=False))


def items_json(items: Iterable[ItemResult]) -> str:
    """Write what `to_wire` would, by hand: this is the hot path of every reservation."""
    return "[" + ",".join(map(_item_json, items)) + "]"


def _item_json(item: ItemResult) -> str:
    product = f'"{item.product_id}"' if item.product_id else "null"
    backorder = f',"backorderDate":"{item.backorder_date}"' if item.backorder_date else ""
    return (
        f'{{"sku":{_quote(item.sku)},"productId":{product}'
        f',"requestedQuantity":{item.requested_quantity}'
        f',"reservedQuantity":{item.reserved_quantity}'
        f',"availableBefore":{item.available_before},"availableAfter":{item.available_after}'
        f',"status":"{item.status.value}"{backorder}}}'
    )


def errors_json(errors: Iterable[ReservationError]) -> str:
    """Write what `to_wire` would, by hand: a refusal must be as fast as a reservation."""
    return "[" + ",".join(map(_error_json, errors)) + "]"


def _error_json(error: ReservationError) -> str:
    left = error.available_quantity
    available = f',"availableQuantity":{left}' if left is not None else ""
    return (
        f'{{"sku":{_quote(error.sku)},"code":"{error.code.value}"'
        f',"message":{_quote(error.message)}{available}}}'
    )


def loads_items(text: str) -> tuple[ItemResult, ...]:
    """Read back `stock_reservations.items_json`."""
    return _ITEMS.validate_json(text)


def loads_errors(text: str | None) -> tuple[ReservationError, ...]:
    """Read back `stock_reservations.errors_json`."""
    return () if text is None else _ERRORS.validate_json(text)


@cache
def _adapter(type_name: str) -> TypeAdapter[Answer]:
    return TypeAdapter(getattr(outcomes, type_name))


def loads_answer(type_name: str, text: str) -> Answer:
    """Read back `stock_commands.answer_json`."""
    return _adapter(type_name).validate_json(text)
