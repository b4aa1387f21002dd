"""What an ERP tells in part is no whole: lots, warehouses that are one here, products new here."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from cerniq_stock.domain.commands import Item
from cerniq_stock.erp.rows import ErpRow, ErrorCode, Parsed, Remark
from cerniq_stock.store.catalog import NewProduct
from cerniq_stock.sync.result import Asked, SyncType
from cerniq_stock.sync.run import Run
from tests.sync.conftest import Told, row


@dataclass
class Changing(Told):
    """Tells what changed since, and everything when asked for it."""

    all: Sequence[ErpRow] = ()
    by_sku: list[tuple[str, ...]] = field(default_factory=list)

    async def everything(self) -> AsyncIterator[Parsed]:
        self.asked.append("everything")
        self.mark = {"day": 9}  # as sessions do; who reads some products does not go on from here
        yield Parsed(tuple(self.all))

    async def of_skus(self, skus: Sequence[str]) -> AsyncIterator[Parsed]:
        self.by_sku.append(tuple(skus))
        yield Parsed(tuple(x for x in self.all if x.sku in skus))


def lot(text: str, name: str) -> ErpRow:
    return replace(row(text), lot=name)


async def changed(shop, source: Changing, *, by_sku: bool = True, kind="INCREMENTAL") -> Any:
    integration = replace(shop.integration, watermark={"day": 0})
    asked = Asked(kind=SyncType(kind), payload={})
    run = Run(shop.stock.dsn, integration, asked, progress=_nobody)
    return await run.result(source, incremental=True, by_sku=by_sku)


async def _nobody(_: int) -> None:
    pass


@pytest.mark.parametrize("by_sku", [True, False])
async def test_one_lot_that_changed_is_not_the_whole(shop, by_sku):
    await shop.sync(lot("A=10", "L1"), lot("A=90", "L2"), "B=5", "C=0")
    await shop.stock.reserve(shop.tenant, shop.negotiation, [Item("A", 50)])
    source = Changing(
        [Parsed((lot("A=9", "L1"), row("B=6")))],
        mark={"day": 1},
        all=[lot("A=9", "L1"), lot("A=90", "L2"), row("B=777")],
    )
    result = await changed(shop, source, by_sku=by_sku)
    assert await shop.levels() == {"A@MAIN": "99 50 0", "B@MAIN": "6 0 0"}
    assert (result.success, source.by_sku) == (True, [("A",)] if by_sku else [])
    mark = await shop.operator.fetchval("SELECT watermark FROM erp_integrations")
    assert mark == '{"day": 1}'


@pytest.mark.parametrize("kind", ["INCREMENTAL", "WEBHOOK"])
async def test_one_of_two_warehouses_that_are_one_here_is_not_the_whole(shop, kind):
    shop = shop.having(warehouses={"W1": "MAIN", "W2": "MAIN"})
    await shop.sync("A@W1=10", "A@W2=20", "A@DEPOT=3")
    source = Changing(
        [Parsed((row("A@W1=9"),))], all=[row("A@W1=9"), row("A@W2=20"), row("A@DEPOT=4")]
    )
    await changed(shop, source, kind=kind)
    assert await shop.levels() == {"A@MAIN": "29 0 0", "A@DEPOT": "4 0 0"}


async def test_a_lot_in_error_leaves_its_level_alone_once(shop):
    await shop.sync(lot("A=10", "L1"), lot("A=90", "L2"))
    broken = Remark("data[0]", "stock", ErrorCode.UNPARSEABLE_NUMBER, "x", "A", lot="L1")
    source = Changing([Parsed((), errors=(broken,))], all=[lot("A=8", "L1"), lot("A=90", "L2")])
    result = await changed(shop, source)
    assert (result.errors, await shop.levels()) == ((), {"A@MAIN": "98 0 0"})


async def test_what_is_told_whole_is_not_asked_for_again(shop):
    shop = shop.having(warehouses={"W2": "DEPOT"})
    await shop.sync("A=10", "A@W2=20", "B=0", "C=0")
    source = Changing([Parsed((row("A=9"),))])
    await changed(shop, source)
    assert (source.by_sku, (await shop.levels())["A@MAIN"]) == ([], "9 0 0")


async def test_a_product_made_since_gets_its_stock_with_the_next_changes(shop):
    """What the ERP said of it before was passed over, and may never change again."""
    all_rows = [row("A=10"), row("NEW=7")]
    result = await shop.sync(*all_rows)
    assert result.unknown == ("NEW",)
    source = Changing([Parsed((row("A=11"),))], all=all_rows, mark={"day": 1})
    await changed(shop, source)
    assert await shop.levels() == {"A@MAIN": "11 0 0"}
    await shop.stock.import_products(shop.tenant, [NewProduct("NEW", "NEW")])
    source = Changing([Parsed((row("A=11"),))], all=all_rows, mark={"day": 1})
    await changed(shop, source)
    assert await shop.levels() == {"A@MAIN": "11 0 0", "NEW@MAIN": "7 0 0"}
    assert await shop.operator.fetchval("SELECT watermark FROM erp_integrations") == '{"day": 1}'


async def test_many_new_products_are_read_with_everything(shop, monkeypatch):
    monkeypatch.setattr("cerniq_stock.sync.reading.MOST_NEW", 1)
    await shop.sync("A=10")
    new = [NewProduct(f"N{n}", "N") for n in range(2)]
    await shop.stock.import_products(shop.tenant, new)
    source = Changing([], all=[row("A=10"), row("N0=1"), row("N1=2")])
    await changed(shop, source)
    assert (source.asked, source.by_sku) == (["everything"], [])
    assert (await shop.levels())["N1@MAIN"] == "2 0 0"
