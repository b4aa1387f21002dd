"""A session with a fake, by a clock that both of them have."""

from contextlib import asynccontextmanager

from cerniq_stock.erp.config import read_config
from cerniq_stock.erp.connection import open_source
from cerniq_stock.erp.fakes.base import FakeClock
from cerniq_stock.erp.gather import gather
from cerniq_stock.erp.guard import Policy


@asynccontextmanager
async def session(system, fake, *, config=None, also=(), **settings):
    """Open a session; `settings` come on top of the fake's own, None takes one away."""
    given = {k: v for k, v in {**fake.settings(), **settings}.items() if v is not None}
    policy = Policy.parse(" ".join(f"127.0.0.1:{server.port}" for server in (fake, *also)))
    clock = (fake.clock or FakeClock()).clock()
    async with open_source(system, given, policy, read_config(config or {}), clock=clock) as source:
        yield source


async def pages(iterator):
    return [page async for page in iterator]


async def figures(iterator):
    """Totals by product and warehouse."""
    rows = gather(await pages(iterator)).rows
    return {(row.sku, row.warehouse): str(row.total.normalize()) for row in rows}
