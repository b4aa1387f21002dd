"""The process to be killed: one engine, some two dozen callers, one log.

`python -m tests.faults.client '{"number": 1, …}'` runs one by hand; the drivers start theirs
through the nursery, which has everything imported already.
"""

import asyncio
import json
import os
import random
import signal
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from cerniq_stock.errors import CerniqError
from cerniq_stock.service import Stock
from cerniq_stock.store.writer import Limits
from cerniq_stock.wiring import open_stock
from tests.faults.intents import Intent, Log, Story, Told, send
from tests.faults.shop import Shop, World

DIE_AT_COMMIT = signal.SIGUSR1
DIE_AT_ANSWER = signal.SIGUSR2
RETRY_DELAY_S = 0.05
ORPHAN_CHECK_S = 0.5


@dataclass(frozen=True)
class Orders:
    """What a client is started with.

    `inherits` is the log of the client it follows; with `repeats` it first asks again whatever
    that one never heard the answer of. `reconnect_s` is how long its engine waits for the
    database before it says that the outcome is unknown.
    """

    number: int
    dsn: str
    folder: str
    seed: int
    callers: int
    world: World
    inherits: str | None = None
    repeats: bool = False
    reconnect_s: float = field(default=15.0)

    @property
    def log(self) -> Path:
        return Path(self.folder) / f"client-{self.number:05d}.jsonl"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"world": self.world._asdict()}

    @classmethod
    def from_json(cls, orders: dict[str, Any]) -> "Orders":
        return cls(**{**orders, "world": World(**orders["world"])})


class Death:
    """Lets a process die by its own SIGKILL at one of the two moments that a driver cannot hit.

    At *commit*: COMMIT is on its way, its reply is not read. At *answer*: the answer is known and
    not written down. Both leave outcomes behind that nobody knows and that did take effect.
    """

    def __init__(self) -> None:
        self._at: signal.Signals | None = None

    def arm(self, at: signal.Signals) -> None:
        self._at = at

    def come(self, at: signal.Signals) -> None:
        if self._at is at:
            os.kill(os.getpid(), signal.SIGKILL)

    def wait_at_commit(self) -> None:
        """Stand behind every COMMIT of this process."""
        execute = asyncpg.Connection.execute

        async def mortal(connection: Any, query: str, *args: Any, **kwargs: Any) -> str:
            asked = asyncio.ensure_future(execute(connection, query, *args, **kwargs))
            if query == "COMMIT":
                await asyncio.sleep(0)  # it is written to the socket in the first step
                self.come(DIE_AT_COMMIT)
            return await asked

        connections: Any = asyncpg.Connection
        connections.execute = mortal


class Client:
    """Callers around one engine, one shop and one log."""

    def __init__(self, orders: Orders, stock: Stock, log: Log, death: Death) -> None:
        self._stock = stock
        self._death = death
        self._log = log
        self._stopping = False
        rng = random.Random(f"{orders.seed}/{orders.number}")
        self._shop = Shop(orders.world, f"c{orders.number:05d}", rng)
        self._todo: list[Intent] = []
        if orders.inherits is not None:
            before = Story().read(Path(orders.inherits))
            self._shop.inherit(before)
            self._todo += before.unknown if orders.repeats else []
        self._todo += self._shop.openings()

    def stop(self) -> None:
        """Let each caller finish what it is at."""
        self._stopping = True

    async def serve(self, callers: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(self._call())

    async def _call(self) -> None:
        while not self._stopping:
            intent = self._todo.pop() if self._todo else self._shop.next()
            await self._log.intend(intent)
            told = await self._until_definite(intent)
            if told is not None:
                self._death.come(DIE_AT_ANSWER)
                await self._log.hear(intent.key, told)
                self._shop.learn(intent, told)

    async def _until_definite(self, intent: Intent) -> Told | None:
        """Ask until the outcome is known. None is a command that failed: see the verdict."""
        while True:
            try:
                return await send(self._stock, intent)
            except CerniqError as error:
                await self._log.trouble(intent.key, error.code)
                if not error.retryable:
                    return None
            await asyncio.sleep(RETRY_DELAY_S)


def _end_with_parent(parent: int) -> None:
    if os.getppid() != parent:
        os._exit(1)
    asyncio.get_running_loop().call_later(ORPHAN_CHECK_S, _end_with_parent, parent)


async def _run(orders: Orders) -> None:
    limits = Limits(reconnect_s=orders.reconnect_s)
    death = Death()
    death.wait_at_commit()
    async with (
        open_stock(orders.dsn, limits=limits, sweep=False) as stock,
        Log(orders.log) as log,
    ):
        client = Client(orders, stock, log, death)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, client.stop)
        for at in (DIE_AT_COMMIT, DIE_AT_ANSWER):
            loop.add_signal_handler(at, death.arm, at)
        _end_with_parent(os.getppid())
        await client.serve(orders.callers)


def run(orders: Orders) -> None:
    """Work until SIGTERM, or until killed."""
    asyncio.run(_run(orders))


if __name__ == "__main__":
    run(Orders.from_json(json.loads(sys.argv[1])))
