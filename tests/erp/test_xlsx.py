"""Workbooks: values as they are stored, and files that mean harm."""

from datetime import datetime

import pytest
from openpyxl import Workbook

from cerniq_stock.erp import xlsx
from cerniq_stock.erp.config import read_config
from cerniq_stock.erp.csv_import import parse_file
from cerniq_stock.erp.gather import gather
from cerniq_stock.erp.rows import PayloadError
from tests.erp.understood import rows, told
from tests.erp.workbooks import raw_workbook, workbook

HEADER = ("Cod articol", "Stoc", "Preț")


def understood(path, **config):
    return gather(parse_file(path, read_config(config)))


@pytest.fixture
def book(tmp_path):
    def write(*lines, **config):
        return understood(workbook(tmp_path / "stock.xlsx", HEADER, *lines), **config)

    return write


SKUS = [
    ("A-001", "A-001"),
    ("00123", "00123"),
    (123, "123"),
    (123.0, "123"),
    ((123, "00000"), "00123"),
    ((594123456789, "0"), "594123456789"),
    (123456789012345, "123456789012345"),
    (1234567890123456, "SKU_PRECISION_LOST"),
    (5.941234567890123e18, "SKU_PRECISION_LOST"),
    (12.5, "SKU_PRECISION_LOST"),
    ("5.94E+12", "SKU_SCIENTIFIC_NOTATION"),
    (True, "UNUSABLE_SKU"),
    (None, "MISSING_SKU"),
]


@pytest.mark.parametrize(("value", "expected"), SKUS)
def test_skus(book, value, expected):
    found = book([value, 1])
    if expected.isupper() and "_" in expected:
        assert (found.rows, told(found.errors)) == ((), [("2", expected)])
    else:
        assert rows(found, "sku", "where") == [(expected, "2")]


def test_a_sku_that_became_a_day_is_told(book):
    found = book([datetime(2026, 3, 10), 1])  # noqa: DTZ001 - as a cell has it
    assert rows(found, "sku") == [("2026-03-10",)]
    assert told(found.warnings) == [("2", "SKU_LOOKS_LIKE_DATE")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (12.5, "12.5"),
        (0.1 + 0.2, "0.3"),
        (-3, "-3"),
        ("12,5", "12.5"),
        ((7, "000"), "7"),
        ("1.234", "1234"),
        ("#N/A", "UNPARSEABLE_NUMBER"),
        (">10", "UNPARSEABLE_NUMBER"),
        (True, "UNPARSEABLE_NUMBER"),
        (datetime(2026, 3, 10), "UNPARSEABLE_NUMBER"),  # noqa: DTZ001 - as a cell has it
        (0.12345, "UNPARSEABLE_NUMBER"),
        (1e300, "UNPARSEABLE_NUMBER"),
        (None, "MISSING_TOTAL"),
        ("=1+1", "MISSING_TOTAL"),  # nobody has calculated it
    ],
)
def test_quantities(book, value, expected):
    found = book(["A", value, 1.5], decimal=",")
    if "_" in expected:
        assert (found.rows, told(found.errors)) == ((), [("2", expected)])
    else:
        assert rows(found, "total", "price") == [(expected, "1.5")]


def test_titles_blank_rows_and_totals(tmp_path):
    path = workbook(
        tmp_path / "stock.xlsx",
        ["Stoc la 19.11.2026"],
        [],
        HEADER,
        ["A", 1, None],
        [],
        [],
        [],
        ["B", 2],
        HEADER,
        [None, 3, "Total general"],
    )
    found = understood(path)
    assert rows(found, "sku", "where") == [("A", "4"), ("B", "8")]
    assert told(found.skipped) == [
        *(("1", "TITLE_LINE"), ("2", "BLANK_LINE"), ("5", "BLANK_LINE")),
        *(("9", "TITLE_LINE"), ("10", "TOTALS_LINE")),
    ]


def test_the_first_sheet_that_is_not_hidden_counts(tmp_path):
    book = Workbook()
    for name, sku in (("Ascuns", "A"), ("Stoc", "B"), ("Vechi", "C")):
        page = book.create_sheet(name)
        page.append(HEADER)
        page.append([sku, 1])
    del book["Sheet"]
    book["Ascuns"].sheet_state = "hidden"
    book.save(tmp_path / "stock.xlsx")
    assert rows(understood(tmp_path / "stock.xlsx"), "sku") == [("B",)]
    assert rows(understood(tmp_path / "stock.xlsx", sheet="Ascuns"), "sku") == [("A",)]
    with pytest.raises(PayloadError, match="no sheet 'X'; it has Ascuns, Stoc, Vechi"):
        understood(tmp_path / "stock.xlsx", sheet="X")


def cells(*values):
    return "".join(f'<c t="inlineStr"><is><t>{value}</t></is></c>' for value in values)


def test_inline_texts_and_results_of_formulas(tmp_path):
    path = raw_workbook(
        tmp_path / "stock.xlsx",
        f"<row>{cells('Cod', 'Stoc')}</row>"
        '<row><c t="str"><f>A1</f><v>0012</v></c><c><f>1+1</f><v>2</v></c></row>',
    )
    assert rows(understood(path), "sku", "total") == [("0012", "2")]


ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
FILE_ENTITY = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("doctype", [ENTITIES, FILE_ENTITY])
def test_entities_are_refused(tmp_path, doctype):
    path = raw_workbook(tmp_path / "x.xlsx", f"<row>{cells('Cod', '&a;')}</row>", doctype)
    with pytest.raises(PayloadError, match=r"^The workbook cannot be read: its XML defines ent"):
        understood(path)


def test_what_unpacks_to_too_much_is_refused_unread(tmp_path, monkeypatch):
    path = raw_workbook(tmp_path / "x.xlsx", "<row/>" * 1_000_000)
    with pytest.raises(PayloadError, match=r"sheet1\.xml is packed suspiciously tight"):
        understood(path)
    monkeypatch.setattr(xlsx, "MAX_BYTES", 1000)
    with pytest.raises(PayloadError, match="would unpack to more than"):
        understood(path)


def test_rows_beyond_the_last_possible_are_refused(tmp_path):
    path = raw_workbook(
        tmp_path / "x.xlsx",
        f'<row r="1">{cells("Cod", "Stoc")}</row><row r="99999999999">{cells("A", "1")}</row>',
    )
    with pytest.raises(PayloadError, match="more than 1,048,576 rows"):
        understood(path)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"PK\x03\x04 and nothing else", "The workbook cannot be read: BadZipFile"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old or encrypted workbook"),
    ],
)
def test_damaged_and_old_workbooks(tmp_path, data, sentence):
    path = tmp_path / "x.xlsx"
    path.write_bytes(data)
    with pytest.raises(PayloadError, match=sentence):
        understood(path)


def test_a_workbook_cut_short(tmp_path):
    whole = workbook(tmp_path / "x.xlsx", HEADER, ["A", 1]).read_bytes()
    for size in range(4, len(whole), 97):
        (tmp_path / "x.xlsx").write_bytes(whole[:size])
        with pytest.raises(PayloadError):
            understood(tmp_path / "x.xlsx")
