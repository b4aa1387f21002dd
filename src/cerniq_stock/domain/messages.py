"""Sentences for people. Notifications speak the tenant's language; answers speak English."""

from decimal import Decimal

from cerniq_stock.domain.model import Notification, Product, Reservation

_LOW_STOCK = {
    "ro": (
        "Stoc scăzut: {name}",
        (
            "Produsul {name} (SKU: {sku}) mai are disponibil {quantity} {unit}."
            " Punct de reaprovizionare: {reorder_point} {unit}."
        ),
    ),
    "en": (
        "Low stock: {name}",
        (
            "Product {name} (SKU: {sku}) has only {quantity} {unit} available."
            " Reorder point: {reorder_point} {unit}."
        ),
    ),
}
_DISPLACED = {
    "ro": (
        "Rezervare cedată: {sku}",
        (
            "Rezervarea {reservation} a cedat {quantity} {unit} din {name} (SKU: {sku})"
            " unei rezervări ferme sau unei corecții a stocului."
        ),
    ),
    "en": (
        "Reservation gave way: {sku}",
        (
            "Reservation {reservation} gave up {quantity} {unit} of {name} (SKU: {sku})"
            " to a firm claim or to a correction of the stock."
        ),
    ),
}
_SHORT = {
    "ro": (
        "Conflict de stoc: {sku}",
        (
            "ERP-ul raportează {erp} {unit} din {name} (SKU: {sku}) în {warehouse}, iar rezervările"
            " ferme cer mai mult. Stocul nu a fost modificat; decideți conflictul."
        ),
    ),
    "en": (
        "Stock conflict: {sku}",
        (
            "The ERP reports {erp} {unit} of {name} (SKU: {sku}) in {warehouse}, and firm"
            " reservations need more. The stock was not changed; please decide the conflict."
        ),
    ),
}
LANGUAGES = frozenset(_LOW_STOCK)


def plain(quantity: Decimal) -> str:
    """Write a quantity without exponent and without trailing zeros: `2.500` -> `2.5`."""
    text = format(quantity, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def low_stock(language: str, product: Product, available: Decimal) -> Notification:
    """`available` fell to the product's reorder point (§7.3)."""
    title, message = _LOW_STOCK[language]
    words = {
        "name": product.name,
        "sku": product.sku,
        "unit": product.unit,
        "quantity": plain(available),
        "reorder_point": plain(product.reorder_point),
    }
    return Notification(
        "LOW_STOCK",
        "WARNING",
        title.format_map(words),
        message.format_map(words),
        "PRODUCT",
        str(product.id),
    )


def displaced(
    language: str, product: Product, reservation: Reservation, quantity: Decimal
) -> Notification:
    """A SOFT reservation lost goods to a HARD one or to a correction of the stock."""
    title, message = _DISPLACED[language]
    words = {
        "name": product.name,
        "sku": product.sku,
        "unit": product.unit,
        "quantity": plain(quantity),
        "reservation": reservation.id,
    }
    return Notification(
        "RESERVATION_DISPLACED",
        "WARNING",
        title.format_map(words),
        message.format_map(words),
        "RESERVATION",
        reservation.id,
    )


def shortage(language: str, product: Product, warehouse: str, erp: Decimal) -> Notification:
    """The ERP has less than is firmly promised (READING 24)."""
    title, message = _SHORT[language]
    words = {
        "name": product.name,
        "sku": product.sku,
        "unit": product.unit,
        "warehouse": warehouse,
        "erp": plain(erp),
    }
    return Notification(
        "STOCK_CONFLICT",
        "CRITICAL",
        title.format_map(words),
        message.format_map(words),
        "PRODUCT",
        str(product.id),
    )
