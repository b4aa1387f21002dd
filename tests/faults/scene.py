"""Where it happens: a server of our own with full durability, a database, something to trade."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

from cerniq_stock.domain.model import Unit
from cerniq_stock.store import embedded
from cerniq_stock.store.catalog import NewProduct, NewTenant
from cerniq_stock.store.database import connect, create_database
from cerniq_stock.store.migrate import migrate
from cerniq_stock.wiring import open_stock
from tests.faults.intents import Intent, Story, send
from tests.faults.shop import World

DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
TENANTS = 2
WAREHOUSES = ["MAIN", "SECOND"]
OPENING = 300


class NotDurableError(Exception):
    """The server may lose what it has acknowledged: what is tested on it proves nothing."""


class Scene(NamedTuple):
    """One database on one server of ours, and the folder that the logs go to."""

    folder: Path
    data_dir: Path
    dsn: str
    world: World
    opening: Story


@contextmanager
def server_folder(*, keep: bool = False) -> Iterator[Path]:
    """A folder for a server's data and the logs; the server ends, the rest goes unless kept.

    It lies in the system's temporary folder itself, where the unprivileged account that runs the
    server for root can enter it.
    """
    folder = Path(tempfile.gettempdir()) / f"cerniq-faults-{uuid4().hex[:12]}"
    folder.mkdir(mode=0o755)
    try:
        yield folder
    finally:
        embedded.stop(folder / "pg", "immediate")
        if not keep:
            shutil.rmtree(folder)


async def require_durable(dsn: str) -> None:
    """Refuse a server that may lose what it has acknowledged. Raises NotDurableError."""
    connection = await connect(dsn)
    try:
        refuse_settings({name: await connection.fetchval(f"SHOW {name}") for name in DURABLE})
    finally:
        await connection.close()


def refuse_settings(found: Mapping[str, str]) -> None:
    """Raise NotDurableError unless all that durability hangs on is switched on."""
    off = [f"{name}={found.get(name)}" for name in DURABLE if found.get(name) != "on"]
    if off:
        raise NotDurableError(f"the server does not keep what it acknowledges: {', '.join(off)}")


def make_scene(folder: Path, name: str) -> Scene:
    """Start the server if need be and fill a database of that name."""
    data_dir = folder / "pg"
    logs = folder / name
    logs.mkdir()
    server = embedded.start(data_dir)
    return asyncio.run(_fill(server, data_dir, logs, name))


async def _fill(server: str, data_dir: Path, logs: Path, name: str) -> Scene:
    dsn = await create_database(server, name)
    await migrate(dsn)
    await require_durable(dsn)
    world = World(
        tenants=[str(uuid4()) for _ in range(TENANTS)],
        warehouses=WAREHOUSES,
        whole=[f"BUC-{n}" for n in range(1, 7)],
        fractional=[f"KG-{n}" for n in range(1, 4)],
    )
    products = [
        *(NewProduct(sku, f"Product {sku}", unit=Unit.BUC) for sku in world.whole),
        *(NewProduct(sku, f"Product {sku}", unit=Unit.KG) for sku in world.fractional),
    ]
    story = Story()
    async with open_stock(dsn, sweep=False) as stock:
        for tenant in world.tenants:
            id_ = UUID(tenant)
            await stock.create_tenant(NewTenant("Faults", id_, warehouses=tuple(WAREHOUSES)))
            await stock.import_products(id_, products)
            for sku in world.skus:
                for place in WAREHOUSES:
                    args = {"sku": sku, "quantity": str(OPENING), "warehouse": place}
                    key = f"opening-{place}-{sku}-{tenant[:8]}"
                    intent = Intent(key, "receive", tenant, args)
                    story.intend(intent, time.time())
                    story.hear(key, await send(stock, intent))
    return Scene(logs, data_dir, dsn, world, story)
