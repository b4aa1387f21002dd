"""SKUs stay text; names are compared as people read them."""

from datetime import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerniq_stock.erp.rows import ErrorCode
from cerniq_stock.erp.text import (
    as_text,
    column_key,
    currency,
    looks_like_date,
    on_one_line,
    shown,
    sku_key,
    sku_text,
)

SKUS = [
    ("A-001", "A-001"),
    ("00123", "00123"),
    ("  A 1  ", "A 1"),
    ("\u00a0A1\u00a0", "A1"),
    ("A1\0\0\0", "A1"),
    ("\ufeffA1", "A1"),
    ("S\u0326URUB", "\u0218URUB"),
    ("ȘURUB-06          ", "ȘURUB-06"),
    ("x" * 50, "x" * 50),
    (f" {'x' * 50} ", "x" * 50),
    ("x" * 51, ErrorCode.UNUSABLE_SKU),
    ("A\0B", ErrorCode.UNUSABLE_SKU),
    ("\ud800", ErrorCode.UNUSABLE_SKU),
    ("", ErrorCode.MISSING_SKU),
    (" \u00a0 ", ErrorCode.MISSING_SKU),
    (None, ErrorCode.MISSING_SKU),
    ("5,94E+12", ErrorCode.SKU_SCIENTIFIC_NOTATION),
    ("5.94E+12", ErrorCode.SKU_SCIENTIFIC_NOTATION),
    ("5.94123456789E12", ErrorCode.SKU_SCIENTIFIC_NOTATION),
    ("6E+12", ErrorCode.SKU_SCIENTIFIC_NOTATION),
    ("1E5", "1E5"),
    ("12E10", "12E10"),
    (123, "123"),
    (0, "0"),
    (5941234567890123456, "5941234567890123456"),
    (10**60, ErrorCode.UNUSABLE_SKU),
    (Decimal("594123456789.0"), "594123456789"),
    (Decimal("123456789012345.0"), "123456789012345"),
    (Decimal("1234567890123456.0"), ErrorCode.SKU_PRECISION_LOST),
    (Decimal("12.5"), ErrorCode.SKU_PRECISION_LOST),
    (Decimal("5.94E+12"), ErrorCode.SKU_SCIENTIFIC_NOTATION),
    (594123456789.0, "594123456789"),
    (5.941234567890123e18, ErrorCode.SKU_PRECISION_LOST),
    (float("nan"), ErrorCode.UNUSABLE_SKU),
    (True, ErrorCode.UNUSABLE_SKU),
    ([], ErrorCode.UNUSABLE_SKU),
    ({"sku": 1}, ErrorCode.UNUSABLE_SKU),
    (datetime(2026, 3, 10), "2026-03-10"),  # noqa: DTZ001 - as XLSX has it
]


@pytest.mark.parametrize(("value", "expected"), SKUS)
def test_a_sku_is_text_or_an_error(value, expected):
    assert sku_text(value) == expected


@given(st.text())
def test_any_text_is_a_sku_or_an_error(text):
    found = sku_text(text)
    if not isinstance(found, ErrorCode):
        assert found == found.strip()
        assert 0 < len(found) <= 50
        assert sku_text(found) == found


@pytest.mark.parametrize(
    ("sku", "dated"),
    [
        *((text, True) for text in ("10-mar.", "10-mar", "1-ian.", "10-Mar", "mar-10", "Mar-50")),
        *((text, True) for text in ("2026-03-10", "10.03.2026", "3/10/2026", "10-mar-2026")),
        *((text, False) for text in ("MAR-10", "A-001", "12-34-56", "10-decor", "2026-99-10")),
        *((text, False) for text in ("123456", "10-MARKER", "1.5")),
    ],
)
def test_what_looks_like_a_day(sku, dated):
    assert looks_like_date(sku) is dated


def test_letters_with_a_cedilla_equal_those_with_a_comma():
    assert sku_key("şţŞŢ") == "șțȘȚ"
    assert column_key("Preţ") == column_key(" PREȚ ") == column_key("pret.") == "pret"
    assert column_key("Cod\u00a0Articol") == column_key("cod_articol") == "codarticol"


def test_currencies():
    assert [currency(each) for each in ("ron", " EUR ", "lei", "", None, "$", "LEI!", "ßßß")] == [
        *("RON", "EUR", "RON"),
        *([None] * 5),
    ]


def test_what_is_shown_is_short():
    assert shown("x" * 100) == "x" * 79 + "…"
    assert shown(10**5000) == "a number of too many digits"
    assert shown(True) == "true"
    assert as_text(" 1 ") == "1"
    assert as_text(1.0) == "1"
    assert as_text(True) is None
    assert as_text([]) is None


def test_what_is_told_can_be_stored():
    assert shown("a\0b\ud800c\udfff") == "a\ufffdb\ufffdc\ufffd"
    assert shown(["\ud800"]) == '["\ufffd"]'
    assert as_text(" a\0b ") == "a\ufffdb"
    assert shown("a\nb") == "a\nb"
    assert on_one_line(" a\r\n\tb\0\ud800\u2028c\n") == "a b \ufffd c"
    whole = "Șurub 🔩"
    assert shown(whole) == as_text(whole) == on_one_line(whole) == whole


@given(st.text(st.characters(), max_size=100))
def test_any_text_can_be_stored_once_it_is_shown(text):
    for told in (shown(text), shown([text]), as_text(text) or "", on_one_line(text)):
        assert "\0" not in told
        told.encode()
