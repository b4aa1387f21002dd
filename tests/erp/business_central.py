"""Sessions with a fake Business Central, and somebody who receives its notifications."""

from contextlib import asynccontextmanager

from cerniq_stock.erp.config import read_config
from cerniq_stock.erp.fakes.base import FakeClock, FakeServer, Reply
from cerniq_stock.erp.fakes.microsoft_bc import FakeMicrosoftBc
from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.microsoft_bc_session import (
    MicrosoftBcConnection,
    open_microsoft_bc,
)
from cerniq_stock.erp.microsoft_bc_webhooks import (
    handshake_answer,
    subscribe,
)
from cerniq_stock.erp.session import Dial

STRANGE = "O'RING & 5% +1"


def fake(count=6, **options):
    server = FakeMicrosoftBc(FakeClock(), **options)
    for number in range(count):
        server.received(f"P-{number:03}", str(number + 1))
    server.item("TRANSPORT", kind="Service")
    # what is newest is no stock, so the overlap brings nothing of that day again
    server.clock.now += 86_400
    server.edited("TRANSPORT")
    return server


@asynccontextmanager
async def opened(server, config=None, **given):
    connection = MicrosoftBcConnection(**{**server.settings(), **given})
    dial = Dial(Policy.parse(f"127.0.0.1:{server.port}"), clock=server.clock.clock())
    async with open_microsoft_bc(connection, dial, read_config(config or {})) as source:
        yield source


async def read(pages):
    return [row async for page in pages for row in page.rows]


async def skus(pages):
    return [row.sku for row in await read(pages)]


def asked(server, path):
    return [request for request in server.requests if path in request.path]


async def whole(source):
    """Read everything and return the mark from there."""
    await read(source.everything())
    return source.watermark


class Receiver(FakeServer):
    """Where notifications go: shakes hands, and answers `status`."""

    status = 202
    shakes = True

    async def answer(self, request):
        token = handshake_answer(request.query)
        if token is not None:
            return Reply(token if self.shakes else "no", 200)
        return Reply(None, self.status)

    @property
    def told(self):
        return [one.body for one in self.requests if "validationToken" not in one.query]


@asynccontextmanager
async def subscribed(**options):
    async with fake(**options) as server, Receiver() as receiver, opened(server) as source:
        subscription = await subscribe(source, f"{receiver.url}/hook")
        server.changes.clear()
        yield server, receiver, source, subscription
