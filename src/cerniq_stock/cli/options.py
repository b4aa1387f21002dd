"""Arguments and options that several commands share, and how their texts are read."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import typer

from cerniq_stock import validate
from cerniq_stock.domain.commands import Item, OrderPart, Quantity
from cerniq_stock.domain.model import Unit
from cerniq_stock.erp.rows import SystemName
from cerniq_stock.errors import InvalidInputError

MOST_ROWS = 1000

Sku = Annotated[str, typer.Argument(metavar="SKU", help="Product.")]
Skus = Annotated[list[str], typer.Argument(metavar="SKU", help="Products.")]
ReservationId = Annotated[str, typer.Argument(metavar="RESERVATION", help="Reservation's id.")]
Amount = Annotated[
    str, typer.Argument(metavar="QUANTITY", help="In the product's unit, such as 12 or 2.5.")
]
Warehouse = Annotated[
    str | None, typer.Option(metavar="NAME", help="Warehouse; without it the tenant's first.")
]
Reference = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Document it rests on, such as a delivery note.")
]
Key = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Makes the command repeatable: the same key again gives the first answer.",
    ),
]
By = Annotated[str | None, typer.Option(metavar="WHO", help="Who asks; kept with the change.")]
Notes = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; kept with the change.")]
System = Annotated[
    SystemName, typer.Argument(metavar="SYSTEM", case_sensitive=False, help="Whose ERP it is.")
]
OfSystem = Annotated[
    SystemName | None,
    typer.Option("--system", metavar="SYSTEM", case_sensitive=False, help="Only of this ERP."),
]
Search = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Only where SKU or name contain this.")
]
AfterSku = Annotated[str | None, typer.Option(metavar="SKU", help="Go on after this product.")]
Limit = Annotated[
    int, typer.Option(metavar="N", min=1, max=MOST_ROWS, help="At most so many rows.")
]
AllTenants = Annotated[
    bool, typer.Option("--all-tenants", help="Every tenant, instead of the one worked for.")
]

# a number, and after it perhaps a unit; whether either is any good is said later, and better
_AMOUNT = re.compile(r"\s*([-+]?[\d.,]+)\s*([A-Za-z]\w*)?\s*", re.ASCII)


def page(search: str | None, after_sku: str | None, limit: int) -> dict[str, Any]:
    """What to list of the catalogue, as the engine asks for it."""
    return {
        "search": validate.optional_text("search", search, most=200),
        "after_sku": validate.optional_text("after", after_sku, most=validate.MAX_SKU),
        "limit": limit,
    }


def items(lines: list[str]) -> tuple[Item, ...]:
    """Read the lines of a reservation: SKU=QUANTITY, with or without the unit after it."""
    return tuple(map(_item, lines))


def amounts(lines: list[str] | None) -> tuple[Quantity, ...] | None:
    """Read how much of what to release or to sell; no line at all means everything."""
    return tuple(map(_quantity, lines)) if lines else None


def order_items(lines: list[str]) -> tuple[Item, ...]:
    """Read the lines of an order: like `items`, but the quantity may be any."""
    return tuple(_item(line, validate.MAX_ORDERED) for line in lines)


def order_parts(lines: list[str] | None) -> tuple[OrderPart, ...] | None:
    """Read how much of an order: SKU=QUANTITY or #LINE=QUANTITY; none at all means everything."""
    return tuple(map(_order_part, lines)) if lines else None


def _order_part(line: str) -> OrderPart:
    part = _quantity(line)
    if not part.sku.startswith("#"):
        return OrderPart(part.quantity, part.sku)
    if not re.fullmatch(r"#[1-9]\d{0,4}", part.sku, re.ASCII):
        raise InvalidInputError("items", f"--line {line!r}: after # there must be a line's number")
    return OrderPart(part.quantity, line_no=int(part.sku[1:]))


def _item(line: str, most: Decimal = validate.MAX_QUANTITY) -> Item:
    sku, number, unit = _split(line)
    try:
        quantity = validate.positive("quantity", number, most=most)
        known = validate.choice("unitOfMeasure", Unit, unit.upper()) if unit else None
    except InvalidInputError as error:
        raise _of_line(error, line) from None
    return Item(sku, quantity, unit=known)


def _quantity(line: str) -> Quantity:
    sku, number, unit = _split(line)
    if unit is not None:
        raise InvalidInputError("items", f"--line {line}: give the quantity without its unit")
    try:
        return Quantity(sku, validate.positive("quantity", number))
    except InvalidInputError as error:
        raise _of_line(error, line) from None


def _split(line: str) -> tuple[str, str, str | None]:
    """A SKU may hold an equals sign itself: the last one counts."""
    sku, _, amount = line.rpartition("=")
    parts = _AMOUNT.fullmatch(amount)
    if not sku or parts is None:
        raise InvalidInputError("items", f"--line {line!r} is not of the form SKU=QUANTITY")
    return sku, parts[1], parts[2]


def _of_line(error: InvalidInputError, line: str) -> InvalidInputError:
    return InvalidInputError(error.field, f"--line {line}: {error}")


def moment(field: str, text: str | None) -> datetime | None:
    """Read a date or a moment in ISO form; without a zone it is local time."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        raise InvalidInputError(
            field, f"{field} is not a date or time such as 2026-01-31T08:00: {text!r}"
        ) from None


def signed(field: str, text: str | None) -> Decimal:
    """Read a difference; none given is none made."""
    return Decimal(0) if text is None else validate.number(field, text)
