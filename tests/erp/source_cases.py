"""The systems that keep the contract of a Source: one entry for each way to one.

Another system is another `Case` in `CASES`. Secrets of its fake have `canary` in them.
"""

import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from cerniq_stock.erp.config import read_config
from cerniq_stock.erp.connection import open_source
from cerniq_stock.erp.csv_source import Place, open_csv, read_csv_settings
from cerniq_stock.erp.fakes.base import FakeClock, FakeServer
from cerniq_stock.erp.fakes.microsoft_bc import FakeMicrosoftBc
from cerniq_stock.erp.fakes.oblio import FakeOblio
from cerniq_stock.erp.fakes.rest import FIELDS, FakeRest, FakeTokenServer
from cerniq_stock.erp.fakes.saga import FakeSaga
from cerniq_stock.erp.fakes.sap_b1 import FakeSapB1
from cerniq_stock.erp.fakes.stock import StockServer
from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.rows import SystemName
from cerniq_stock.erp.source import OpenSource

Figures = dict[tuple[str, str | None], tuple[Decimal, Decimal | None]]


def sku(number: int) -> str:
    return f"SKU-{number:04}"


def _fill(fake: Any, count: int) -> None:
    for number in range(count):
        fake.received(sku(number), str(number + 5))
        fake.received(sku(number), "2.5", "02")
        fake.ordered(sku(number), "1")


def _figures(fake: Any) -> Figures:
    return fake.figures()


def _sold(fake: Any, which: str, quantity: str) -> None:
    fake.sold(which, quantity)


@dataclass
class Files(StockServer):
    """A program that writes the whole stock into a file, again with every change; no server."""

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        self.root, self.tenant = Path(self._folder.name), uuid4()
        (self.root / str(self.tenant)).mkdir()
        self.write()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._folder.cleanup()

    def settings(self) -> dict[str, Any]:
        return {"file": "stock.csv", "settleS": 0}

    def write(self) -> None:
        shelves = self.shelves.values()
        rows = [f"{x.sku};{x.total};{x.available};{x.warehouse}\n" for x in shelves]
        path = self.root / str(self.tenant) / "stock.csv"
        path.write_text("sku;total;available;warehouse\n" + "".join(rows))


def _written(fake: Any, count: int) -> None:
    _fill(fake, count)
    fake.write()


def _sold_and_written(fake: Any, which: str, quantity: str) -> None:
    fake.sold(which, quantity)
    fake.write()


@dataclass(frozen=True)
class Case:
    """A fake and how it is spoken to.

    `fill` puts `count` products in, named by `sku`, which make several pages if `pages`. `data` is
    in the path of every request that brings stock. `sold` books a sale in the ERP itself. `event`
    is what a webhook says of products. `expire` makes a token end between two pages, `mislead`
    makes a link to another server.
    """

    name: str
    system: SystemName
    fake: Callable[[FakeClock], AbstractAsyncContextManager[Any]]
    data: str
    count: int = 8
    pages: bool = True
    config: Mapping[str, Any] = field(default_factory=dict)
    settings: Callable[[Any], Mapping[str, Any]] = lambda fake: fake.settings()
    fill: Callable[[Any, int], None] = _fill
    figures: Callable[[Any], Figures] = _figures
    sold: Callable[[Any, str, str], None] = _sold
    event: Callable[[Any, Sequence[str]], Any] | None = None
    expire: Callable[[Any], None] | None = None
    mislead: Callable[[Any], None] | None = None
    tells_date: bool = True
    speaks: bool = True
    """There is a server, with whatever can go wrong with one, and credentials. Else: files."""

    def __str__(self) -> str:
        return self.name


@asynccontextmanager
async def _rest_with_tokens(clock: FakeClock, **options: Any) -> AsyncIterator[FakeRest]:
    async with FakeTokenServer(clock) as tokens:
        fake = FakeRest(clock, auth="oauth2", token_server=tokens, **options)
        async with fake:
            yield fake


def _oblio_figures(fake: Any) -> Figures:
    return {
        (which, f"Sediu|{warehouse}"): (total, None)
        for (which, warehouse), (total, _) in fake.figures().items()
    }


def _foreign(fake: Any) -> None:
    fake.foreign_links = True


def _few_uses(fake: Any) -> None:
    fake.tokens.uses = 1


def _few_uses_elsewhere(fake: Any) -> None:
    fake.token_server.tokens.uses = 2


def _sap(name: str, **more: Any) -> Case:
    options: dict[str, Any] = {
        "data": "/Items",
        "count": 50,
        "event": lambda fake, skus: [fake.event("Items", ItemCode=which) for which in skus],
        "expire": lambda fake: setattr(fake, "expire_after", 1),
        "mislead": lambda fake: setattr(fake, "links", "foreign"),
        "settings": lambda fake: {**fake.settings(), "page_size": 20},
        **more,
    }
    return Case(name=name, system=SystemName.SAP_B1, fake=FakeSapB1, **options)


