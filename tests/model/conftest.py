import asyncio
from collections.abc import Iterator

import pytest

from cerniq_stock.store.database import create_database, drop_database
from tests.model.machine import Bench, Machine


@pytest.fixture
def bench(server: str, template: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """One database for all examples: each of them makes two tenants of its own."""
    dsn = asyncio.run(create_database(server, "test_model", template=template))
    Machine.bench = bench = Bench(dsn, monkeypatch)
    yield bench
    bench.close()
    asyncio.run(drop_database(server, "test_model"))
