"""Stock engine for B2B sales platforms: reservations that never oversell."""

from cerniq_stock.domain.commands import Item, Quantity
from cerniq_stock.domain.model import Priority, ReleaseReason, ReservationType, Unit
from cerniq_stock.domain.outcomes import Refusal, Refused
from cerniq_stock.errors import (
    CerniqError,
    CommandFailedError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from cerniq_stock.service import Stock
from cerniq_stock.store.catalog import NewProduct, NewTenant
from cerniq_stock.wiring import open_stock

__all__ = [
    "CerniqError",
    "CommandFailedError",
    "InvalidInputError",
    "Item",
    "NewProduct",
    "NewTenant",
    "NotFoundError",
    "OverloadedError",
    "Priority",
    "Quantity",
    "Refusal",
    "Refused",
    "ReleaseReason",
    "ReservationType",
    "Stock",
    "UnavailableError",
    "Unit",
    "open_stock",
]
