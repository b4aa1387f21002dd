"""Two ERPs of the merchant of the replay: an Oblio on a socket of this machine, and a file."""

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg

from cerniq_stock.demo.replay import TENANT_ID
from cerniq_stock.demo.tour import Show
from cerniq_stock.domain.messages import plain
from cerniq_stock.domain.sync import Strategy
from cerniq_stock.erp.fakes.oblio import FakeOblio
from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.rows import SystemName
from cerniq_stock.erp.secrets import new_key, read_keys
from cerniq_stock.integrations import Integrations
from cerniq_stock.service import Stock
from cerniq_stock.store.database import create_pool
from cerniq_stock.sync.result import Asked, SyncResult, SyncType
from cerniq_stock.sync.review import Resolution
from cerniq_stock.sync.syncs import Syncs

EGG_HOUSE, HEART, CAKE_STAND = "22283", "85123A", "22423"
"""In Oblio: one that was out of stock all the time, and two that were sold every day."""
DEPOT = "Depozit"
FILE = "stoc.csv"
FIGURES = {"22633": "1.200,00", "22469": "60", "22910": "12 buc"}
"""In the file: three that were sold out, as a Romanian spreadsheet writes figures."""
RECEIVED = Decimal(48)
"""Cake stands that came in, in Oblio only."""


class Erps:
    """The merchant's two ERPs. `erps` makes it, before anything is sold."""

    def __init__(self, stock: Stock, syncs: Syncs, oblio: FakeOblio, files: Path) -> None:
        self._stock = stock
        self._syncs = syncs
        self._oblio = oblio
        self._files = files

    async def agree(self, opening: Mapping[str, int]) -> SyncResult:
        """Let Oblio tell the opening stock, which is the one that is here."""
        for sku in (EGG_HOUSE, HEART, CAKE_STAND):
            self._oblio.received(sku, Decimal(opening[sku]), DEPOT)
        return await self._sync_oblio()

    async def walk(self, show: Show, before: SyncResult) -> None:
        """Show syncs after the trade; `before` is what `agree` has returned."""
        full = "erp sync OBLIO --full"
        skus = f"{EGG_HOUSE}, {HEART}, {CAKE_STAND}"
        show(f"Before the five days Oblio told the stock of {skus}", full, _short(before))
        here, there = await self._both(HEART)
        title = f"{HEART}: {here} here, {there} in Oblio, which knows no sale yet: no conflict"
        show(title, full, _short(await self._sync_oblio()))
        self._oblio.received(EGG_HOUSE, "24", DEPOT)
        show(f"{EGG_HOUSE}: came in, in Oblio only", full, _short(await self._sync_oblio()))
        await self._disagree(show)
        await self._try_a_file(show)

    async def _disagree(self, show: Show) -> None:
        self._oblio.received(CAKE_STAND, RECEIVED, DEPOT)
        both = await self._sync_oblio(Strategy.MANUAL)
        title = f"{CAKE_STAND}: sold here and received in Oblio, so a person decides"
        show(title, "erp sync OBLIO --full --strategy manual", both.conflicts)
        (conflict,) = await self._syncs.review.conflicts(TENANT_ID)
        value, by, because = conflict.local_value + RECEIVED, "gestionar", "numărat la raft"
        decided = await self._syncs.review.resolve(
            TENANT_ID, conflict.id, Resolution.SET_VALUE, value=value, by=by, because=because
        )
        call = f"erp resolve {conflict.id} set-value --value {plain(value)}"
        show("… and says why", f"{call} --by {by} --because '{because}'", decided)

    async def _try_a_file(self, show: Show) -> None:
        """Three that were sold out have come in; of one nobody can tell how many."""
        _write_file(self._files)
        asked = Asked(kind=SyncType.FULL, dry=True)
        dry = await self._syncs.run(TENANT_ID, SystemName.CSV_IMPORT, asked)
        told = "; ".join(FIGURES.values())
        title = f"A file ({told}) is tried: the row in error leaves its stock alone"
        show(title, "erp sync CSV_IMPORT --full --dry-run", _short(dry))
        done = await self._syncs.apply(TENANT_ID, dry.sync_id)
        show("… and applied by its id", f"erp apply {dry.sync_id}", _short(done))

    async def _sync_oblio(self, strategy: Strategy | None = None) -> SyncResult:
        asked = Asked(kind=SyncType.FULL, strategy=strategy)
        return await self._syncs.run(TENANT_ID, SystemName.OBLIO, asked)

    async def _both(self, sku: str) -> tuple[str, str]:
        here = (await self._stock.availability(TENANT_ID, [sku]))[sku].total
        return plain(here), plain(self._oblio.figures()[sku, DEPOT][0])


@asynccontextmanager
async def erps(stock: Stock) -> AsyncIterator[Erps]:
    """Give the merchant of the replay an Oblio and a file, for as long as the block lasts."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        async with (
            FakeOblio() as oblio,
            create_pool(stock.dsn, "cerniq_app", max_size=4) as app,
            create_pool(stock.dsn, "cerniq_operator", max_size=1) as operator,
        ):
            integrations = _integrations(app, operator, oblio, files)
            await _connect(integrations, oblio)
            yield Erps(stock, Syncs(stock.dsn, app, integrations), oblio, files)


def _integrations(
    app: asyncpg.Pool, operator: asyncpg.Pool, oblio: FakeOblio, files: Path
) -> Integrations:
    keys = read_keys(new_key("demo"))
    policy = Policy.parse(f"127.0.0.1:{oblio.port}")
    return Integrations(app, operator, keys=lambda: keys, policy=policy, files=files)


async def _connect(integrations: Integrations, oblio: FakeOblio) -> None:
    await integrations.add(
        TENANT_ID,
        SystemName.OBLIO,
        name="Oblio",
        config={"connection": dict(oblio.settings())},
        options={"warehouses": {f"Sediu|{DEPOT}": "MAIN"}, "syncPrices": False},
    )
    await integrations.add(
        TENANT_ID,
        SystemName.CSV_IMPORT,
        name="Fișier",
        config={"connection": {"file": FILE, "settleS": 0}, "parse": {"decimal": ","}},
    )


def _write_file(files: Path) -> None:
    own = files / str(TENANT_ID)
    own.mkdir()
    lines = "".join(f"{sku};{figure}\n" for sku, figure in FIGURES.items())
    (own / FILE).write_text(f"Cod articol;Stoc\n{lines}", encoding="utf-8")


def _short(result: SyncResult) -> dict[str, Any]:
    """What a reader wants of a result; by SKU, so every run shows the same."""
    return {
        "checked": result.statistics.products_checked,
        "changes": [
            f"{x.sku}: {x.field} {_plain(x.previous_value)} -> {_plain(x.new_value)}"
            for x in sorted(result.changes, key=lambda change: change.sku)
        ],
        "conflicts": len(result.conflicts),
        "errors": [f"{x.sku} {x.code}: {x.message}" for x in result.errors],
    }


def _plain(value: Decimal | str | None) -> str:
    return plain(value) if isinstance(value, Decimal) else str(value)
