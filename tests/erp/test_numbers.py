"""The grammar of numbers, by table and against an oracle that uses no regular expression."""

import re
from decimal import Decimal, InvalidOperation

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerniq_stock.erp.config import read_config
from cerniq_stock.validate import MAX_STOCK

NBSP, NNBSP = "\u00a0", "\u202f"

# text, read with a decimal dot, read with a decimal comma; None is no number
TEXTS = [
    ("0", "0", "0"),
    ("0.0000", "0", None),
    ("12.0000", "12", None),
    ("12,0000", None, "12"),
    ("-3.0000", "-3", None),
    ("+5", "5", "5"),
    ("1.234", "1.234", "1234"),
    ("1,234", None, "1.234"),
    ("1.234,50", None, "1234.5"),
    ("1,234.50", None, None),
    ("12,5", None, "12.5"),
    ("12.5", "12.5", None),
    ("1 234,5", None, "1234.5"),
    (f"1{NBSP}234,5", None, "1234.5"),
    (f"1{NNBSP}234", None, "1234"),
    ("1.234.567,8", None, "1234567.8"),
    ("1.234 567", None, None),
    ("1.23.456", None, None),
    ("1234.567", "1234.567", None),
    ("12.345.6", None, None),
    ("  7 ", "7", "7"),
    (f"{NBSP}7{NBSP}", "7", "7"),
    ("007", "7", "7"),
    ("-0", "0", "0"),
    ("", None, None),
    (" ", None, None),
    ("-", None, None),
    ("+", None, None),
    (".5", None, None),
    ("5.", None, None),
    (",5", None, None),
    ("1e3", None, None),
    ("1E3", None, None),
    ("12 buc", None, None),
    ("12 lei", None, None),
    (">10", None, None),
    ("~10", None, None),
    ("5-", None, None),
    ("(5)", None, None),
    ("--5", None, None),
    ("+-5", None, None),
    ("\u22125", None, None),
    ("n/a", None, None),
    ("#N/A", None, None),
    ("în stoc", None, None),
    ("Infinity", None, None),
    ("NaN", None, None),
    ("1_000", None, None),
    ("0x10", None, None),
    ("\u0661\u0662", None, None),
    ("\uff11", None, None),
    ("1\n2", None, None),
]


def _numbers(decimal, thousands=None):
    return read_config({"decimal": decimal, "thousands": thousands}).numbers


@pytest.mark.parametrize(("text", "dot", "comma"), TEXTS)
def test_a_text_is_a_whole_number_or_none(text, dot, comma):
    assert _numbers(".").quantity(text) == (None if dot is None else Decimal(dot))
    assert _numbers(",").quantity(text) == (None if comma is None else Decimal(comma))


