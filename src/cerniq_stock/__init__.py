"""Stock engine for B2B sales platforms: reservations that never oversell.

The names below are the library. Each is imported when it is first asked for, so that a command
line that only prints its help does not load a database driver.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cerniq_stock.domain.commands import Item, Quantity
    from cerniq_stock.domain.model import Priority, ReleaseReason, ReservationType, Unit
    from cerniq_stock.domain.outcomes import Refusal, Refused
    from cerniq_stock.domain.sync import Strategy
    from cerniq_stock.errors import (
        CerniqError,
        CommandFailedError,
        InvalidInputError,
        NotFoundError,
        OverloadedError,
        UnavailableError,
    )
    from cerniq_stock.service import Stock
    from cerniq_stock.settings import Settings
    from cerniq_stock.store.catalog import NewProduct, NewTenant
    from cerniq_stock.sync.result import Asked, SyncType
    from cerniq_stock.wiring import open_integrations, open_stock, open_syncs

_HOME = {
    "domain.commands": ("Item", "Quantity"),
    "domain.model": ("Priority", "ReleaseReason", "ReservationType", "Unit"),
    "domain.outcomes": ("Refusal", "Refused"),
    "domain.sync": ("Strategy",),
    "errors": (
        "CerniqError",
        "CommandFailedError",
        "InvalidInputError",
        "NotFoundError",
        "OverloadedError",
        "UnavailableError",
    ),
    "service": ("Stock",),
    "settings": ("Settings",),
    "store.catalog": ("NewProduct", "NewTenant"),
    "sync.result": ("Asked", "SyncType"),
    "wiring": ("open_integrations", "open_stock", "open_syncs"),
}

__all__ = [
    "Asked",
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
    "Settings",
    "Stock",
    "Strategy",
    "SyncType",
    "UnavailableError",
    "Unit",
    "open_integrations",
    "open_stock",
    "open_syncs",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
