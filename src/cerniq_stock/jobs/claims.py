"""How a worker claims: in batches, of each kind so many ahead, as fast as a kind's rate allows."""

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from cerniq_stock.jobs import tickets
from cerniq_stock.jobs.driver import PoolDriver
from cerniq_stock.jobs.rates import Rates
from cerniq_stock.store.trouble import LOST

LOOK_AGAIN_S = 0.05
"""While some kinds have no room the others are looked at so often."""
NO_TOKEN_PAUSE_S = 0.1
RETRY_DELAY_S = 0.5


class Claims:
    """What a worker has claimed and not finished, by kind.

    `most` of a kind are claimed ahead, so one whose handlers hang leaves the others their room.
    Claims are `pause_s` apart. With `rates` all kinds are of limited rate, and there is only one.
    """

    def __init__(
        self,
        stopping: asyncio.Event,
        *,
        most: int | None = None,
        pause_s: float = 0.0,
        rates: Rates | None = None,
    ) -> None:
        self.stopping = stopping
        self.rates = rates
        self._most = most
        self._pause_s = pause_s
        self._claimed_at = 0.0
        self._open: Counter[str] = Counter()
        self._changed = asyncio.Event()

    def begun(self, kind: str) -> None:
        """Note that a job has come."""
        self._open[kind] += 1

    def ended(self, kind: str) -> None:
        """Note that a job is done with."""
        self._open[kind] -= 1
        self._changed.set()

    def room(self, kind: str, batch: int) -> int:
        """How many of a kind may be claimed, a batch at most."""
        return batch if self._most is None else max(0, min(batch, self._most - self._open[kind]))

    def has_room(self, kind: str, batch: int) -> bool:
        """Tell whether a whole batch of a kind may be claimed."""
        return self.room(kind, batch) == batch

    async def pause(self) -> None:
        """Wait until the last claim is long enough ago."""
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._claimed_at + self._pause_s - clock()))
        self._claimed_at = clock()

    async def more_room(self, kinds: set[str], batch: int) -> None:
        """Wait until one of these kinds has room again, but not for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN_S):
                while not any(self.has_room(kind, batch) for kind in kinds):
                    self._changed.clear()
                    await self._changed.wait()


def claiming_queries(pool: Any, claims: Claims) -> Queries:
    """PgQueuer on a pool, claiming as `claims` says."""
    driver = PoolDriver(pool)
    return _Claiming(driver, **tickets.builders(), claims=claims, listening=driver.listening)


@dataclass
class _Claiming(Queries):
    claims: Claims = field(kw_only=True)
    listening: asyncio.Event = field(kw_only=True)

    async def notify_health_check(self, health_check_event_id: Any) -> None:
        """Probe who listens. PgQueuer's first probe may come before anybody does.

        It would be lost, and ten seconds later the manager would start anew, and claim nothing
        until the last of its jobs had ended.
        """
        await self.listening.wait()
        await super().notify_health_check(health_check_event_id)

    async def dequeue(
        self, batch_size: int, entrypoints: dict[Any, Any], *args: Any, **rest: Any
    ) -> list[Job]:
        await self.claims.pause()
        if self.claims.rates is not None:
            (name,) = entrypoints
            return await self._at_rate(self.claims.rates, name, batch_size, entrypoints, **rest)
        while not self.claims.stopping.is_set():
            ready = {k: v for k, v in entrypoints.items() if self.claims.has_room(k, batch_size)}
            if ready:
                jobs = await super().dequeue(batch_size, ready, *args, **rest)
                if jobs or len(ready) == len(entrypoints):
                    return jobs
            await self.claims.more_room(entrypoints.keys() - ready.keys(), batch_size)
        return []

    async def _at_rate(
        self, rates: Rates, name: str, batch_size: int, entrypoints: dict[Any, Any], **rest: Any
    ) -> list[Job]:
        """Claim no more than there are tokens."""
        most = self.claims.room(name, batch_size)
        tokens = await rates.take(name, most) if most else 0
        if tokens <= 0:
            await asyncio.sleep(NO_TOKEN_PAUSE_S)
            return []
        claimed = 0
        try:
            jobs = await super().dequeue(tokens, entrypoints, **rest)
            claimed = len(jobs)
            return jobs
        finally:
            await rates.give_back(name, tokens - claimed)

    async def retry_job(self, job: Job, *args: Any, **rest: Any) -> None:
        """Put a job back, over outages: PgQueuer would drop its ticket at the first."""
        while True:
            try:
                return await super().retry_job(job, *args, **rest)
            except (*LOST, asyncpg.PostgresError, TimeoutError):
                if self.claims.stopping.is_set():
                    raise
                await asyncio.sleep(RETRY_DELAY_S)
