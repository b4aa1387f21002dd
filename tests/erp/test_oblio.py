"""Oblio: both shapes of its products."""

import pytest

from cerniq_stock.erp.rows import PayloadError
from tests.erp.understood import parsed, rows, told

GOODS = {
    "name": "Cafea boabe 1kg",
    "code": "CAF-001",
    "description": "",
    "measuringUnit": "buc",
    "productType": "Marfa",
    "stock": [
        {
            "workStation": "Sediu",
            "management": "Magazin",
            "quantity": 12,
            "price": "89.9000",
            "currency": "RON",
            "vatName": "Normala",
            "vatPercentage": 21,
            "vatIncluded": True,
        },
        {
            "workStation": "Sediu",
            "management": "Depozit",
            "quantity": 3.5,
            "price": "70.0000",
            "currency": "RON",
        },
    ],
}
SERVICE = {
    "name": "Montaj",
    "code": "",
    "measuringUnit": "ora",
    "productType": "Serviciu",
    "price": "150.00",
    "currency": "RON",
}


def oblio(*products, **config):
    payload = {"status": 200, "statusMessage": "Success", "data": list(products)}
    return parsed("OBLIO", payload, **config)


def test_stock_of_each_management_and_services_skipped():
    found = oblio(GOODS, SERVICE)
    names = ("sku", "total", "available", "price", "currency", "status", "warehouse", "where")
    assert rows(found, *names) == [
        ("CAF-001", "12", None, "89.9", "RON", None, "Sediu|Magazin", "data[0].stock[0]"),
        ("CAF-001", "3.5", None, "70", "RON", None, "Sediu|Depozit", "data[0].stock[1]"),
    ]
    assert told(found.skipped) == [("data[1]", "NOT_STOCKABLE")]
    assert found.errors == found.warnings == ()


FLAT = {"code": "CAF-001", "productType": "Marfa", "quantity": "12.0000", "price": "89.90"}


@pytest.mark.parametrize(
    ("config", "warehouse"),
    [
        ({}, None),
        ({"warehouse": "Sediu|Magazin"}, "Sediu|Magazin"),
        ({"warehouses": ["Sediu|Magazin"]}, "Sediu|Magazin"),
        ({"warehouses": {"Sediu|Magazin": "MAIN"}}, "MAIN"),
        ({"warehouses": ["Sediu|Magazin", "Sediu|Depozit"]}, None),
    ],
)
def test_the_flat_shape_is_of_the_configured_management(config, warehouse):
    found = oblio(FLAT, SERVICE, **config)
    assert rows(found, "total", "warehouse", "where") == [("12", warehouse, "data[0]")]
    assert told(found.skipped) == [("data[1]", "NOT_STOCKABLE")]


@pytest.mark.parametrize(
    ("stock", "raw"), [([], "[]"), (None, None), ({"quantity": True}, '{"quantity": true}')]
)
def test_goods_without_any_stock_are_told_and_not_zero(stock, raw):
    found = oblio({"code": "A", "productType": "Marfa", "stock": stock})
    assert found.rows == found.errors == ()
    assert told(found.warnings, "where", "code", "raw", "sku") == [
        ("data[0]", "STOCKABLE_WITHOUT_STOCK_ROWS", raw, "A")
    ]


def test_a_service_with_an_empty_list_is_a_service():
    assert told(oblio(SERVICE | {"stock": []}).skipped) == [("data[0]", "NOT_STOCKABLE")]


def test_goods_without_a_code_are_one_error():
    found = oblio(GOODS | {"code": ""})
    assert found.rows == ()
    assert told(found.errors, "where", "field", "code") == [("data[0]", "code", "MISSING_SKU")]


def test_one_bad_quantity_spoils_its_own_row_only():
    (first, second) = GOODS["stock"]
    found = oblio(GOODS | {"stock": [first | {"quantity": None}, second]})
    assert rows(found, "where") == [("data[0].stock[1]",)]
    assert told(found.errors) == [("data[0].stock[0]", "MISSING_TOTAL")]


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (
            {"status": 401, "statusMessage": "The access token provided is invalid"},
            "status 401: The access token provided is invalid",
        ),
        ({"status": "401", "data": []}, "status 401"),
        ({"status": None, "data": []}, "status"),
        ({"status": 200}, "no list named 'data'"),
        ({"status": 200, "data": {}}, "no list named 'data'"),
        ([], "no list named 'data'"),
    ],
)
def test_what_is_no_answer_is_no_empty_answer(payload, sentence):
    with pytest.raises(PayloadError, match=sentence):
        parsed("OBLIO", payload)


# vatIncluded, vatPercentage, price, then what it is with and without VAT; None: unknown, and told
VAT = [
    (True, 21, "121.0000", "121", "100"),
    (False, 21, "100.0000", "121", "100"),
    (True, "21", "89.9000", "89.9", "74.2975"),
    (False, "9.00", "10", "10.9", "10"),
    (True, 0, "10", "10", "10"),
    (False, 21, "0.0000", "0", "0"),
    (None, 21, "10", None, None),
    ("true", 21, "10", None, None),
    (1, 21, "10", None, None),
    (True, None, "10", "10", None),
    (True, "21%", "10", "10", None),
    (False, -21, "10", None, "10"),
    (False, 2100, "10", None, "10"),
]


@pytest.mark.parametrize(("included", "percent", "price", "gross", "net"), VAT)
def test_prices_with_and_without_vat(included, percent, price, gross, net):
    entry = {**FLAT, "price": price, "vatIncluded": included, "vatPercentage": percent}
    for vat, expected in (("with", gross), ("without", net)):
        found = oblio(entry, vat=vat)
        assert rows(found, "price", "total") == [(expected, "12")]
        assert told(found.warnings, "code") == [("UNPARSEABLE_PRICE",)] * (expected is None)
    plain = oblio(entry)
    assert rows(plain, "price") == rows(oblio({**FLAT, "price": price}), "price")
    assert plain.warnings == ()


def test_a_price_that_is_none_is_not_made_one():
    for price in (None, "", "n/a"):
        entry = {**FLAT, "price": price, "vatIncluded": True, "vatPercentage": 21}
        assert rows(oblio(entry, vat="without"), "price") == [(None,)]


def test_managements_with_and_without_vat_become_comparable():
    (one, other) = (
        {"workStation": "S", "management": name, "quantity": 1, "price": price}
        | {"vatIncluded": included, "vatPercentage": 19, "currency": "RON"}
        for name, price, included in (("A", "119", True), ("B", "100", False))
    )
    goods = {"code": "X", "productType": "Marfa", "stock": [one, other]}
    assert rows(oblio(goods, vat="without"), "price") == [("100",), ("100",)]


def test_a_place_may_be_named_by_a_number():
    entry = {"workStation": 1, "management": "2", "quantity": 5}
    goods = {"code": "X", "productType": "Marfa", "stock": [entry]}
    assert rows(oblio(goods), "warehouse", "total") == [("1|2", "5")]
