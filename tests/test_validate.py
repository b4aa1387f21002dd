"""What may come in: good input means one thing, bad input gets one sentence about its field."""

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerniq_stock import validate
from cerniq_stock.domain.commands import Item, Quantity
from cerniq_stock.domain.model import Priority, ReleaseReason, ReservationType, Unit
from cerniq_stock.errors import InvalidInputError
from tests.helpers import uid

ID = uid("A")
LONG_INT = 10**5000  # Python refuses to write it in digits

NOT_TEXT = [None, 5, 1.5, True, b"A", ["A"], {"A": 1}, object()]
BAD_TEXT = [
    "", "\0", "A\0", "\ud800", "A\udfff", "ș\udc80", "A" * 11, "😀" * 11, *NOT_TEXT,
]  # fmt: skip
BAD_NUMBERS = [
    "", " ", "x", "1,5", "1 000", "0x10", "--1", "1.2.3", "NaN", "sNaN", "-nan", "Infinity", "-inf",
    "1e999999", "-1e999999", "1e-999999", "1e9999999999999999999", "1.0001", "0.0001", "-0.0005",
    "100.001", "101", "-101", "9" * 50, "1\0", "\ud800", "½", 101, -101, 10**30,
    Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("-Infinity"), Decimal("1e999999"),
    Decimal("1e-999999"), Decimal("1.0001"), Decimal("100.001"),
    True, False, 1.0, 0.5, float("nan"), float("inf"), 1j, Fraction(1, 2),
    None, b"1", [1], (0, (1,), 0), {"n": 1}, object(),
]  # fmt: skip
BAD_UUIDS = [
    "", "x", str(ID)[:-1], str(ID) + "0", str(ID).replace(str(ID)[0], "g"), "\0" * 32,
    "\ud800" * 32, "ș" * 32, "0" * 31, "0" * 33, None, 5, 0.5, True, ID.bytes, [str(ID)], object(),
]  # fmt: skip
BAD_HOURS = [
    0, -1, 169, 10**30, LONG_INT, 1.0, 24.5, float("nan"), True, False, None, "24", "", Decimal(24),
    [24], object(),
]  # fmt: skip
BAD_WORDS = [
    "", "soft", "SOFT ", " SOFT", "FIRM", "SOFT\0", "\ud800", "SOFT,HARD", "x" * 1000, None, True,
    0, 0.5, b"SOFT", ["SOFT"], Priority.NORMAL, object(),
]  # fmt: skip
BAD_STATES = [
    "", "dead", "Dead", "_DEAD", "DEAD ", "DEAD\n", "DEAD1", "A-B", "ȘTERS", "A\0", "\ud800",
    "A" * 31, None, 5, True, b"DEAD", ["DEAD"], object(),
]  # fmt: skip
BAD_SKUS = ["", "A" * 51, "A\0", "\ud800", None, 5]
BAD_AMOUNTS = [0, "0.000", "-0.001", -1, "10000.001", 10_001, "1.0001", 1.0, True, None, "NaN"]


def short(value: object) -> str:
    return ascii(value)[:30] if value is not LONG_INT else "long int"


def refuses(field: str, check: Callable[[], object]) -> str:
    """Assert that the input is refused for that field, in one sentence; returns it."""
    with pytest.raises(InvalidInputError) as caught:
        check()
    told = str(caught.value)
    assert (caught.value.field, caught.value.code) == (field, "INVALID_INPUT")
    assert told
    assert "\n" not in told
    assert "\0" not in told
    assert not told.endswith(".")
    told.encode()
    return told


# -- text -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["A", " ", "A" * 10, "ș" * 10, "😀" * 10, "a\nb", "\ufffe"])
def test_good_text_is_kept_as_it_is(value):
    assert validate.text("sku", value, most=10) == value
    assert validate.optional_text("sku", value, most=10) == value


@pytest.mark.parametrize("value", BAD_TEXT, ids=short)
def test_bad_text_is_refused(value):
    assert refuses("sku", lambda: validate.text("sku", value, most=10)).startswith("sku ")
    if value is not None:
        refuses("notes", lambda: validate.optional_text("notes", value, most=10))


def test_optional_text_may_be_missing():
    assert validate.optional_text("notes", None, most=10) is None


