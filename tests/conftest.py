"""One embedded server for the run, one migrated template, a fresh clone of it per test."""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from cerniq_stock.store import embedded
from cerniq_stock.store.database import create_database, drop_database
from cerniq_stock.store.migrate import migrate
from tests import canary

_numbers = count(1)

# A shell's background jobs ignore Ctrl-C, and so would the programs that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Whatever a test is about: a credential in what was printed or logged meanwhile fails it."""
    report = yield
    told = canary.seen(f"{report.capstdout}\n{report.capstderr}\n{report.caplog}")
    if told and report.passed:
        report.outcome, report.longrepr = "failed", f"a credential was told: {told}"
    return report


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Address of a real PostgreSQL, started for this run and stopped after it.

    It lies in the system's temporary folder itself: the account that runs the server for root
    cannot reach pytest's. Durability is off; the fault tests run a server of their own.
    """
    folder = Path(tempfile.gettempdir()) / f"cerniq-test-{uuid4().hex[:12]}"
    off = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    yield embedded.start(folder, settings=off)
    embedded.stop(folder, "immediate")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def template(server: str) -> str:
    """Name of a database with the newest schema, to be cloned."""

    async def make() -> None:
        await migrate(await create_database(server, "template_cerniq"))

    asyncio.run(make())
    return "template_cerniq"


@pytest.fixture
async def database(server: str, template: str) -> AsyncIterator[str]:
    """Address of a fresh database with the newest schema."""
    name = f"test_{next(_numbers)}"
    dsn = await create_database(server, name, template=template)
    yield dsn
    told = await canary.left_open(dsn)
    await drop_database(server, name)
    assert told == [], "a credential of the test lies open in its database"


@pytest.fixture
async def superuser(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that row-level security does not bind."""
    connection = await asyncpg.connect(database, server_settings={"search_path": "cerniq"})
    yield connection
    await connection.close()
