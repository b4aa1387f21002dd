"""Business Central: items of API v2.0."""

import json

import pytest

from cerniq_stock.erp.rows import PayloadError
from tests.erp.understood import parsed, rows, told

ITEM = {
    "@odata.etag": 'W/"JzE5"',
    "id": "5d115c9c-44e3-ea11-bb43-000d3a2feca1",
    "number": "1896-S",
    "displayName": "Birou ATENA",
    "type": "Inventory",
    "blocked": False,
    "gtin": "",
    "inventory": -2,
    "unitPrice": 1000.8,
    "priceIncludesTax": False,
    "unitCost": 780.7,
    "baseUnitOfMeasureCode": "BUC",
    "lastModifiedDateTime": "2026-11-19T10:15:23.987Z",
}


def bc(*items, **config):
    return parsed("MICROSOFT_BC", {"@odata.context": "…", "value": list(items)}, **config)


def test_an_item():
    (row,) = rows(
        bc(ITEM, company_currency="RON"),
        *("sku", "total", "available", "price", "currency", "status", "warehouse"),
        *("last_modified", "where"),
    )
    assert row == (
        *("1896-S", "-2", None, "1000.8", "RON", "ACTIVE", None),
        *("2026-11-19T10:15:23.987Z", "value[0]"),
    )


def test_without_a_configured_currency_it_is_unknown():
    assert rows(bc(ITEM), "price", "currency") == [("1000.8", None)]


@pytest.mark.parametrize(
    ("blocked", "status"), [(True, "INACTIVE"), (False, "ACTIVE"), (None, None)]
)
def test_blocked(blocked, status):
    assert rows(bc(ITEM | {"blocked": blocked}), "status") == [(status,)]


@pytest.mark.parametrize("kind", ["Service", "Non-Inventory", "Non_x002D_Inventory"])
def test_only_inventory_is_stock(kind):
    found = bc(ITEM | {"type": kind})
    assert found.rows == ()
    assert told(found.skipped, "where", "code", "raw", "sku") == [
        ("value[0]", "NOT_STOCKABLE", kind, "1896-S")
    ]


def test_a_byte_order_mark_is_no_obstacle():
    data = b"\xef\xbb\xbf" + json.dumps({"value": [ITEM]}).encode()
    assert rows(parsed("MICROSOFT_BC", data), "sku") == [("1896-S",)]


def test_no_inventory_is_an_error_and_not_zero():
    item = {name: value for name, value in ITEM.items() if name != "inventory"}
    assert told(bc(item).errors) == [("value[0]", "MISSING_TOTAL")]


def test_the_year_one_is_never():
    found = bc(ITEM | {"lastModifiedDateTime": "0001-01-01T00:00:00Z"})
    assert rows(found, "last_modified") == [(None,)]


def test_an_error_body_is_told():
    error = {"code": "Application_TooManyRequests", "message": "Too many requests reached."}
    with pytest.raises(PayloadError, match=r"with an error: Too many requests reached\."):
        parsed("MICROSOFT_BC", {"error": error})
