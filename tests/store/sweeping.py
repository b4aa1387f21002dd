"""What the tests of the sweep share: a shop, commands that are due, what became of them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import asyncpg
from tests.helpers import put, reserve, shop, uid

from cerniq_stock.domain.commands import Command
from cerniq_stock.domain.model import ZERO, Level, Tenant
from cerniq_stock.store.transaction import Transaction
from cerniq_stock.store.verify import verify

TENANT = Tenant(uid("tenant"), "Shop", warehouses=("W1", "W2"))
PATIENCE_S = 20.0


async def run(app: asyncpg.Connection, *commands: Command, tenant: Tenant = TENANT) -> None:
    for command in commands:
        await Transaction(tenant.id, [command]).run(app)


def due(id_: str, items: str, **rest: Any) -> Command:
    """A reservation that is due the moment it is made."""
    return reserve(id_, items, expires_in_h=0, **rest)


async def statuses(superuser: asyncpg.Connection) -> dict[str, str]:
    return dict(await superuser.fetch("SELECT id, status FROM stock_reservations ORDER BY id"))


async def assert_sound(database: str) -> None:
    assert (await verify(database)).differences == ()


async def until(condition: Callable[[], Awaitable[Any]]) -> None:
    """Wait for what another process or task does to the database; there is no event to await."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - the server has no event
            await asyncio.sleep(0.005)


async def open_shop(superuser: asyncpg.Connection, stock: str, tenant: Tenant = TENANT) -> None:
    """Make a tenant with `"A=5+3"`: five of A in the first warehouse and three in the second."""
    figures = {sku: totals.split("+") for sku, _, totals in map(_parts, stock.split())}
    state = shop(dict.fromkeys(figures, 0), tenant=tenant)
    levels = {
        uid(sku): tuple(
            Level(uid(sku), warehouse, ZERO, ZERO, ZERO, 0)
            for warehouse, _ in zip(tenant.warehouses, totals, strict=False)
        )
        for sku, totals in figures.items()
    }
    await put(superuser, replace(state, levels=levels))
    for sku, totals in figures.items():
        for warehouse, total in zip(tenant.warehouses, totals, strict=False):
            await superuser.execute(
                "UPDATE stock_levels SET total = $4"
                " WHERE tenant_id = $1 AND product_id = $2 AND warehouse = $3",
                *(tenant.id, uid(sku), warehouse, Decimal(total)),
            )


def _parts(word: str) -> tuple[str, str, str]:
    return word.partition("=")