# -- UUIDs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [ID, str(ID), str(ID).upper(), ID.hex, f"{{{ID}}}", ID.urn])
def test_a_uuid_in_each_of_its_forms(value):
    assert validate.uuid("tenantId", value) == ID


@pytest.mark.parametrize("value", BAD_UUIDS, ids=short)
def test_a_bad_uuid_is_refused(value):
    refuses("tenantId", lambda: validate.uuid("tenantId", value))


# -- numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, "1.000"), ("1", "1.000"), ("1.0", "1.000"), ("1.000000", "1.000"), ("+1", "1.000"),
        (Decimal("1.5"), "1.500"), ("1e2", "100.000"), ("100.000", "100.000"), (-100, "-100.000"),
        ("0.001", "0.001"), ("-0.001", "-0.001"), (0, "0.000"), ("0e5", "0.000"),
    ],
)  # fmt: skip
def test_a_good_number_has_three_decimal_places(value, expected):
    assert str(validate.number("total", value, most=Decimal(100))) == expected


@pytest.mark.parametrize("value", BAD_NUMBERS, ids=short)
def test_a_bad_number_is_refused(value):
    refuses("total", lambda: validate.number("total", value, most=Decimal(100)))
    refuses("quantity", lambda: validate.positive("quantity", value, most=Decimal(100)))


@pytest.mark.parametrize("value", [0, "0.000", "-0", "-0.001", -1, Decimal(-100)])
def test_what_is_not_above_zero_is_refused_where_it_must_be(value):
    validate.number("quantity", value)
    refuses("quantity", lambda: validate.positive("quantity", value))


def test_the_most_stock_there_can_be():
    most = validate.MAX_STOCK
    assert validate.positive("total", most) == most
    assert validate.number("total", -most) == -most
    for value in (most + Decimal("0.001"), -most - Decimal("0.001")):
        refuses("total", lambda value=value: validate.number("total", value))


@pytest.mark.parametrize(
    "value",
    [
        "Infinity",
        "sNaN",
        "NaN",
        Decimal("-Infinity"),
        Decimal("sNaN"),
        Decimal("NaN"),
        "1e999",
        "1_0",
        "\N{ARABIC-INDIC DIGIT ONE}",
        " 1 ",
        "x",
    ],
    ids=short,
)
def test_what_is_no_number_is_called_so(value):
    told = refuses("total", lambda: validate.number("total", value))
    assert "not a usable number" in told


# -- hours, words, states -------------------------------------------------------------------


def test_hours_are_whole_and_at_most_a_week():
    assert [validate.hours("hours", value) for value in (1, 72, 168)] == [1, 72, 168]


@pytest.mark.parametrize("value", BAD_HOURS, ids=short)
def test_bad_hours_are_refused(value):
    refuses("hours", lambda: validate.hours("hours", value))


@pytest.mark.parametrize("kind", [ReservationType, Priority, ReleaseReason, Unit])
def test_every_word_of_an_enumeration_is_taken(kind):
    for member in kind:
        assert validate.choice("word", kind, member) is member
        assert validate.choice("word", kind, member.value) is member


@pytest.mark.parametrize("value", BAD_WORDS, ids=short)
def test_an_unknown_word_is_refused_and_the_known_ones_are_named(value):
    told = refuses("type", lambda: validate.choice("type", ReservationType, value))
    assert "SOFT, HARD" in told


@pytest.mark.parametrize("value", ["A", "DEAD", "IN_PROGRESS", "A" * 30])
def test_a_good_state_is_kept_as_it_is(value):
    assert validate.state("state", value) == value


@pytest.mark.parametrize("value", BAD_STATES, ids=short)
def test_a_bad_state_is_refused(value):
    refuses("state", lambda: validate.state("state", value))


# -- lines ----------------------------------------------------------------------------------


def test_good_lines_get_the_types_of_the_domain():
    lines = [Item("A", 1), Item("B", "2.5", str(ID), "KG"), Item("C", 10_000, ID, Unit.L)]
    assert validate.items(iter(lines)) == (
        Item("A", Decimal(1)),
        Item("B", Decimal("2.5"), ID, Unit.KG),
        Item("C", Decimal(10_000), ID, Unit.L),
    )


