"""The connection on which a worker listens goes back, whatever becomes of the database."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.queries import Queries

from cerniq_stock.jobs import tickets
from cerniq_stock.jobs.claims import Claims, claiming_queries
from cerniq_stock.jobs.driver import PoolDriver
from cerniq_stock.store import database as database_module
from cerniq_stock.store.database import create_pool
from cerniq_stock.store.trouble import LOST

SIZE = 2


class SlowGoodbye:
    """A Unix socket before the server's. What the server says arrives; its hanging up does not."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.server = re.search(r"host=([^&]+)", dsn)[1] + "/.s.PGSQL.5432"
        self.path = folder / ".s.PGSQL.5432"
        self.dsn = re.sub(r"host=[^&]+", f"host={folder}", dsn)
        self.gone = asyncio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncIterator["SlowGoodbye"]:
        async with await asyncio.start_unix_server(self._serve, self.path):
            yield self

    async def _serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        server, asked = await asyncio.open_unix_connection(self.server)
        back = asyncio.create_task(self._back(server, answers))
        with suppress(ConnectionError):
            while data := await client.read(65536):
                asked.write(data)
        back.cancel()
        asked.close()
        answers.close()

    async def _back(self, server: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        while data := await server.read(65536):
            answers.write(data)
        self.gone.set()


async def lose_while_listening(
    driver_of: type[AsyncpgPoolDriver], pool: Any, wire: SlowGoodbye, superuser: Any
) -> None:
    """Listen, and let the server end the session."""
    driver = driver_of(pool)
    with suppress(*LOST):
        async with driver:
            await driver.add_listener("some", lambda _: None)
            await superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            )
            await wire.gone.wait()
            await driver._listener_connection.execute("SELECT 1")


async def usable(pool: asyncpg.Pool) -> int:
    """How many connections of the pool can be had."""
    found: list[Any] = []
    with suppress(TimeoutError):
        while len(found) < SIZE:
            found.append(await pool.acquire(timeout=0.2))
    for connection in found:
        await pool.release(connection)
    return len(found)


# Of PgQueuer's own driver the pool has one connection less: the control.
@pytest.mark.parametrize(("driver", "left"), [(PoolDriver, SIZE), (AsyncpgPoolDriver, SIZE - 1)])
async def test_a_session_that_the_server_ended(
    database, superuser, tmp_path, monkeypatch, driver, left
):
    monkeypatch.setattr(database_module, "CLOSE_S", 0.1)
    async with (
        SlowGoodbye(database, tmp_path).open() as wire,
        create_pool(wire.dsn, "cerniq_operator", max_size=SIZE, reset=False) as pool,
    ):
        await lose_while_listening(driver, pool, wire, superuser)
        assert await usable(pool) == left


async def test_two_managers_of_one_driver(database):
    async with create_pool(database, "cerniq_operator", max_size=SIZE, reset=False) as pool:
        driver = PoolDriver(pool)
        async with driver:
            async with driver:
                await driver.add_listener("some", lambda _: None)
            assert await usable(pool) == SIZE - 1
        assert await usable(pool) == SIZE


def probing(pool):
    """Queries of a worker, on its driver."""
    return claiming_queries(pool, Claims(asyncio.Event()))


def by_itself(pool):
    """PgQueuer's own."""
    return Queries(AsyncpgPoolDriver(pool), **tickets.builders())


# PgQueuer's first probe is sent before it listens, and lost: the control.
@pytest.mark.parametrize(("make", "heard"), [(probing, "first"), (by_itself, "second")])
async def test_no_probe_is_sent_before_somebody_listens(database, make, heard):
    ids = {"first": uuid4(), "second": uuid4()}
    async with create_pool(database, "cerniq_operator", max_size=4, reset=False) as pool:
        queries = make(pool)
        told: asyncio.Queue[Any] = asyncio.Queue()
        async with asyncio.timeout(20), queries.driver:
            first = asyncio.create_task(queries.notify_health_check(ids["first"]))
            # as long as two take that nothing holds up
            for _ in range(2):
                await by_itself(pool).notify_health_check(uuid4())
            await queries.driver.add_listener(tickets.SETTINGS.channel, told.put_nowait)
            await first
            await queries.notify_health_check(ids["second"])
            assert str(ids[heard]) in await told.get()
