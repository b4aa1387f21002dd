"""A process is killed in the middle of applying: nothing is half there, and nothing comes twice.

The last level is locked by the test, so that the process cannot be done before it is killed.
"""

import asyncio
import os
import signal
import sys
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from cerniq_stock.erp.fakes.rest import FakeRest
from cerniq_stock.errors import UnavailableError
from cerniq_stock.jobs.pg_queue import PostgresQueue
from cerniq_stock.jobs.port import JobState, NewJob
from cerniq_stock.store.database import create_pool
from tests.sync.whole import Whole, ours, whole

PRODUCTS = 5_000
SKUS = [f"SKU-{number:05}" for number in range(PRODUCTS)]
STEP = Decimal(3)
"""What the ERP receives of each product."""
ENDED = {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}

_LEVELS = """
SELECT p.sku, l.total, e.erp_total FROM stock_levels AS l
JOIN products AS p ON p.tenant_id = l.tenant_id AND p.id = l.product_id
JOIN erp_levels AS e ON e.tenant_id = l.tenant_id AND e.product_id = l.product_id
    AND e.warehouse = l.warehouse
"""
_MOVED = """
SELECT sku, total_delta FROM stock_movements WHERE type = 'SYNC' AND reference_id <> $1
"""


@dataclass(frozen=True)
class Found:
    """Totals, what is remembered of the ERP's, and the SYNC movements since the first snapshot."""

    totals: dict[str, Decimal]
    remembered: dict[str, Decimal]
    moved: list[tuple[str, Decimal]]

    @property
    def touched(self) -> set[str]:
        return {sku for sku, _ in self.moved}


def wrong(before: dict[str, Decimal], found: Found) -> list[str]:
    """What cannot be if every level is old and untold, or new, remembered and told once."""
    told = Counter(sku for sku, _ in found.moved)
    faults = [f"{sku}: {times} movements" for sku, times in told.items() if times > 1]
    faults += [f"{sku}: moved by {delta}" for sku, delta in found.moved if delta != STEP]
    for sku, old in before.items():
        expected = old + STEP if sku in told else old
        if found.totals.get(sku) != expected:
            faults.append(f"{sku}: total {found.totals.get(sku)}, not {expected}")
        if found.remembered.get(sku) != expected:
            faults.append(f"{sku}: remembered {found.remembered.get(sku)}, not {expected}")
    return faults


@dataclass
class Scene:
    place: Whole
    fake: FakeRest
    before: dict[str, Decimal]
    first: str

    async def found(self) -> Found:
        rows = await self.place.owner.fetch(_LEVELS)
        moved = await self.place.owner.fetch(_MOVED, self.first)
        return Found(
            {x["sku"]: x["total"] for x in rows},
            {x["sku"]: x["erp_total"] for x in rows},
            [tuple(x) for x in moved],
        )

    @asynccontextmanager
    async def started(self, *args: str) -> Any:
        """A process of ours with this command line; whatever happens, it is dead afterwards."""
        given = self.place.settings
        assert given.secret_keys is not None
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from cerniq_stock.cli import main; main()", *args),
            stdout=asyncio.subprocess.DEVNULL,
            env={
                **os.environ,
                "CERNIQ_DATABASE_URL": self.place.dsn,
                "CERNIQ_TENANT_ID": str(self.place.tenant),
                "CERNIQ_SECRET_KEYS": given.secret_keys.get_secret_value(),
                "CERNIQ_ERP_ALLOWED_HOSTS": given.erp_allowed_hosts,
                "CERNIQ_LOG_LEVEL": "ERROR",
            },
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def killed_in_the_middle(self, *args: str) -> None:
        """Run a command until its first movements are committed, and kill it."""
        async with self.last_level_locked(), self.started(*args) as process:
            async with asyncio.timeout(60):
                while not await self.place.owner.fetch(_MOVED + " LIMIT 1", self.first):
                    assert process.returncode is None, "it ended by itself"
                    await asyncio.sleep(0.005)
            process.kill()
            assert await process.wait() == -signal.SIGKILL
        half = await self.found()
        assert 0 < len(half.touched) < PRODUCTS
        assert wrong(self.before, half) == []
        assert (await self.place.stock.verify()).ok

    @asynccontextmanager
    async def last_level_locked(self) -> Any:
        other = await asyncpg.connect(self.place.dsn, server_settings={"search_path": "cerniq"})
        try:
            async with other.transaction():
                await other.execute(
                    "SELECT 1 FROM stock_levels ORDER BY product_id DESC, warehouse DESC LIMIT 1"
                    " FOR UPDATE"
                )
                yield
        finally:
            await other.close()

    async def all_there_once(self) -> None:
        found = await self.found()
        assert wrong(self.before, found) == []
        assert found.touched == set(SKUS)
        assert await self.place.figures() == ours(self.fake)
        report = await self.place.stock.verify()
        assert report.ok, report


