"""Bodies that are no answer, each told in one sentence."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerniq_stock.erp.bodies import read_json
from cerniq_stock.erp.config import read_config
from cerniq_stock.erp.payload import decode
from cerniq_stock.erp.rows import PayloadError
from cerniq_stock.erp.systems import SYSTEMS
from cerniq_stock.errors import InvalidInputError


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "The payload is empty"),
        (b" \n", "The payload is empty"),
        (b"\xef\xbb\xbf", "The payload is empty"),
        (b"<!DOCTYPE html><html>", "web page or XML"),
        (b"\xff\xfe{", "not UTF-8 text"),
        (b"{", "not JSON"),
        (b"{} {}", "not JSON"),
        (b'{"a":NaN}', "NaN is no number of JSON"),
        (b'{"a":-Infinity}', "-Infinity is no number of JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_is_one_sentence(data, sentence):
    with pytest.raises(PayloadError, match=sentence) as caught:
        decode(data)
    assert "\n" not in str(caught.value)


def test_fractions_are_exact():
    assert decode(b'{"a":0.1,"b":1e3,"c":12345678901234567890}') == {
        "a": Decimal("0.1"),
        "b": Decimal(1000),
        "c": 12345678901234567890,
    }


def test_numbers_that_nothing_can_hold_stay_text_in_files_and_in_answers():
    digits, exponent = "9" * 5000, "1e99999999999999999999"
    data = f'{{"a":{digits},"b":-{digits},"c":{exponent},"d":0.1,"e":7}}'.encode()
    whole = {"a": digits, "b": f"-{digits}", "c": exponent, "d": Decimal("0.1"), "e": 7}
    assert decode(data) == read_json(data) == whole


NAMES = [
    *("stocuri", "cod_articol", "cantitate_totala", "lot", "stare", "eveniment", "articole"),
    *("data", "code", "quantity", "stock", "productType", "status", "error", "message"),
    *("value", "ItemCode", "InStock", "Committed", "ItemWarehouseInfoCollection", "Items"),
    *("ItemPrices", "PriceList", "Price", "Currency", "Valid", "UpdateDate", "UpdateTime"),
    *("number", "inventory", "type", "blocked", "items", "id", "qty"),
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals()
    | st.text(max_size=8)
    | st.sampled_from(["1", "1,5", "", "tYES", "Serviciu"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)
CONFIG = read_config({"field_mapping": {"sku": "id", "total": "qty"}, "price_list": 1})


@given(JSON)
def test_whatever_comes_is_understood_or_refused(payload):
    """No parser fails in any other way; each row it makes is complete."""
    for name, system in SYSTEMS.items():
        if system.parse is None:
            continue
        for each in (payload, {"value": payload, "data": payload, "stocuri": payload}, [payload]):
            try:
                found = system.parse(each, CONFIG)
            except PayloadError:
                continue
            for row in found.rows:
                assert row.sku, name
                assert row.total.is_finite()


# -- the configuration ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"colour": 1}, "unknown key colour; there may be timezone, decimal"),
        ({"field_mapping": {"sku": "a", "total": "b", "x": "c"}}, r"unknown key field_mapping\.x"),
        ({"field_mapping": {"sku": "a"}}, "total"),
        ({"decimal": ";"}, "decimal"),
        ({"decimal": ",", "thousands": ","}, "different signs"),
        ({"thousands": "."}, "different signs"),
        ({"timezone": "Europe/Nowhere"}, "no time zone 'Europe/Nowhere'"),
        ({"timezone": "../etc"}, "no time zone"),
        ({"encoding": "klingon"}, "no encoding 'klingon'"),
        ({"encoding": "rot13"}, "no encoding"),
        ({"encoding": "base64"}, "no encoding"),
        ({"encoding": "cp1250\0"}, "no encoding"),
        ({"columns": {"colour": "x"}}, "colour is none of sku, total"),
        ({"columns": {"sku": None}}, "sku cannot be left out"),
        ({"status_map": {"x": "GONE"}}, "status_map"),
        ({"warehouses": {"1": "A", "2": "A"}}, "the same name here"),
        ({"company_currency": "leu!"}, "company_currency"),
        ({"price_list": "many"}, "price_list"),
        ([], "must be a JSON object"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_by_name(config, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        read_config(config)


def test_every_system_says_how_well_it_is_known():
    assert {name.value for name, system in SYSTEMS.items() if not system.verified} == {
        "SENIOR",
        "WIZCOUNT",
    }
    assert [system.name for system in SYSTEMS.values() if system.parse is None] == ["CSV_IMPORT"]
    assert not SYSTEMS["OBLIO"].capabilities.push
    assert not SYSTEMS["OBLIO"].capabilities.reserved
    assert not SYSTEMS["MICROSOFT_BC"].capabilities.warehouses