@pytest.mark.parametrize(
    ("decimal", "thousands", "text", "number"),
    [
        (".", ",", "1,234.5", "1234.5"),
        (".", ",", "1,23", None),
        (".", " ", f"1{NBSP}234.5", "1234.5"),
        (".", "'", "1'234.5", "1234.5"),
        (",", "", "1.234", None),
        (",", "", "1234", "1234"),
        (",", ".", "1 234", None),
        (",", " ", "1.234", None),
    ],
)
def test_the_sign_between_thousands_is_a_setting(decimal, thousands, text, number):
    expected = None if number is None else Decimal(number)
    assert _numbers(decimal, thousands).quantity(text) == expected


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, "0"),
        (-2, "-2"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0E+40"), "0"),
        (Decimal("3.5"), "3.5"),
        (Decimal("3.5000000000"), "3.5"),
        (Decimal("0.0005"), None),
        (Decimal("1E-999999"), None),
        (Decimal("1E+999999"), None),
        (Decimal("NaN"), None),
        (Decimal("Infinity"), None),
        (10**400, None),
        (MAX_STOCK, str(MAX_STOCK)),
        (MAX_STOCK + 1, None),
        (-MAX_STOCK - 1, None),
        ("10000000000.001", None),
        ("0.1234", None),
        ("0.1230", "0.123"),
        (True, None),
        (False, None),
        (None, None),
        ([5], None),
        ({}, None),
        (0.1 + 0.2, "0.3"),
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_numbers_are_exact_and_within_the_engines_limits(value, number):
    for decimal in ".,":
        if number is None or not isinstance(value, str) or decimal == ".":
            found = _numbers(decimal).quantity(value)
            assert found == (None if number is None else Decimal(number))
            assert str(found) != "-0.000"


@pytest.mark.parametrize(
    ("value", "price"),
    [
        ("89.9000", "89.9"),
        ("0", "0"),
        (Decimal("0.0"), "0"),
        ("-1", None),
        ("12,50 lei", None),
        ("10000000000", None),
        (Decimal("1E-13"), None),
        (Decimal("1E-999999"), None),
        ("0.123456", "0.123456"),
        (True, None),
    ],
)
def test_prices(value, price):
    assert _numbers(".").price(value) == (None if price is None else Decimal(price))


# -- the oracle -----------------------------------------------------------------------------


def _digits(text):
    return bool(text) and all(letter in "0123456789" for letter in text)


def _oracle(text, decimal, thousands):
    """Read by cutting: sign, then the fraction at the last decimal sign, then the groups."""
    negative = text[:1] == "-"
    body = text[1:] if text[:1] in {"-", "+"} else text
    whole, sign, fraction = body.partition(decimal)
    if sign and not _digits(fraction):
        return None
    if not _digits(whole):
        used = {letter for letter in whole if letter not in "0123456789"}
        if len(used) != 1 or not used <= set(thousands):
            return None
        first, *rest = whole.split(used.pop())
        if not (_digits(first) and len(first) <= 3):
            return None
        if not all(_digits(group) and len(group) == 3 for group in rest):
            return None
        whole = first + "".join(rest)
    value = Decimal(int(whole)) + (Decimal(int(fraction)).scaleb(-len(fraction)) if fraction else 0)
    return -value if negative else value


def _as_javascript(text):
    found = re.match(r"\s*[+-]?\d+(\.\d+)?", text)
    return Decimal(found[0].strip()) if found else None


def _as_python(text):
    try:
        return Decimal(text.strip())
    except InvalidOperation:
        return None


def _guessing(text):
    return _oracle(text.strip(), "," if "," in text else ".", ".")


@pytest.mark.parametrize("wrong", [_as_javascript, _as_python, _guessing])
def test_the_table_finds_those_who_read_otherwise(wrong):
    assert any(wrong(text) != (dot and Decimal(dot)) for text, dot, _ in TEXTS)


PIECES = st.sampled_from([*"0123456789", *"..,,  ''-+", NBSP, NNBSP, "e", "\u0663", "123", "000"])
NUMBERISH = st.lists(PIECES, max_size=9).map("".join)
SETTINGS = st.sampled_from(
    [
        (".", None, ""),
        (",", None, f". {NBSP}{NNBSP}"),
        (".", ",", ","),
        (",", ".", "."),
        (",", "", ""),
        (".", " ", f" {NBSP}{NNBSP}"),
        (".", "'", "'"),
    ]
)


@given(NUMBERISH, SETTINGS)
def test_the_grammar_equals_the_oracle(text, setting):
    decimal, thousands, signs = setting
    assert _numbers(decimal, thousands).read(text) == _oracle(text.strip(), decimal, signs)


@given(
    st.decimals(min_value=-MAX_STOCK, max_value=MAX_STOCK, places=3, allow_nan=False),
    st.sampled_from([".", " ", NBSP, NNBSP]),
)
def test_what_is_written_is_read_back(number, sign):
    written = f"{number:,.3f}".replace(",", "T").replace(".", ",").replace("T", sign)
    assert _numbers(",").quantity(written) == number
    assert _numbers(".").quantity(f"{number:f}") == number
    assert _numbers(".").quantity(number) == number
