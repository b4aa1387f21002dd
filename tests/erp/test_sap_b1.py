"""SAP Business One: items with their warehouses, prices and windows of validity."""

from decimal import Decimal

import pytest

from cerniq_stock.erp.fakes.sap_b1 import FakeSapB1
from cerniq_stock.erp.rows import PayloadError, SystemName
from tests.erp.sessions import pages, session
from tests.erp.understood import parsed, rows, told

ITEM = {
    "ItemCode": "A-001",
    "ItemName": "Șurub M6",
    "QuantityOnStock": 120.0,
    "QuantityOrderedFromVendors": 50.0,
    "QuantityOrderedByCustomers": 30.0,
    "InventoryItem": "tYES",
    "Valid": "tYES",
    "ValidFrom": None,
    "ValidTo": None,
    "Frozen": "tNO",
    "FrozenFrom": None,
    "FrozenTo": None,
    "SalesItemsPerUnit": 100.0,
    "UpdateDate": "2026-11-19",
    "UpdateTime": "12:03:55",
    "ItemPrices": [
        {"PriceList": 1, "Price": 0.35, "Currency": "RON", "Factor": 1.0, "UoMPrices": []},
        {"PriceList": 2, "Price": 0.0, "Currency": ""},
        {"PriceList": 3, "Price": 0.0, "Currency": "EUR"},
        {"PriceList": 4, "Price": 1.5, "Currency": None},
        {"PriceList": 5, "Price": 2.5, "Currency": "##"},
    ],
    "ItemWarehouseInfoCollection": [
        {"WarehouseCode": "01", "InStock": 100.0, "Committed": 30.0, "Ordered": 50.0},
        {"WarehouseCode": "02", "InStock": 20.0, "Committed": 0.0, "Ordered": 0.0},
    ],
}
SHELVES = "value[0].ItemWarehouseInfoCollection"


def sap(*items, **config):
    return parsed("SAP_B1", {"value": list(items)}, **config)


def shelf(code="01", **figures):
    return {"WarehouseCode": code, **figures}


@pytest.mark.parametrize(
    "more",
    [
        {"odata.metadata": "https://host:50000/b1s/v1/$metadata#Items", "odata.count": "1"},
        {"@odata.context": "$metadata#Items", "@odata.nextLink": "Items?$skip=1"},
    ],
    ids=["v1", "v2"],
)
def test_a_row_for_each_warehouse(more):
    found = parsed("SAP_B1", {**more, "value": [ITEM]}, price_list=1)
    names = ("sku", "total", "available", "price", "currency", "status", "warehouse", "where")
    assert rows(found, *names) == [
        ("A-001", "100", "70", "0.35", "RON", "ACTIVE", "01", f"{SHELVES}[0]"),
        ("A-001", "20", "20", "0.35", "RON", "ACTIVE", "02", f"{SHELVES}[1]"),
    ]
    assert {each for (each,) in rows(found, "last_modified")} == {"2026-11-19T10:03:55Z"}
    assert found.errors == found.warnings == found.skipped == ()


def test_more_promised_than_there_is():
    item = ITEM | {"ItemWarehouseInfoCollection": [shelf(InStock=15219, Committed=37074)]}
    assert rows(sap(item), "total", "available") == [("15219", "-21855")]


@pytest.mark.parametrize(
    ("price_list", "config", "price"),
    [
        (None, {}, (None, None)),
        (1, {}, ("0.35", "RON")),
        (2, {}, (None, None)),
        (2, {"company_currency": "RON"}, (None, None)),
        (3, {}, ("0", "EUR")),
        (4, {}, ("1.5", None)),
        (4, {"company_currency": "RON"}, ("1.5", "RON")),
        (4, {"currency_default": "EUR"}, ("1.5", "EUR")),
        (9, {}, (None, None)),
    ],
)
def test_the_price_is_that_of_the_configured_list(price_list, config, price):
    found = sap(ITEM, price_list=price_list, **config)
    assert set(rows(found, "price", "currency")) == {price}
    assert found.warnings == ()


