"""SAGA: the specification's shape, and what its sketch would make of it."""

import pytest

from cerniq_stock.erp.gather import gather
from cerniq_stock.erp.rows import Parsed, PayloadError
from tests.erp.understood import parsed, rows, told

GOLDEN = {
    "stocuri": [
        {
            "cod_articol": "ȘURUB-06",
            "cantitate_totala": "12.0000",
            "cantitate_disponibila": "0",
            "pret_vanzare": "3.5000",
            "moneda": "RON",
            "stare": "ACTIV",
            "cod_gestiune": "0001",
            "locatie": "A-01",
            "data_modificare": "2026-11-19 12:04:05",
            "lot": "L1",
            "data_expirare": "2027-01-31",
        }
    ]
}


def saga(*articles, **config):
    return parsed("SAGA", {"stocuri": list(articles)}, **config)


def article(sku="A", total="1", **more):
    return {"cod_articol": sku, "cantitate_totala": total, **more}


def test_the_specifications_example():
    (row,) = rows(
        parsed("SAGA", GOLDEN),
        *("sku", "total", "available", "price", "currency", "status", "warehouse"),
        *("last_modified", "lot", "where"),
    )
    assert row == (
        *("ȘURUB-06", "12", "0", "3.5", "RON", "ACTIVE", "0001"),
        *("2026-11-19T10:04:05Z", "L1", "stocuri[0]"),
    )


def test_a_webhook():
    found = parsed("SAGA", {"eveniment": "STOC_MODIFICAT", "articole": [article()]})
    assert rows(found, "sku", "where") == [("A", "articole[0]")]


def test_a_webhook_of_another_event_tells_of_no_stock():
    for more in ({}, {"articole": []}, {"articole": [article()]}, {"articole": None}):
        assert parsed("SAGA", {"eveniment": "FACTURA", **more}) == Parsed()


# value, read with a decimal dot, read with a decimal comma: a number, or the error's code
QUANTITIES = [
    ("0", "0", "0"),
    (0, "0", "0"),
    ("0.0000", "0", "UNPARSEABLE_NUMBER"),
    ("", "MISSING_TOTAL", "MISSING_TOTAL"),
    (" ", "MISSING_TOTAL", "MISSING_TOTAL"),
    (None, "MISSING_TOTAL", "MISSING_TOTAL"),
    ("n/a", "UNPARSEABLE_NUMBER", "UNPARSEABLE_NUMBER"),
    ("1.234,50", "UNPARSEABLE_NUMBER", "1234.5"),
    ("12,5", "UNPARSEABLE_NUMBER", "12.5"),
    ("1e3", "UNPARSEABLE_NUMBER", "UNPARSEABLE_NUMBER"),
    ("12 buc", "UNPARSEABLE_NUMBER", "UNPARSEABLE_NUMBER"),
    ("-3.0000", "-3", "UNPARSEABLE_NUMBER"),
    ("Infinity", "UNPARSEABLE_NUMBER", "UNPARSEABLE_NUMBER"),
    ("NaN", "UNPARSEABLE_NUMBER", "UNPARSEABLE_NUMBER"),
    (True, "UNPARSEABLE_NUMBER", "UNPARSEABLE_NUMBER"),
    ([1], "UNPARSEABLE_NUMBER", "UNPARSEABLE_NUMBER"),
    (2.5, "2.5", "2.5"),
]


@pytest.mark.parametrize(("value", "dot", "comma"), QUANTITIES)
def test_a_quantity_is_read_or_an_error_and_never_zero_instead(value, dot, comma):
    for decimal, expected in ((".", dot), (",", comma)):
        found = saga(article(total=value), decimal=decimal)
        if expected.isupper():
            assert found.rows == ()
            assert told(found.errors, "where", "field", "code", "sku") == [
                ("stocuri[0]", "cantitate_totala", expected, "A")
            ]
        else:
            assert rows(found, "total") == [(expected,)]
            assert found.errors == ()


def test_an_absent_quantity_is_an_error_too():
    found = saga({"cod_articol": "A"})
    assert told(found.errors, "code", "raw") == [("MISSING_TOTAL", None)]


@pytest.mark.parametrize(
    ("more", "available"),
    [({}, None), ({"cantitate_disponibila": "0"}, "0"), ({"cantitate_disponibila": "-2"}, "-2")],
)
def test_available_is_what_is_said_and_not_the_total(more, available):
    assert rows(saga(article(total="9", **more)), "total", "available") == [("9", available)]


@pytest.mark.parametrize("value", ["", None, "n/a", "12 buc"])
def test_an_available_that_cannot_be_read_is_an_error_of_its_row(value):
    found = saga(article(total="9", cantitate_disponibila=value))
    assert found.rows == ()
    assert told(found.errors, "field", "code") == [("cantitate_disponibila", "UNPARSEABLE_NUMBER")]


def test_more_available_than_there_is_is_told():
    found = saga(article(total="1", cantitate_disponibila="2"))
    assert rows(found, "total", "available") == [("1", "2")]
    assert told(found.warnings, "code", "field", "raw") == [
        ("AVAILABLE_GT_TOTAL", "cantitate_disponibila", "2")
    ]


@pytest.mark.parametrize(
    ("word", "status"),
    [
        *(("A", "ACTIVE"), ("ACTIV", "ACTIVE"), ("activ", "ACTIVE"), ("I", "INACTIVE")),
        *(("INACTIV", "INACTIVE"), ("D", "DISCONTINUED"), ("DEZACTIVAT", "DISCONTINUED")),
        *(("Blocat", "INACTIVE"), ("X", None), ("", None), (None, None), ([], None)),
    ],
)
def test_states(word, status):
    found = saga(article(stare=word), status_map={"BLOCAT": "INACTIVE"})
    assert rows(found, "status") == [(status,)]


