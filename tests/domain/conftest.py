"""Every decision table runs three times: one by one, as one batch, and on PostgreSQL."""

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from cerniq_stock.store.begin import PREPARE
from cerniq_stock.store.database import KEY_LOOKUPS, connect, create_database
from tests.domain.script import Postgres, Pure
from tests.domain.script import check as check_table


@pytest.fixture(scope="session")
async def postgres(server: str, template: str) -> AsyncIterator[Postgres]:
    """One database for all tables: each table is a tenant of its own."""
    dsn = await create_database(server, "test_tables", template=template)
    app = await connect(dsn, settings=KEY_LOOKUPS)
    await app.execute(PREPARE)
    superuser = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
    yield Postgres(app, superuser)
    await app.close()
    await superuser.close()


@pytest.fixture(params=["one by one", "one batch", "postgres"])
def check(request: pytest.FixtureRequest) -> Callable[[str], Awaitable[None]]:
    """Run a decision table against one of the engines."""
    if request.param == "postgres":
        engine = request.getfixturevalue("postgres")
    else:
        engine = Pure(batched=request.param == "one batch")
    return lambda table: check_table(engine, table)
