"""Pages of one answer put together."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerniq_stock.erp.gather import gather
from cerniq_stock.erp.rows import ErpRow, ErrorCode, Parsed, Remark
from tests.erp.understood import rows, told

EARLY, LATE = datetime(2026, 11, 19, 8, tzinfo=UTC), datetime(2026, 11, 19, 9, tzinfo=UTC)


def row(sku="A", total=1, where="x", **more):
    return ErpRow(sku, Decimal(total), where=where, **more)


def gathered(*found, errors=()):
    return gather([Parsed((each,)) for each in found] + [Parsed(errors=tuple(errors))])


def test_identical_rows_are_one_with_the_newest_time():
    found = gathered(
        row(where="1", last_modified=EARLY), row(where="2", last_modified=LATE), row(where="3")
    )
    assert rows(found, "where", "last_modified") == [("1", "2026-11-19T09:00:00Z")]
    assert told(found.warnings, "where", "code", "sku") == [
        ("2", "IDENTICAL_DUPLICATE", "A"),
        ("3", "IDENTICAL_DUPLICATE", "A"),
    ]


@pytest.mark.parametrize(
    "other",
    [
        row(total=2),
        row(available=Decimal(1)),
        row(price=Decimal(1)),
        row(currency="RON"),
        row(status="INACTIVE"),
    ],
)
def test_conflicting_rows_are_all_dropped(other):
    found = gathered(row(where="1"), row("B"), other, row(where="1"))
    assert rows(found, "sku") == [("B",)]
    assert told(found.errors, "where", "code") == [
        ("1", "CONFLICTING_DUPLICATE"),
        ("x", "CONFLICTING_DUPLICATE"),
        ("1", "CONFLICTING_DUPLICATE"),
    ]


def test_other_warehouses_are_other_rows():
    found = gathered(row(warehouse="1"), row(warehouse="2", total=2), row(total=3))
    assert rows(found, "warehouse", "total") == [("1", "1"), ("2", "2"), (None, "3")]


def test_lots_are_summed():
    found = gathered(
        row(lot="L1", total=2, available=Decimal(1), price=Decimal(5), currency="RON", where="1"),
        row(lot="L2", total=3, available=Decimal(0), last_modified=LATE, status="ACTIVE"),
    )
    assert rows(found, "total", "available", "price", "currency", "status", "lot", "where") == [
        ("5", "1", "5", "RON", "ACTIVE", None, "1")
    ]
    assert found.rows[0].last_modified == LATE


def test_what_lots_disagree_about_is_unknown():
    found = gathered(
        row(lot="L1", available=Decimal(1), price=Decimal(5), currency="RON", status="ACTIVE"),
        row(lot="L2", price=Decimal(6), currency="RON", status="INACTIVE"),
    )
    assert rows(found, "total", "available", "price", "currency", "status") == [
        ("2", None, None, None, None)
    ]


def test_the_same_lot_twice():
    same = gathered(row(lot="L1"), row(lot="L1"), row(lot="L2"))
    assert rows(same, "total") == [("2",)]
    assert told(same.warnings, "code") == [("IDENTICAL_DUPLICATE",)]


def test_a_lot_in_error_leaves_no_sum():
    other = gathered(
        row(lot="L1"), row(lot="L1", total=2), row(lot="L2"), row(lot="L1", warehouse="2")
    )
    assert rows(other, "warehouse") == [("2",)]
    bad = Remark("3", "q", ErrorCode.UNPARSEABLE_NUMBER, "x", "A", None, "L3")
    assert gathered(row(lot="L1"), errors=[bad]).rows == ()
    assert gathered(row(), errors=[bad]).rows == ()
    assert len(gathered(row(warehouse="2", lot="L1"), errors=[bad]).rows) == 1
    lotless = Remark("3", "q", ErrorCode.UNPARSEABLE_NUMBER, "x", "A")
    assert gathered(row(lot="L1"), errors=[lotless]).rows == ()


def test_a_row_beside_one_in_error_of_the_same_key_is_none():
    """Who knows which figures the other had: it might as well be a conflicting duplicate."""
    bad = Remark("3", "q", ErrorCode.UNPARSEABLE_NUMBER, "12 buc", "A", "1")
    found = gathered(row(warehouse="1"), row(), row("B", warehouse="1"), errors=[bad])
    assert rows(found, "sku", "warehouse") == [("A", None), ("B", "1")]
    assert told(found.errors) == [("3", "UNPARSEABLE_NUMBER"), ("x", "CONFLICTING_DUPLICATE")]
    unplaced = Remark("3", "q", ErrorCode.UNPARSEABLE_NUMBER, "12 buc", "Ş")
    found = gathered(row("Ș"), row("Ș", warehouse="1"), errors=[unplaced])
    assert rows(found, "warehouse") == [("1",)]
    nobody = Remark("3", "q", ErrorCode.MISSING_SKU, None, None)
    assert len(gathered(row(), errors=[nobody]).rows) == 1


def test_skus_that_differ_only_by_case_stay_and_are_told():
    found = gathered(row("abc"), row("ABC"), row("Abc"), row("ABC", warehouse="2"), row("x"))
    assert [sku for (sku,) in rows(found, "sku")] == ["abc", "ABC", "Abc", "ABC", "x"]
    assert told(found.warnings, "code", "sku") == [
        ("SKU_DIFFERS_ONLY_BY_CASE", "ABC"),
        ("SKU_DIFFERS_ONLY_BY_CASE", "Abc"),
    ]


def test_letters_with_a_cedilla_are_the_same_letters():
    found = gathered(row("ŞURUB"), row("ȘURUB"))
    assert rows(found, "sku") == [("ŞURUB",)]
    assert told(found.warnings, "code") == [("IDENTICAL_DUPLICATE",)]


ROWS = st.lists(
    st.builds(
        row,
        sku=st.sampled_from(["A", "B", "a"]),
        total=st.integers(0, 2),
        warehouse=st.sampled_from([None, "1"]),
        lot=st.sampled_from([None, "L1", "L2"]),
    ),
    max_size=8,
)


@given(ROWS, st.data())
def test_neither_the_cut_into_pages_nor_their_order_matters(found, data):
    """What is left is the same; only the places named may be others."""

    def stock(pages):
        done = gather(pages)
        conflicts = {(each.sku, each.warehouse, each.lot) for each in done.errors}
        return {(r.sku, r.warehouse): r.total for r in done.rows}, conflicts

    whole = stock([Parsed(tuple(found))])
    assert whole == stock([Parsed((each,)) for each in found])
    assert whole == stock([Parsed(tuple(data.draw(st.permutations(found))))])


@given(ROWS)
def test_there_is_one_row_for_each_sku_and_warehouse(found):
    done = gather([Parsed(tuple(found))])
    places = [(each.sku, each.warehouse) for each in done.rows]
    assert len(set(places)) == len(places)
