"""Sales as documents of SAP Business One: each made once, whatever gets lost."""

from decimal import Decimal

import pytest

from cerniq_stock.erp.fakes.base import Reply
from cerniq_stock.erp.fakes.sap_b1 import ENTRIES, EXITS
from cerniq_stock.erp.source import Sale
from cerniq_stock.erp.trouble import (
    BadAnswerError,
    RefusedError,
    UnreachableError,
)
from tests.erp.service_layer import BUSY, asked, fake, opened


def sale(quantity="3", id_="s-1", sku="A-001", warehouse="01"):
    return Sale(id_, sku, warehouse, Decimal(quantity))


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_sales_become_one_goods_issue_and_stay_one(version):
    async with fake() as server, opened(server, version=version) as source:
        sales = [sale(), sale("2.5", "s-2", "O'Ring & co/5% +1")]
        number = await source.push(sales)
        assert number == "7001"
        assert await source.push(sales) == number
        document = server.documents[EXITS][0]
        assert document["Comments"] == "cerniq-stock (s-1) (s-2)"
        assert document["DocumentLines"] == [
            {"ItemCode": "A-001", "Quantity": 3, "WarehouseCode": "01"},
            {"ItemCode": "O'Ring & co/5% +1", "Quantity": Decimal("2.5"), "WarehouseCode": "01"},
        ]
        assert len(server.documents[EXITS]) == 1
        assert server.shelves["A-001", "01"]["InStock"] == 117


async def test_what_came_back_becomes_a_receipt():
    async with fake() as server, opened(server) as source:
        assert await source.push([sale("-3")]) == "7001"
        assert server.documents[ENTRIES][0]["DocumentLines"][0]["Quantity"] == 3
        assert server.shelves["A-001", "01"]["InStock"] == 123
        assert await source.push([]) is None
        assert await source.push([sale("0", "s-0")]) is None
        assert await source.push([sale("-3"), sale("0", "s-0")]) == "7001"


async def test_an_id_that_begins_as_another_is_not_that_one():
    async with fake() as server, opened(server) as source:
        await source.push([sale(id_="s-11")])
        await source.push([sale(id_="s-1")])
        assert len(server.documents[EXITS]) == 2


async def test_only_what_is_not_booked_yet_is_booked():
    async with fake() as server, opened(server) as source:
        await source.push([sale()])
        assert await source.push([sale(), sale(id_="s-2")]) == "7002"
        assert server.documents[EXITS][1]["Comments"] == "cerniq-stock (s-2)"
        assert server.shelves["A-001", "01"]["InStock"] == 114


@pytest.mark.parametrize("trouble", [Reply(lost=True), BUSY, Reply(None, 504)])
async def test_an_answer_that_was_lost_is_looked_for(trouble):
    async with fake() as server, opened(server) as source:
        server.trouble(trouble, path=EXITS, after=False)  # the first look
        server.trouble(
            lambda request: trouble if request.method == "POST" else None, path=EXITS, after=True
        )
        assert await source.push([sale()]) == "7001"
        assert len(server.documents[EXITS]) == 1


async def test_a_look_that_is_refused_refuses_no_sale():
    """Whether the document before it was made is as open as it was."""
    async with fake() as server, opened(server) as source:

        def trouble(request):
            if request.method == "POST":
                return BUSY
            posted = any(one.method == "POST" for one in asked(server, EXITS))
            return Reply({"error": {"code": -1}}, 400) if posted else None

        server.trouble(trouble, path=EXITS, times=2, after=True)
        with pytest.raises(BadAnswerError, match="cannot be looked up") as caught:
            await source.push([sale()])
        assert caught.value.retryable
        assert await source.push([sale()]) == "7001"
        assert len(server.documents[EXITS]) == 1


async def test_a_document_that_was_not_made_is_left_to_a_later_try():
    async with fake() as server, opened(server) as source:
        server.trouble(lambda request: BUSY if request.method == "POST" else None, path=EXITS)
        with pytest.raises(UnreachableError) as caught:
            await source.push([sale()])
        assert caught.value.retryable
        assert server.documents[EXITS] == []
        assert await source.push([sale()]) == "7001"


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_negative_stock_is_a_refusal_and_changes_nothing(version):
    async with fake() as server, opened(server, version=version) as source:
        with pytest.raises(RefusedError, match="less of a product") as caught:
            await source.push([sale(), sale("500", "s-2")])
        assert not caught.value.retryable
        assert server.shelves["A-001", "01"]["InStock"] == 120
        assert len([r for r in asked(server, EXITS) if r.method == "POST"]) == 1


@pytest.mark.parametrize(
    "more",
    [
        {"ManageBatchNumbers": "tYES"},
        {"ManageSerialNumbers": "tYES"},
        {"InventoryItem": "tNO"},
    ],
)
async def test_what_a_quantity_alone_does_not_book_is_refused_before(more):
    async with fake() as server, opened(server) as source:
        server.item("LOT", **more)
        with pytest.raises(RefusedError):
            await source.push([sale(sku="LOT")])
        with pytest.raises(RefusedError):
            await source.push([sale(sku="UNKNOWN")])
    assert not [request for request in asked(server, EXITS) if request.method == "POST"]


async def test_one_document_holds_no_more_than_its_remarks_can_name():
    async with fake() as server, opened(server) as source:
        ids = [f"0192f0c1-7a1b-7c3d-8e4f-{number:012}" for number in range(7)]
        with pytest.raises(RefusedError):
            await source.push([sale(id_=id_) for id_ in ids])
        with pytest.raises(RefusedError):
            await source.push([sale(), sale("-1", "s-2")])
        await source.push([sale(id_=id_) for id_ in ids[:6]])


async def test_warehouses_are_named_there_as_they_are_there():
    config = {"warehouses": {"02": "Depozit"}}
    async with fake() as server, opened(server, config) as source:
        await source.push([sale(warehouse="Depozit")])
        with pytest.raises(RefusedError):
            await source.push([sale(id_="s-2", warehouse="01")])
        assert server.shelves["A-001", "02"]["InStock"] == 17