@pytest.mark.parametrize("number", [0, 101, 1000])
def test_too_few_and_too_many_lines_are_refused(number):
    told = refuses("items", lambda: validate.items([Item("A", 1)] * number))
    assert str(number) in told
    refuses("items", lambda: validate.quantities([("A", 1)] * number))


def test_as_many_lines_as_may_be():
    assert len(validate.items([Item("A", 1)] * 100)) == 100
    assert len(validate.quantities([("A", 1)] * 100)) == 100


@pytest.mark.parametrize("sku", BAD_SKUS, ids=short)
def test_a_line_of_a_bad_sku_is_refused(sku):
    refuses("sku", lambda: validate.items([Item("A", 1), Item(sku, 1)]))
    refuses("sku", lambda: validate.quantities([Quantity("A", 1), Quantity(sku, 1)]))


@pytest.mark.parametrize("amount", BAD_AMOUNTS, ids=short)
def test_a_line_of_a_bad_quantity_is_refused(amount):
    refuses("quantity", lambda: validate.items([Item("A", 1), Item("B", amount)]))
    if amount not in {"10000.001", 10_001}:
        refuses("quantity", lambda: validate.quantities({"A": 1, "B": amount}))


def test_a_line_of_a_bad_product_or_unit_is_refused():
    refuses("productId", lambda: validate.items([Item("A", 1, "x")]))
    refuses("unitOfMeasure", lambda: validate.items([Item("A", 1, None, "OZ")]))


def test_amounts_by_sku_come_in_three_ways():
    expected = (Quantity("A", Decimal(1)), Quantity("B", Decimal("0.5")))
    assert validate.quantities({"A": 1, "B": "0.5"}) == expected
    assert validate.quantities(iter([("A", "1"), ["B", Decimal("0.50")]])) == expected
    assert validate.quantities([Quantity("A", 1), Quantity("B", "0.5")]) == expected
    assert validate.quantities(None) is None


# -- anything at all ------------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals(allow_nan=True)
    | st.complex_numbers()
    | st.text(st.characters(exclude_categories=()))
    | st.text("0123456789abcdefABCDEF-{} _.+eE", max_size=40)
    | st.binary()
    | st.uuids()
    | st.sampled_from([*Unit, *ReservationType, *BAD_NUMBERS, *BAD_STATES])
    | st.builds(object)
)
ANYTHING = st.recursive(
    SCALARS, lambda x: st.lists(x) | st.tuples(x, x) | st.dictionaries(st.text(), x), max_leaves=5
)
CHECKS: dict[str, tuple[Callable[[object], object], Callable[[object], bool]]] = {
    "text": (lambda x: validate.text("f", x, most=20), lambda x: 1 <= len(x) <= 20),
    "optional": (
        lambda x: validate.optional_text("f", x, most=20),
        lambda x: x is None or 1 <= len(x) <= 20,
    ),
    "uuid": (lambda x: validate.uuid("f", x), lambda x: isinstance(x, UUID)),
    "number": (
        lambda x: validate.number("f", x),
        lambda x: abs(x) <= validate.MAX_STOCK and x.as_tuple().exponent == -3,
    ),
    "positive": (
        lambda x: validate.positive("f", x),
        lambda x: 0 < x <= validate.MAX_STOCK and x.as_tuple().exponent == -3,
    ),
    "hours": (lambda x: validate.hours("f", x), lambda x: 1 <= x <= 168 and type(x) is int),
    "choice": (lambda x: validate.choice("f", Unit, x), lambda x: isinstance(x, Unit)),
    "state": (lambda x: validate.state("f", x), lambda x: x.isascii() and x == x.upper()),
}


def outcome(check: Callable[[object], object], value: object) -> tuple[object, str | None]:
    """What came of it: a value, or the field of the refusal."""
    try:
        return check(value), None
    except InvalidInputError as error:
        str(error).encode()
        return None, error.field


@pytest.mark.parametrize("name", CHECKS)
@given(value=ANYTHING)
def test_anything_is_good_or_refused(name, value):
    check, good = CHECKS[name]
    result, refused = outcome(check, value)
    assert refused == "f" or good(result)


@given(st.lists(st.builds(Item, ANYTHING, ANYTHING, ANYTHING, ANYTHING), max_size=3))
def test_lines_of_anything_are_good_or_refused(lines):
    result, refused = outcome(validate.items, lines)
    fields = {"items", "sku", "quantity", "productId", "unitOfMeasure"}
    assert refused in fields or len(result) == len(lines)