@pytest.fixture
async def scene(database):
    async with FakeRest() as fake, whole(database, fake, skus=SKUS) as place:
        for number, sku in enumerate(SKUS):
            fake.received(sku, Decimal(number % 50 + 1))
        await place.connect(fake.settings())
        await place.owner.execute("ANALYZE products")  # as autovacuum has done a minute later
        first = await place.sync()
        await place.owner.execute("ANALYZE")
        for sku in SKUS:
            fake.received(sku, STEP)
        scene = Scene(place, fake, {}, first.sync_id)
        yield Scene(place, fake, (await scene.found()).totals, first.sync_id)


async def test_a_killed_command_is_run_again(scene):
    await scene.killed_in_the_middle("erp", "sync", "CUSTOM_API", "--full")
    result = await _turn_of(scene)
    assert 0 < result.statistics.products_updated < PRODUCTS, "only what was left"
    assert (result.conflicts, result.errors) == ((), ())
    await scene.all_there_once()
    again = await scene.place.sync()
    assert again.statistics.products_updated == 0


async def test_what_is_sold_between_the_two_runs_stays_sold(scene):
    """A level that the dead run has moved is sold from: the next run does not put that back."""
    await scene.killed_in_the_middle("erp", "sync", "CUSTOM_API", "--full")
    touched = min((await scene.found()).touched)
    await scene.place.stock.adjust(scene.place.tenant, touched, total=-1)
    await _turn_of(scene)
    found = await scene.found()
    assert found.totals[touched] == scene.before[touched] + STEP - 1
    assert found.touched == set(SKUS)
    assert len(found.moved) == PRODUCTS
    assert (await scene.place.stock.verify()).ok


async def test_the_job_of_a_killed_worker_is_taken_over(scene):
    place = scene.place
    worker = "worker", "--no-schedules", "--metrics-port", "0", "-q"
    payload = {"tenantId": str(place.tenant), "erpSystem": "CUSTOM_API", "syncType": "FULL"}
    async with create_pool(place.dsn, "cerniq_app", max_size=1) as app:
        queue = PostgresQueue(app)
        (id_,) = await queue.add(place.tenant, [NewJob(name="stock:sync:erp", payload=payload)])
        await scene.killed_in_the_middle(*worker)
        assert (await queue.get(place.tenant, id_)).state not in ENDED
        async with scene.started(*worker) as second:
            async with asyncio.timeout(90):
                while (job := await queue.get(place.tenant, id_)).state not in ENDED:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.02)
            second.send_signal(signal.SIGTERM)
            assert await second.wait() == 0
    assert (job.state, job.error) == (JobState.COMPLETED, None)
    assert 0 < job.result["statistics"]["productsUpdated"] < PRODUCTS
    await scene.all_there_once()
    assert (await place.logged()).status == "SUCCESS"


async def _turn_of(scene: Scene) -> Any:
    """Sync as soon as the server has noticed that the other one is dead."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await scene.place.sync()
            except UnavailableError:
                await asyncio.sleep(0.01)


BEFORE = {"A": Decimal(1), "B": Decimal(2)}
SOUND = Found({"A": Decimal(4), "B": Decimal(2)}, {"A": Decimal(4), "B": Decimal(2)}, [("A", STEP)])


@pytest.mark.parametrize(
    ("totals", "remembered", "moved"),
    [
        ({}, {}, [("A", STEP), ("A", STEP)]),
        ({"A": Decimal(7)}, {}, [("A", STEP), ("A", STEP)]),
        ({"A": Decimal(5)}, {}, [("A", Decimal(4))]),
        ({"A": Decimal(1)}, {}, [("A", STEP)]),
        ({}, {"A": Decimal(1)}, [("A", STEP)]),
        ({}, {}, []),
        ({"B": Decimal(5)}, {}, [("A", STEP)]),
        ({}, {"B": Decimal(5)}, [("A", STEP)]),
    ],
    ids=[
        *("twice told", "twice applied", "too much", "told, not applied", "not remembered"),
        *("applied, not told", "another one", "remembered, not applied"),
    ],
)
def test_what_is_doubled_or_half_is_seen(totals, remembered, moved):
    """Negative control of the oracle."""
    assert wrong(BEFORE, SOUND) == []
    doctored = Found({**SOUND.totals, **totals}, {**SOUND.remembered, **remembered}, moved)
    assert wrong(BEFORE, doctored)
