"""Connections of the engine's two roles, and a tenant with some goods."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from tests.helpers import put, shop

from cerniq_stock.domain.model import Tenant
from cerniq_stock.store.begin import PREPARE
from cerniq_stock.store.database import connect
from cerniq_stock.store.sweep import SETTINGS


@pytest.fixture
async def app(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(database, settings=SETTINGS)
    await connection.execute(PREPARE)
    yield connection
    await connection.close()


@pytest.fixture
async def operator(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(database, "cerniq_operator")
    yield connection
    await connection.close()


@pytest.fixture
async def tenant(superuser: asyncpg.Connection) -> Tenant:
    state = shop("A=100 B=100")
    await put(superuser, state)
    return state.tenant
