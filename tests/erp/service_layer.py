"""Sessions with a fake Service Layer."""

from contextlib import asynccontextmanager

from cerniq_stock.erp.config import read_config
from cerniq_stock.erp.fakes.base import FakeClock, Reply
from cerniq_stock.erp.fakes.sap_b1 import FakeSapB1
from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.http import Retry
from cerniq_stock.erp.sap_b1_session import SapB1Connection, open_sap_b1
from cerniq_stock.erp.session import Dial

PASSWORD = "canary-sap-password"
BUSY = Reply(None, 503)


def fake(**options):
    server = FakeSapB1(FakeClock(), **options)
    server.item("A-001", price="0.35", currency="RON")
    server.received("A-001", "120")
    server.ordered("A-001", "30")
    server.received("A-001", "20", "02")
    server.item("O'Ring & co/5% +1")
    server.received("O'Ring & co/5% +1", "7.5")
    server.item("SERVICE", InventoryItem="tNO")
    return server


def many(count=45, **options):
    server = FakeSapB1(FakeClock(), **options)
    for number in range(count):
        server.item(f"P-{number:03}")
        server.received(f"P-{number:03}", str(number + 1))
    return server


@asynccontextmanager
async def opened(server, config=None, retry=None, **given):
    settings = {"base_url": server.url, "company_db": "SBODEMO", "user_name": "manager"}
    connection = SapB1Connection(**{**settings, "password": PASSWORD, **given})
    policy = Policy.parse(f"127.0.0.1:{server.port}")
    dial = Dial(policy, clock=server.clock.clock(), retry=retry or Retry())
    async with open_sap_b1(connection, dial, read_config(config or {})) as source:
        yield source


async def read(pages):
    return [row async for page in pages for row in page.rows]


def figures(rows):
    return {(row.sku, row.warehouse): (row.total, row.available) for row in rows}


def asked(server, path):
    return [request for request in server.requests if path in request.path]