def test_a_price_in_every_currency_is_told_once_for_the_item():
    found = sap(ITEM, price_list=5)
    assert told(found.warnings) == [("value[0].ItemPrices[4]", "UNPARSEABLE_PRICE")]


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({}, "ACTIVE"),
        ({"Valid": "tNO"}, "INACTIVE"),
        ({"Frozen": "tYES"}, "INACTIVE"),
        ({"Frozen": "tYES", "FrozenFrom": "2026-11-19"}, "INACTIVE"),
        ({"Frozen": "tYES", "FrozenFrom": "2026-11-20"}, "ACTIVE"),
        ({"Frozen": "tYES", "FrozenTo": "2026-11-18T00:00:00Z"}, "ACTIVE"),
        ({"Frozen": "tYES", "FrozenFrom": "2026-11-01", "FrozenTo": "2026-11-19"}, "INACTIVE"),
        ({"ValidFrom": "2026-11-20"}, "INACTIVE"),
        ({"ValidTo": "2026-11-18"}, "INACTIVE"),
        ({"ValidFrom": "2026-11-01", "ValidTo": "2026-11-19"}, "ACTIVE"),
        ({"Valid": None, "Frozen": None}, None),
        ({"Valid": "tNO", "Frozen": None}, "INACTIVE"),
    ],
)
def test_windows_of_validity_are_judged_on_a_day(more, status):
    assert {each for (each,) in rows(sap(ITEM | more, today="2026-11-19"), "status")} == {status}


def test_what_is_not_kept_in_stock_is_skipped():
    found = sap(ITEM | {"InventoryItem": "tNO"})
    assert found.rows == ()
    assert told(found.skipped, "where", "field", "code", "sku") == [
        ("value[0]", "InventoryItem", "NOT_STOCKABLE", "A-001")
    ]


@pytest.mark.parametrize(
    ("time", "modified", "warnings"),
    [
        ("12:03", "2026-11-19T10:03:00Z", []),
        ("PT12H3M55S", "2026-11-19T10:03:55Z", []),
        (None, "2026-11-18T22:00:00Z", [("value[0]", "UPDATE_TIME_MISSING_DATE_ONLY")]),
        ("noon", "2026-11-18T22:00:00Z", [("value[0]", "UPDATE_TIME_MISSING_DATE_ONLY")]),
    ],
)
def test_a_missing_time_is_told_once_for_the_item(time, modified, warnings):
    found = sap(ITEM | {"UpdateTime": time})
    assert {each for (each,) in rows(found, "last_modified")} == {modified}
    assert told(found.warnings) == warnings


def test_the_servers_time_zone_is_a_setting():
    found = sap(ITEM, timezone="Europe/Vienna")
    assert {each for (each,) in rows(found, "last_modified")} == {"2026-11-19T11:03:55Z"}


CROSSED = {
    "Items": {"ItemCode": "A-001"},
    "Items/ItemWarehouseInfoCollection": shelf(InStock=5, Committed=6, Ordered=0),
}


def test_crossed_rows():
    found = sap(CROSSED)
    assert rows(found, "sku", "total", "available", "warehouse", "where", "status") == [
        ("A-001", "5", "-1", "01", "value[0]", None)
    ]
    nameless = sap(CROSSED | {"Items": {}})
    assert told(nameless.errors) == [("value[0]", "MISSING_SKU")]


def test_without_its_warehouses_an_item_has_its_totals():
    item = {name: value for name, value in ITEM.items() if "Collection" not in name}
    assert rows(sap(item), "total", "available", "warehouse", "where") == [
        ("120", "90", None, "value[0]")
    ]
    # the totals are those of all warehouses, and only one counts
    some = sap(item, warehouses=["01"])
    assert (some.rows, told(some.errors)) == ((), [("value[0]", "MISSING_TOTAL")])