def _bc_fill(fake: Any, count: int) -> None:
    for number in range(count):
        fake.received(sku(number), str(number + 5))


def _bc_event(fake: Any, skus: Sequence[str]) -> Any:
    kept = {"subscriptionId": "x", "clientState": fake.client_state, "until": fake.now}
    changes = [(fake.items[which]["id"], "updated") for which in skus]
    return {"value": fake.notifications(kept, changes)}


def _rest(name: str, make: Callable[[FakeClock], Any], **more: Any) -> Case:
    options: dict[str, Any] = {
        "system": SystemName.CUSTOM_API,
        "data": "/v1/stock",
        "config": {"field_mapping": FIELDS},
        "event": lambda fake, skus: fake.records(*skus),
        **more,
    }
    return Case(name=name, fake=make, **options)


CASES: list[Case] = [
    Case(
        "SAGA",
        SystemName.SAGA,
        FakeSaga,
        "/stocuri/",
        pages=False,
        event=lambda fake, skus: fake.event(*skus),
    ),
    Case(
        "OBLIO",
        SystemName.OBLIO,
        FakeOblio,
        "/products",
        count=510,
        figures=_oblio_figures,
        event=lambda *_: {"data": {}},
        expire=_few_uses,
    ),
    Case(
        "OBLIO-one-management",
        SystemName.OBLIO,
        FakeOblio,
        "/products",
        count=260,
        settings=lambda fake: {**fake.settings(), "workStation": "Sediu", "management": "01"},
        figures=lambda fake: {
            key: value for key, value in _oblio_figures(fake).items() if key[1] == "Sediu|01"
        },
        event=lambda *_: {"data": {}},
        expire=_few_uses,
    ),
    _sap("SAP_B1-v2"),
    _sap(
        "SAP_B1-v1-crossjoin",
        data="/$crossjoin",
        config={"warehouses": ["01", "02"]},
        settings=lambda fake: {
            **fake.settings(),
            "version": "v1",
            "stock": "crossjoin",
            "page_size": 20,
        },
        figures=lambda fake: {
            key: value for key, value in fake.figures().items() if key[1] in {"01", "02"}
        },
    ),
    Case(
        "MICROSOFT_BC",
        SystemName.MICROSOFT_BC,
        FakeMicrosoftBc,
        "/items",
        count=50,
        fill=_bc_fill,
        settings=lambda fake: {**fake.settings(), "page_size": 20},
        event=_bc_event,
        expire=_few_uses,
        mislead=_foreign,
        # its mark is made of the ledger's numbers, and of moments that items tell
        tells_date=False,
    ),
    _rest("CUSTOM_API-bearer", FakeRest, pages=False),
    _rest(
        "CUSTOM_API-basic-link",
        lambda clock: FakeRest(clock, auth="basic", paging="link_header", page=3),
        mislead=_foreign,
    ),
    _rest(
        "CUSTOM_API-key-next",
        lambda clock: FakeRest(clock, auth="api_key", paging="next_url", page=3, empty_pages=2),
        mislead=_foreign,
    ),
    _rest(
        "CUSTOM_API-oauth2-cursor",
        lambda clock: _rest_with_tokens(clock, paging="cursor", page=3, empty_pages=1),
        expire=_few_uses_elsewhere,
    ),
    _rest("CUSTOM_API-offset", lambda clock: FakeRest(clock, paging="offset", page=3)),
    _rest(
        "SENIOR-page",
        lambda clock: FakeRest(clock, paging="page", page=4),
        system=SystemName.SENIOR,
    ),
    _rest("WIZCOUNT", FakeRest, system=SystemName.WIZCOUNT, pages=False),
    Case(
        "CSV_IMPORT",
        SystemName.CSV_IMPORT,
        Files,
        "",
        count=600,
        fill=_written,
        sold=_sold_and_written,
        config={"decimal": "."},
        speaks=False,
        tells_date=False,
    ),
]


def stock_requests(fake: FakeServer, case: Case) -> int:
    """How many requests for stock came in."""
    return sum(case.data in request.path for request in fake.requests)


def open_case(case: Case, fake: Any, clock: FakeClock, settings: Mapping[str, Any]) -> OpenSource:
    """Open a session as the engine does, by this clock."""
    config = read_config(case.config)
    if not case.speaks:
        place = Place(fake.root, fake.tenant)
        return open_csv(read_csv_settings(settings), config, place, sleep=clock.sleep)
    policy = Policy.parse("127.0.0.0/8:9 " + " ".join(_ports(fake)))
    return open_source(case.system, settings, policy, config, clock=clock.clock())


def _ports(fake: Any) -> list[str]:
    elsewhere = getattr(fake, "token_server", None)
    return [f"127.0.0.0/8:{server.port}" for server in (fake, elsewhere) if server]
