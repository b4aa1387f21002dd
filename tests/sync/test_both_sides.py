"""What one side knows and the other does not, and what two sources say of one thing."""

from dataclasses import replace
from decimal import Decimal
from uuid import uuid4

import asyncpg
import pytest

from cerniq_stock.domain.model import ProductStatus
from cerniq_stock.erp.rows import ErrorCode, Parsed, Remark
from cerniq_stock.sync.result import Asked, SyncType
from cerniq_stock.sync.run import Run
from tests.sync.conftest import Told, row


async def selective(shop, source: Told, *skus: str):
    """Ask for some SKUs of an ERP that can only be read whole."""
    asked = Asked(kind=SyncType.SELECTIVE, skus=skus)
    run = Run(shop.stock.dsn, shop.integration, asked, progress=_nobody)
    return await run.result(source, incremental=False, by_sku=False)


async def _nobody(_: int) -> None:
    pass


async def test_a_level_that_is_no_longer_told_is_listed_and_stays(shop):
    await shop.sync("A=5", "A@DEPOT=3", "B=1", "C=1")
    result = await shop.sync("A=5", "B=1")
    assert result.missing == ("C",)
    (warning,) = result.warnings
    assert (warning.sku, warning.code) == ("A", "LEVEL_MISSING")
    assert "DEPOT" in warning.message
    assert (await shop.levels())["A@DEPOT"] == "3 0 0"


async def test_what_was_not_asked_for_has_no_say(shop):
    broken = Remark("data[1]", "stock", ErrorCode.UNPARSEABLE_NUMBER, "x", "B")
    source = Told([Parsed((row("A=5"), row("C=9")), errors=(broken,))])
    result = await selective(shop, source, "A", "NOBODY")
    assert (result.success, result.errors, result.missing) == (True, (), ("NOBODY",))
    assert await shop.levels() == {"A@MAIN": "5 0 0"}
    result = await selective(shop, source, "B")
    assert [x.code for x in result.errors] == ["UNPARSEABLE_NUMBER"]


async def test_a_price_in_another_currency_is_another_price(shop):
    await shop.sync(row("A=1", price=Decimal(10), currency="RON"), "B=1")
    result = await shop.sync(row("A=1", price=Decimal(10), currency="EUR"), "B=1")
    assert [(x.field, x.previous_value, x.new_value) for x in result.changes] == [
        ("currency", "RON", "EUR")
    ]
    assert result.changes_count == 1


async def test_warehouses_that_name_two_prices_change_none(shop):
    for other in ({"price": Decimal(10), "currency": "EUR"}, {"price": Decimal(11)}):
        theirs = {"currency": "RON", **other}
        result = await shop.sync(
            row("A=1", price=Decimal(10), currency="RON"), row("A@DEPOT=1", **theirs)
        )
        assert not [x for x in result.changes if x.field in ("price", "currency")]
    assert await shop.operator.fetchval("SELECT price FROM products WHERE sku = 'A'") is None


async def test_what_the_erp_does_not_say_of_a_product_stays(shop):
    said = {"price": Decimal(10), "currency": "RON", "status": ProductStatus.INACTIVE}
    await shop.sync(row("A=1", **said))
    result = await shop.sync(row("A=1", status=ProductStatus.ACTIVE))
    assert [(x.field, x.new_value) for x in result.changes] == [("status", "ACTIVE")]
    found = await shop.operator.fetchrow("SELECT * FROM products WHERE sku = 'A'")
    assert (found["price"], found["currency"], found["status"]) == (10, "RON", "ACTIVE")


@pytest.mark.parametrize("price", [Decimal(-1), Decimal("1e12")], ids=["negative", "enormous"])
async def test_a_price_that_is_none_stops_nobody(shop, price):
    result = await shop.sync(row("A=1", price=price, currency="RON"))
    assert (result.success, await shop.levels()) == (True, {"A@MAIN": "1 0 0"})


async def test_two_who_tell_of_one_level_are_named(shop):
    await shop.sync("A=5", "B=1")
    second = uuid4()
    owner = await asyncpg.connect(shop.stock.dsn, server_settings={"search_path": "cerniq"})
    await owner.execute(
        "INSERT INTO erp_integrations (tenant_id, id, erp_system, name, config_encrypted)"
        " VALUES ($1, $2, 'OBLIO', 'OBLIO', '')",
        *(shop.tenant, second),
    )
    await owner.close()
    other = replace(shop, integration=replace(shop.integration, id=second, erp_system="OBLIO"))
    result = await other.sync("A=6", "C=2")
    (warning,) = result.warnings
    assert warning.code == "TOLD_BY_ANOTHER"
    assert "1 of these levels are told by SAGA" in warning.message


async def test_an_unknown_sku_that_differs_by_case_is_pointed_out(shop):
    result = await shop.sync("a=5", "A=1")
    assert result.unknown == ("a",)
    assert [(x.sku, x.code) for x in result.warnings] == [("a", "SKU_DIFFERS_ONLY_BY_CASE")]


async def test_awkward_texts_arrive_as_they_are(shop):
    """Tabs, backslashes and line ends are COPY's own signs."""
    skus = ["x\\N", "y\\t", "ă/ț", "z\\", "q'\"", "\\."]
    making = shop.having(create_unknown=True)
    rows = [replace(row("A=1"), sku=sku, lot="a\tb\n\\N\r") for sku in skus]
    result = await making.sync(*rows)
    assert result.success
    made = await shop.operator.fetch("SELECT sku FROM products WHERE length(sku) > 1")
    assert {x["sku"] for x in made} == set(skus)
    assert (await making.sync(*rows)).changes == ()