def test_an_item_without_any_warehouse_is_told():
    found = sap(ITEM | {"ItemWarehouseInfoCollection": []})
    assert found.rows == ()
    assert told(found.warnings) == [("value[0]", "STOCKABLE_WITHOUT_STOCK_ROWS")]


@pytest.mark.parametrize(
    ("figures", "code"),
    [
        ({"Committed": 1}, "MISSING_TOTAL"),
        ({"InStock": None, "Committed": 1}, "MISSING_TOTAL"),
        ({"InStock": "x", "Committed": 1}, "UNPARSEABLE_NUMBER"),
        ({"InStock": 1, "Committed": None}, "UNPARSEABLE_NUMBER"),
        ({"InStock": 1.00005, "Committed": 1}, "UNPARSEABLE_NUMBER"),
    ],
)
def test_one_bad_place_spoils_its_own_row_only(figures, code):
    shelves = [shelf(**figures), shelf("02", InStock=1, Committed=0)]
    found = sap(ITEM | {"ItemWarehouseInfoCollection": shelves})
    assert rows(found, "warehouse") == [("02",)]
    assert told(found.errors) == [(f"{SHELVES}[0]", code)]


# in stock, committed, on order, and what is available of it with `add_ordered`
ORDERED = [
    (100, 30, 50, "100"),
    (100, 30, 10, "80"),
    (100, 130, 10, "-20"),
    (100, 0, 50, "100"),
    (100, -5, 50, "105"),
    (-3, 0, 50, "-3"),
    (0, 0, 0, "0"),
]


@pytest.mark.parametrize(("there", "committed", "ordered", "available"), ORDERED)
def test_what_is_on_order_makes_up_for_what_is_committed(there, committed, ordered, available):
    place = shelf(InStock=there, Committed=committed, Ordered=ordered)
    in_all = {
        "QuantityOnStock": there,
        "QuantityOrderedByCustomers": committed,
        "QuantityOrderedFromVendors": ordered,
    }
    without = {key: value for key, value in ITEM.items() if "Collection" not in key}
    for item in (ITEM | {"ItemWarehouseInfoCollection": [place]}, without | in_all):
        assert rows(sap(item, add_ordered=True), "available") == [(available,)]
        assert rows(sap(item), "available") == [(str(there - committed),)]


@pytest.mark.parametrize("more", [{}, {"Ordered": None}, {"Ordered": "x"}])
def test_what_is_on_order_has_to_be_known_then(more):
    place = shelf(InStock=5, Committed=1, **more)
    found = sap(ITEM | {"ItemWarehouseInfoCollection": [place]}, add_ordered=True)
    assert (found.rows, told(found.errors, "code")) == ((), [("UNPARSEABLE_NUMBER",)])


@pytest.mark.parametrize("stock", ["items", "crossjoin", "totals"])
async def test_a_session_asks_for_what_is_on_order(stock):
    async with FakeSapB1() as fake:
        fake.received("A", "10")
        fake.ordered("A", "6")
        fake.shelves["A", "01"]["Ordered"] = 4
        for add_ordered, available in ((False, "4"), (True, "8")):
            config = {"add_ordered": add_ordered}
            async with session(SystemName.SAP_B1, fake, config=config, stock=stock) as source:
                found = await pages(source.everything())
            read = {row.sku: str(row.available) for page in found for row in page.rows if row.total}
            assert Decimal(read["A"]) == Decimal(available)


def test_a_missing_code_is_one_error():
    found = sap(ITEM | {"ItemCode": " "})
    assert (found.rows, told(found.errors)) == ((), [("value[0]", "MISSING_SKU")])


@pytest.mark.parametrize(
    ("message", "told_as"),
    [
        (
            {"lang": "en-us", "value": "Invalid session or session already timeout."},
            "Invalid session",
        ),
        ("Invalid session", "Invalid session"),
    ],
)
def test_an_error_body_is_told(message, told_as):
    with pytest.raises(PayloadError, match=f"SAP Business One answered with an error: {told_as}"):
        parsed("SAP_B1", {"error": {"code": 301, "message": message}})
