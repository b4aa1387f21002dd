"""A command line on a fresh database: plain functions, as each command runs a loop of its own."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import count
from typing import Any

import asyncpg
import pytest
import structlog
from typer.testing import CliRunner

from cerniq_stock.cli.app import app
from cerniq_stock.store.database import create_database, drop_database

_numbers = count(1)

PRODUCTS = """\
sku,name,unit,status,price,currency,reorder_point,reorder_quantity,expected_restock_date
LAPTOP-14,Laptop 14 inch,BUC,ACTIVE,3499.90,RON,2,10,2026-12-31
FLOUR-000,Făină albă 000,KG,ACTIVE,4.25,RON,50,500,
OLD-FAX,Fax cu hârtie termică,BUC,DISCONTINUED,,,,,
CHAIR,Scaun ergonomic,BUC,ACTIVE,650,RON,0,5,
"""


@dataclass(frozen=True)
class Result:
    """What a command said and how it ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        (line,) = self.stdout.splitlines()
        return json.loads(line)


Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _no_tenant_of_the_developers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CERNIQ_TENANT_ID", raising=False)


@contextmanager
def logs_as_before() -> Iterator[None]:
    """A command sees to the logs of its process, which is this one, and has other tests to run."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)


def command_line(dsn: str, *args: str, stdin: str | bytes | None = None) -> Result:
    """Run a command line on a database."""
    environment = {"CERNIQ_DATABASE_URL": dsn}
    with logs_as_before():
        done = CliRunner(env=environment).invoke(app, list(args), input=stdin)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Result(done.exit_code, done.stdout, done.stderr)


def clone(server: str, template: str) -> Iterator[str]:
    """Yield the address of a copy, dropped afterwards."""
    name = f"cli_{next(_numbers)}"
    yield asyncio.run(create_database(server, name, template=template))
    asyncio.run(drop_database(server, name))


@pytest.fixture(scope="session")
def shop_template(server: str, template: str) -> tuple[str, str, str]:
    """Name of a database to be cloned, its tenant, and a negotiation that may reserve.

    The tenant has two warehouses, four products and some stock.
    """
    dsn = asyncio.run(create_database(server, "template_cli", template=template))

    def run(*args: str, stdin: str | None = None) -> str:
        result = command_line(dsn, *args, stdin=stdin)
        assert result.exit_code == 0, result
        return result.stdout.strip()

    tenant = run("tenant", "create", "Papetărie Exemplu", "--warehouses", "MAIN,NORTH")
    run("product", "import", "-", stdin=PRODUCTS)
    run("stock", "receive", "LAPTOP-14", "10")
    run("stock", "receive", "LAPTOP-14", "4", "--warehouse", "NORTH")
    run("stock", "receive", "FLOUR-000", "120.5")
    return "template_cli", tenant, run("negotiation", "new")


@pytest.fixture
def dsn(server: str, shop_template: tuple[str, str, str]) -> Iterator[str]:
    """Address of a database with a shop of its own."""
    yield from clone(server, shop_template[0])


@pytest.fixture
def shop(shop_template: tuple[str, str, str]) -> str:
    """The shop's tenant."""
    return shop_template[1]


@pytest.fixture
def negotiation(shop_template: tuple[str, str, str]) -> str:
    """A negotiation of the shop that may reserve."""
    return shop_template[2]


@pytest.fixture
def bare_dsn(server: str, template: str) -> Iterator[str]:
    """Address of a database without any tenant."""
    yield from clone(server, template)


@pytest.fixture
def cli(dsn: str) -> Run:
    """Run a command line on the shop's database."""
    return partial(command_line, dsn)


@pytest.fixture
def ok(cli: Run) -> Run:
    """Like `cli`, for what must succeed."""

    def run(*args: str, stdin: str | bytes | None = None) -> Result:
        result = cli(*args, stdin=stdin)
        assert result.exit_code == 0, result
        return result

    return run


def sql(dsn: str, statement: str) -> list[asyncpg.Record]:
    """Run a statement as the superuser."""

    async def run() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def digest(dsn: str) -> str:
    """Digest of every row of every table: two equal ones mean that nothing changed."""
    tables = sql(
        dsn,
        "SELECT relname FROM pg_class WHERE relnamespace = 'cerniq'::regnamespace"
        " AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname",
    )
    content = [
        sql(dsn, f"SELECT t::text AS row FROM {table['relname']} AS t ORDER BY 1")
        for table in tables
    ]
    return sha256(repr(content).encode()).hexdigest()