@pytest.mark.parametrize(
    "check",
    [
        lambda: validate.number("f", LONG_INT),
        lambda: validate.uuid("f", LONG_INT),
        lambda: validate.choice("f", Unit, LONG_INT),
        lambda: validate.state("f", LONG_INT),
    ],
)
def test_an_int_of_thousands_of_digits_is_refused(check):
    refuses("f", check)


@pytest.mark.parametrize("lines", [None, 5, "A1", ["A1"], [None], [("A", 1)], [{"sku": "A"}]])
def test_lines_of_another_shape_are_refused(lines):
    refuses("items", lambda: validate.items(lines))


@pytest.mark.parametrize("amounts", [5, "A1", ["A1"], [None], [("A",)], [("A", 1, 2)], [5]])
def test_amounts_of_another_shape_are_refused(amounts):
    refuses("items", lambda: validate.quantities(amounts))


# -- fingerprints ---------------------------------------------------------------------------


def asked(lines: list[Item], **changed: object) -> bytes:
    question = {
        "negotiation": uid("n1"), "type_": ReservationType.SOFT, "priority": Priority.NORMAL,
        "hours": 72, "replaces": "",
    }  # fmt: skip
    return validate.reserve_fingerprint(validate.items(lines), **(question | changed))


def test_equal_questions_have_equal_fingerprints():
    ways = [1, "1", "1.000", "1e0", Decimal("1.0")]
    assert len({asked([Item("A", way)]) for way in ways}) == 1
    assert len({asked([Item("A", 1, way, "KG")]) for way in (ID, str(ID), ID.hex)}) == 1
    assert asked([Item("A", 1, None, "KG")]) == asked([Item("A", 1, None, Unit.KG)])
    assert len({validate.fingerprint("x", validate.number("f", way)) for way in ways}) == 1
    assert len({validate.fingerprint(validate.quantities({"A": way})) for way in ways}) == 1


def test_zero_has_one_fingerprint():
    zeros = [0, "0.000", "-0", Decimal("-0.000")]
    assert len({validate.fingerprint(validate.number("f", zero)) for zero in zeros}) == 1


def test_different_questions_have_different_fingerprints():
    one = [Item("A", 1)]
    questions = [
        asked(one), asked([Item("A", 2)]), asked([Item("B", 1)]), asked([Item("A", 1, ID)]),
        asked([Item("A", 1, None, "KG")]), asked(one * 2), asked([Item("A", 1), Item("B", 1)]),
        asked([Item("B", 1), Item("A", 1)]), asked(one, negotiation=uid("n2")),
        asked(one, type_=ReservationType.HARD), asked(one, priority=Priority.HIGH),
        asked(one, hours=73), asked(one, replaces="r1"),
    ]  # fmt: skip
    assert len(set(questions)) == len(questions)


@given(st.lists(st.builds(Item, st.text("AB01.N ", min_size=1), st.integers(1, 12)), min_size=1))
def test_lines_do_not_run_into_each_other(lines):
    other = [Item("".join(x.sku for x in lines)[:50], lines[-1].quantity)]
    lines = [Item(x.sku[:50], x.quantity) for x in lines[:100]]
    assert (asked(lines) == asked(other)) == (lines == other)


@given(st.lists(SCALARS, max_size=4))
def test_a_fingerprint_is_of_sixteen_bytes(question):
    assert len(validate.fingerprint(*question)) == 16


def test_a_sku_comes_without_the_blanks_around_it():
    assert validate.sku("sku", "\u00a0A 1 \n") == "A 1"
    for none in ("", "  ", "A\0", "\ud800", "x" * 51, None, 5):
        with pytest.raises(InvalidInputError, match="sku"):
            validate.sku("sku", none)


def test_an_id_is_26_capital_letters_and_digits():
    known = "01K7Z9V3J0Q4T5X6Y7Z8A9B0CD"
    assert validate.made_id("sync", f" {known}\n") == known
    for none in ("", known[1:], known.lower(), f"{known}0", "\0" * 26, "\ud800" * 26, None, 5):
        with pytest.raises(InvalidInputError, match="sync is not an id of 26 capital letters"):
            validate.made_id("sync", none)
