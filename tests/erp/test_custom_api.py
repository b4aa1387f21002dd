"""Any REST interface by its mapping, and the profiles that are nothing else."""

import pytest

from cerniq_stock.erp.collect import ABSENT
from cerniq_stock.erp.paths import value_at
from cerniq_stock.erp.rows import PayloadError
from cerniq_stock.errors import InvalidInputError
from tests.erp.understood import parsed, rows, told

MAPPING = {
    "sku": "product.code",
    "stockTotal": "stock.levels[0].qty",
    "stockAvailable": "stock.levels[0].free",
    "price": "prices.1.net",
    "currency": "prices.1.unit",
    "status": "state",
    "warehouse": "stock.levels[0].place",
    "lastModified": "changed.at",
}
RECORD = {
    "product": {"code": "A"},
    "stock": {"levels": [{"qty": "12.5", "free": 0, "place": 7}]},
    "prices": [{}, {"net": 2.5, "unit": "eur"}],
    "state": "Off",
    "changed": {"at": "2026-11-19T12:04:05"},
}


@pytest.mark.parametrize("system", ["CUSTOM_API", "SENIOR", "WIZCOUNT"])
def test_a_nested_record(system):
    found = parsed(system, {"items": [RECORD]}, field_mapping=MAPPING)
    (row,) = rows(
        found,
        *("sku", "total", "available", "price", "currency", "status", "warehouse"),
        *("last_modified", "where"),
    )
    assert row == (
        *("A", "12.5", "0", "2.5", "EUR", "INACTIVE", "7"),
        *("2026-11-19T10:04:05Z", "items[0]"),
    )


@pytest.mark.parametrize("system", ["CUSTOM_API", "SENIOR", "WIZCOUNT"])
def test_nothing_is_assumed_without_a_mapping(system):
    with pytest.raises(InvalidInputError, match=f"{system} needs field_mapping"):
        parsed(system, {"items": []})


FLAT = {"sku": "id", "total": "qty", "available": "free", "status": "state"}


@pytest.mark.parametrize(
    ("payload", "config", "where"),
    [
        ([{"id": "A", "qty": 1}], {}, "[0]"),
        ({"items": [{"id": "A", "qty": 1}]}, {}, "items[0]"),
        ({"data": [{"id": "A", "qty": 1}]}, {}, "data[0]"),
        ({"id": "A", "qty": 1}, {}, "$"),
        ({"r": {"l": [[], [{"id": "A", "qty": 1}]]}}, {"items_path": "r.l[1]"}, "r.l[1][0]"),
    ],
)
def test_where_the_list_may_be(payload, config, where):
    found = parsed("CUSTOM_API", payload, field_mapping=FLAT, **config)
    assert rows(found, "sku", "where") == [("A", where)]


@pytest.mark.parametrize(
    ("payload", "config"),
    [
        ({}, {}),
        ({"items": None}, {}),
        ({"items": {}}, {}),
        (5, {}),
        ("x", {}),
        ({"items": []}, {"items_path": "rows"}),
        ({"rows": {"a": []}}, {"items_path": "rows"}),
    ],
)
def test_an_envelope_without_the_list_is_no_empty_answer(payload, config):
    with pytest.raises(PayloadError, match="This is no answer of CUSTOM_API"):
        parsed("CUSTOM_API", payload, field_mapping=FLAT, **config)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        *(("active", "ACTIVE"), ("disabled", "INACTIVE"), ("Obsolete", "DISCONTINUED")),
        *(("vândut", "DISCONTINUED"), (1, "ACTIVE"), (True, "ACTIVE"), ("odd", None), (None, None)),
    ],
)
def test_states_are_known_or_mapped(word, status):
    known = {"VANDUT": "discontinued", "1": "ACTIVE", "true": "ACTIVE"}
    record = {"id": "A", "qty": 0, "state": word}
    found = parsed("CUSTOM_API", [record], field_mapping=FLAT, status_map=known)
    assert rows(found, "status") == [(status,)]


def test_zero_is_zero_and_absent_is_unknown():
    records = [{"id": "A", "qty": 9, "free": 0}, {"id": "B", "qty": 9}, {"id": "C", "free": 1}]
    found = parsed("CUSTOM_API", records, field_mapping=FLAT)
    assert rows(found, "sku", "total", "available") == [("A", "9", "0"), ("B", "9", None)]
    assert told(found.errors, "where", "field", "code") == [("[2]", "qty", "MISSING_TOTAL")]


def test_numbers_of_json_are_exact():
    data = b'[{"id":9007199254740993,"qty":1e3},{"id":1.0,"qty":0.1},{"id":1.5,"qty":1}]'
    found = parsed("CUSTOM_API", data, field_mapping=FLAT)
    assert rows(found, "sku", "total") == [("9007199254740993", "1000"), ("1", "0.1")]
    assert told(found.errors, "code", "raw") == [("SKU_PRECISION_LOST", "1.5")]


def test_an_impossible_exponent_is_an_error_of_its_row():
    data = b'[{"id":"A","qty":1e99999999999999999999},{"id":"B","qty":1e-400},{"id":"C","qty":2}]'
    found = parsed("CUSTOM_API", data, field_mapping=FLAT)
    assert rows(found, "sku") == [("C",)]
    assert told(found.errors, "code", "raw") == [
        ("UNPARSEABLE_NUMBER", "1e99999999999999999999"),
        ("UNPARSEABLE_NUMBER", "1E-400"),
    ]


def test_more_digits_than_python_reads_are_an_error_of_their_row():
    many = b"9" * 5000
    data = b'[{"id":"A","qty":%s},{"id":%s,"qty":1},{"id":"C","qty":-%s},{"id":"D","qty":2}]'
    found = parsed("CUSTOM_API", data % (many, many, many), field_mapping=FLAT)
    assert rows(found, "sku") == [("D",)]
    assert told(found.errors, "where", "code") == [
        *(("[0]", "UNPARSEABLE_NUMBER"), ("[1]", "UNUSABLE_SKU"), ("[2]", "UNPARSEABLE_NUMBER"))
    ]


def test_what_no_database_takes_is_replaced_where_it_is_told():
    record = {"id": "A", "qty": "1\0\ud800", "place": "M\0\udfffX", "batch": "L\0\ud8001"}
    mapping = {**FLAT, "warehouse": "place", "lot": "batch"}
    found = parsed("CUSTOM_API", [record, record | {"qty": 1}], field_mapping=mapping)
    assert told(found.errors, "raw", "warehouse", "lot") == [
        ("1\ufffd\ufffd", "M\ufffd\ufffdX", "L\ufffd\ufffd1")
    ]
    assert rows(found, "warehouse", "lot") == [("M\ufffd\ufffdX", "L\ufffd\ufffd1")]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a.b[0].c", 1),
        ("a.b.0.c", 1),
        ("a.b[-1].c", 1),
        ("a.b[1].c", ABSENT),
        ("a.b.x.c", ABSENT),
        ("a.b.c", ABSENT),
        ("a.n", None),
        ("a.n.x", ABSENT),
        ("x.y", 2),
        ("x", ABSENT),
    ],
)
def test_paths(path, value):
    record = {"a": {"b": [{"c": 1}], "n": None}, "x.y": 2}
    assert value_at(record, path) is value or value_at(record, path) == value
