"""A pool is closed in bounded time, whoever keeps a connection."""

import asyncio

from cerniq_stock.store import database as database_module
from cerniq_stock.store.database import create_pool


async def backends(superuser) -> int:
    return await superuser.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()"
    )


async def test_what_nobody_gives_back_is_cut_off(database, superuser, monkeypatch, caplog):
    monkeypatch.setattr(database_module, "CLOSE_S", 0.1)
    async with asyncio.timeout(10):
        async with create_pool(database, "cerniq_app", max_size=1) as pool:
            await pool.acquire()
            assert await backends(superuser) == 1
        while await backends(superuser):  # the server notices a little later
            pass
    assert "connections of cerniq_app were not given back" in caplog.text


async def test_what_is_in_use_may_end(database, caplog):
    async def ask(pool, connection):
        try:
            return await connection.fetchval("SELECT 1 FROM pg_sleep(0.2)")
        finally:
            await pool.release(connection)

    async with create_pool(database, "cerniq_app", max_size=1) as pool:
        connection = await pool.acquire()
        asking = asyncio.create_task(ask(pool, connection))
    assert await asking == 1
    assert not caplog.records
