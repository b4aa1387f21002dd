"""Connections of the engine's two roles."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

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