def test_a_price_without_a_currency_is_in_lei_unless_told():
    assert rows(saga(article(pret_vanzare="3.5")), "price", "currency") == [("3.5", "RON")]
    told_so = saga(article(pret_vanzare="3.5"), currency_default="eur")
    assert rows(told_so, "price", "currency") == [("3.5", "EUR")]
    assert rows(saga(article()), "price", "currency") == [(None, None)]


@pytest.mark.parametrize(
    "more",
    [
        {"pret_vanzare": "3,5 lei"},
        {"pret_vanzare": "-1"},
        {"pret_vanzare": "3.5", "moneda": "???"},
    ],
)
def test_a_price_that_cannot_be_read_is_unknown_and_the_row_stays(more):
    found = saga(article(**more))
    assert rows(found, "sku", "price") == [("A", None)]
    assert [code for _, code in told(found.warnings)] == ["UNPARSEABLE_PRICE"]


def test_a_day_alone_is_told():
    found = saga(article(data_modificare="2026-11-19"))
    assert rows(found, "last_modified") == [("2026-11-18T22:00:00Z",)]
    assert told(found.warnings) == [("stocuri[0]", "UPDATE_TIME_MISSING_DATE_ONLY")]


def test_padded_codes_are_trimmed():
    assert rows(saga(article("00123           ")), "sku") == [("00123",)]


def test_lots_are_summed_for_each_warehouse():
    found = gather(
        [
            saga(
                article("A", "12", cantitate_disponibila="10", lot="L1", cod_gestiune="1"),
                article("A", "3", cantitate_disponibila="0", lot="L2", cod_gestiune="1"),
                article("A", "5", lot="L1", cod_gestiune="2"),
            )
        ]
    )
    assert rows(found, "sku", "warehouse", "total", "available", "lot") == [
        ("A", "1", "15", "10", None),
        ("A", "2", "5", None, "L1"),
    ]


def test_warehouses_are_chosen_and_named():
    articles = [article(cod_gestiune=each) for each in ("0001", "0002", "0003")]
    some = saga(*articles, warehouses=["0001", "0003"])
    assert rows(some, "warehouse") == [("0001",), ("0003",)]
    named = saga(*articles, warehouses={"0001": "MAIN"})
    assert rows(named, "warehouse") == [("MAIN",)]


def test_another_envelope_is_a_setting():
    found = parsed("SAGA", {"rezultat": {"linii": [article()]}}, items_path="rezultat.linii")
    assert rows(found, "where") == [("rezultat.linii[0]",)]
    assert rows(parsed("SAGA", [article()], items_path=""), "where") == [("[0]",)]


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        ({}, "no list named 'stocuri'"),
        ([], "no list named 'stocuri'"),
        ({"stocuri": None}, "no list named 'stocuri'"),
        ({"error": {"message": "no"}}, "SAGA answered with an error: no"),
        ({"eveniment": "STOC_MODIFICAT"}, "no list named 'articole'"),
        *(({"eveniment": no, "articole": []}, "tells of no event") for no in ("", None, 5, ["x"])),
    ],
)
def test_what_is_no_answer_is_no_empty_answer(payload, sentence):
    with pytest.raises(PayloadError, match=sentence):
        parsed("SAGA", payload)


def test_an_empty_answer_is_one():
    assert saga().rows == ()


@pytest.mark.parametrize("entry", [None, 5, "A", []])
def test_an_entry_that_is_no_record_is_an_error_of_its_own(entry):
    found = saga(entry, article())
    assert told(found.errors) == [("stocuri[0]", "MISSING_SKU")]
    assert rows(found, "where") == [("stocuri[1]",)]


LOT = {"cod_gestiune": "1", "cantitate_disponibila": "4", "data_expirare": "2026-11-20"}


@pytest.mark.parametrize(
    ("last", "over"),
    [
        ("2026-11-20", True),
        ("2026-11-21", False),
        ("20.11.2026", True),
        ("2026-11-20 23:59:59", True),
        ("2026-11-20T22:30:00Z", False),  # the 21st there
        ("0001-01-01", False),
        ("", False),
        (None, False),
        ("soon", False),
    ],
)
def test_a_lot_whose_day_is_over_is_told(last, over):
    found = saga(article("A", "5", **LOT | {"data_expirare": last}), today="2026-11-21")
    assert rows(found, "total", "available") == [("5", "4")]
    assert told(found.warnings, "code", "field") == [("LOT_EXPIRED", "data_expirare")] * over


def test_a_lot_whose_day_is_over_counts_unless_told_otherwise():
    lots = [article("A", "5", lot="1", **LOT), article("A", "3", lot="2", cod_gestiune="1")]
    for policy, total in (("count", "8"), ("zero", "3")):
        found = gather([saga(*lots, today="2026-11-21", expired_lots=policy)])
        assert rows(found, "total") == [(total,)]
        assert told(found.warnings, "code") == [("LOT_EXPIRED",)]
    # none of it is no reason to know nothing, and what cannot be read is no zero
    (row,) = rows(saga(lots[0], expired_lots="zero"), "total", "available")
    assert row == ("0", "0")
    broken = saga(article("A", "5 buc", **LOT), expired_lots="zero")
    assert (broken.rows, told(broken.errors, "code")) == ((), [("UNPARSEABLE_NUMBER",)])
    assert rows(saga(article("A", "-5", **LOT), expired_lots="zero"), "total") == [("-5",)]
