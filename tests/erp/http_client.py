"""A client with a clock that is told, and what its tests have in common."""

import asyncio

from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.http import (
    Clock,
    ErpClient,
    Retry,
)
from tests.erp.http_server import Answer

MEGABYTE = 1024 * 1024
ONCE = Retry(attempts=1)
OK = Answer({"ok": True})
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class Told:
    """A clock that only moves when somebody sleeps."""

    def __init__(self):
        self.now = 1_700_000_000.0
        self.sleeps = []

    async def sleep(self, seconds):
        self.sleeps.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def clock(self):
        return Clock(lambda: self.now, lambda: self.now, self.sleep, lambda: 1.0)


def client(server, told=None, path="", **options):
    policy = Policy.parse(f"127.0.0.1:{server.port}")
    clock = (told or Told()).clock()
    return ErpClient(server.url + path, policy, clock=clock, **options)
