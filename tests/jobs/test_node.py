"""Real Node BullMQ producers and consumers, unchanged, against our worker and queue."""

import asyncio
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from cerniq_stock.domain.commands import Item
from cerniq_stock.errors import UnavailableError
from cerniq_stock.jobs import catalogue
from tests.jobs.conftest import Town, on_bullmq
from tests.jobs.redis_server import RedisServer, program

HERE = Path(__file__).parent / "node"
INSTALL_S = 120


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts with their BullMQ from npm beside them."""
    if shutil.which("npm") is None or program() is None:
        pytest.skip("no Node with npm, or no Redis, on this machine")
    folder = tmp_path_factory.mktemp("node")
    for path in HERE.iterdir():
        shutil.copy(path, folder)
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=folder,
        capture_output=True,
        timeout=INSTALL_S,
        check=False,
    )
    if installed.returncode:
        pytest.skip("npm cannot reach its registry from here")
    return folder


async def node(folder: Path, script: str, asked: dict[str, Any]) -> Any:
    process = await asyncio.create_subprocess_exec(
        *("node", script, json.dumps(asked)), cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(out)


async def test_a_node_producer(town: Town, redis: RedisServer, scripts: Path, monkeypatch) -> None:
    order = uuid4()
    await town.stock.create_order(town.tenant, order, [Item("B", 5)])
    product = (await town.stock.availability(town.tenant, ["A"]))["A"].product_id
    kind = catalogue.CATALOGUE["stock:deduct:delivered"]
    tries = []

    async def fails_twice(running, asked):
        tries.append(asyncio.get_running_loop().time())
        await running.progress({"tries": len(tries)})
        if len(tries) < 3:
            raise UnavailableError("not now")
        return await kind.handler(running, asked)

    monkeypatch.setitem(catalogue.CATALOGUE, kind.name, replace(kind, handler=fails_twice))
    async with on_bullmq(town, redis.url) as moved, moved.working():
        told = await node(
            scripts,
            "producer.cjs",
            {
                "port": redis.port,
                "tenantId": str(town.tenant),
                "negotiationId": str(town.negotiation),
                "orderId": str(order),
                "productId": str(product),
            },
        )
    assert told["create"]["result"]["status"] == "ACTIVE"
    assert told["create"]["result"]["items"][0]["reservedQuantity"] == 2
    assert told["delayed"]["result"]["success"]
    assert told["delayedMs"] >= 1000
    assert told["removed"]
    assert told["sameId"]
    assert told["once"]["result"]["success"]
    assert told["bad"]["error"].startswith("INVALID_PAYLOAD: negotiationId")
    assert told["release"]["result"]["newStatus"] == "RELEASED"
    assert told["stock:reserve:order"]["result"]["reserved"] is True
    delivered = told["stock:deduct:delivered"]
    assert delivered["result"]["status"] == "DELIVERED"
    assert delivered["progress"] == [{"tries": 1}, {"tries": 2}, {"tries": 3}]
    assert tries[1] - tries[0] >= 0.2
    assert tries[2] - tries[1] >= 0.4
    assert told["stock:release:order"]["result"]["warnings"]
    # create, delayed, once; the first was released
    assert await town.available("A") == 46
    assert await town.available("B") == 45
    assert (await town.stock.verify()).ok


async def test_a_node_consumer(town: Town, redis: RedisServer, scripts: Path) -> None:
    async with on_bullmq(town, redis.url) as moved:
        (id_,) = await moved.add(moved.reserve())
        asked = {"port": redis.port, "queue": "stock-reserve-create"}
        told = await node(scripts, "consumer.cjs", asked)
        (job,) = await moved.ended(id_)
    assert told["name"] == "stock:reserve:create"
    assert told["data"] == job.payload
    assert told["attempts"] == 3
    assert job.result == told
    assert job.progress == {"half": True}
