"""CSV from merchants: encodings, delimiters, headers, and lines that are no row."""

import codecs
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerniq_stock.erp.config import read_config
from cerniq_stock.erp.csv_import import CHUNK, parse_file
from cerniq_stock.erp.csv_text import encoding_of
from cerniq_stock.erp.gather import gather
from cerniq_stock.erp.rows import PayloadError
from cerniq_stock.errors import InvalidInputError
from tests.erp.understood import rows, told

HEADER = "Cod articol;Denumire;Stoc;Preț\n"


@pytest.fixture
def csv(tmp_path):
    """Understand a text, or bytes, as a file."""

    def understand(content, **config):
        path = tmp_path / "stock.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return gather(parse_file(path, read_config(config)))

    return understand


def test_a_romanian_export(csv):
    found = csv(
        "\ufeffCod articol;Denumire;Gestiune;Stoc;Preț;Monedă;Stare;Data modificării;Lot\r\n"
        '00123;"Șurub M6;\nzincat";Depozit;1.234,500;12,50;lei;Inactiv;19.11.2026 12:04;L1\r\n',
        decimal=",",
    )
    (row,) = rows(
        found,
        *("sku", "total", "available", "price", "currency", "status", "warehouse"),
        *("last_modified", "lot", "where"),
    )
    assert row == (
        *("00123", "1234.5", None, "12.5", "RON", "INACTIVE", "Depozit"),
        *("2026-11-19T10:04:00Z", "L1", "2"),
    )
    assert found.errors == found.warnings == found.skipped == ()


# -- encodings ------------------------------------------------------------------------------

ROMANIAN = "Cod;Denumire;Preţ;Stoc\nŞURUB;Ţeavă;1;5\n"  # with the cedillas of cp1250


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (codecs.BOM_UTF8 + ROMANIAN.encode(), "utf-8-sig"),
        (ROMANIAN.encode(), "utf-8-sig"),
        (ROMANIAN.encode("utf-16"), "utf-16"),
        (codecs.BOM_UTF16_BE + ROMANIAN.encode("utf-16-be"), "utf-16"),
        (ROMANIAN.encode("utf-16-le"), "utf-16-le"),
        (ROMANIAN.encode("utf-16-be"), "utf-16-be"),
        (ROMANIAN.encode("cp1250"), "cp1250"),
    ],
)
def test_the_encoding_is_found(csv, tmp_path, data, encoding):
    found = csv(data)
    assert rows(found, "sku", "total", "price") == [("ŞURUB", "5", "1")]
    assert encoding_of(tmp_path / "stock.csv", read_config({})) == encoding


def test_the_code_page_is_a_setting_and_never_replaces_letters(csv):
    latin = ROMANIAN.encode("iso-8859-2")
    assert rows(csv(latin, encoding="iso-8859-2"), "sku") == [("ŞURUB",)]
    late = HEADER.encode() + b"A;x;1;1\n" * 50_000 + b"B;\x81;1;1\n"
    with pytest.raises(PayloadError, match="The file is no cp1250 text"):
        csv(late)
    assert len(csv(late.replace(b"\x81", b"\xea")).rows) == 2


# -- the header -----------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [";", ",", "\t", "|"])
def test_the_delimiter_is_found_in_the_header_and_not_in_the_data(csv, delimiter):
    header = delimiter.join(("Cod", "Denumire", "Stoc"))
    line = delimiter.join(("A", '";;;;,,,,\t\t\t||||"', "5"))
    assert rows(csv(f"Stoc; la, zi\n{header}\n{line}\n"), "sku", "total") == [("A", "5")]


def test_the_delimiter_is_told_by_the_file_or_the_configuration(csv):
    assert rows(csv("sep=|\nCod|Stoc\nA|1\n"), "sku", "total") == [("A", "1")]
    assert rows(csv("Cod;Stoc\nA;1\n", delimiter=";"), "sku") == [("A",)]
    with pytest.raises(PayloadError, match="no header"):
        csv("Cod;Stoc\nA;1\n", delimiter=",")


@pytest.mark.parametrize(
    "header",
    [
        *("cod;stoc", "COD ARTICOL;STOC CURENT", " Cod. produs ;Cant.", "SKU;Cantitate"),
        *("Cod bare;Stoc", "EAN;Disponibil", "cod_articol;stoc_curent", "Cod\u00a0articol;Stoc"),
        *("Cod;Stoc disponibil", '"Cod";"Stoc"', "sku;quantity", "Cod articol;Stoc;Cod bare"),
    ],
)
def test_headers_are_matched_as_people_read_them(csv, header):
    more = ";594" if header.count(";") == 2 else ""
    assert rows(csv(f"{header}\nA;5{more}\n"), "sku", "total") == [("A", "5")]


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("Cod;Stoc;Stoc disponibil", "'Stoc' and 'Stoc disponibil' may both be total"),
        ("Cod;SKU;Stoc", "'Cod' and 'SKU' may both be sku"),
        ("Cod;Stoc;STOC", "'Stoc' and 'STOC' may both be total"),
        ("Cod;Stoc;Preț;Preț cu TVA", "'Preț' and 'Preț cu TVA' may both be price"),
        ("EAN;Cod bare;Stoc", "'EAN' and 'Cod bare' may both be sku"),
    ],
)
def test_ambiguous_headers_are_named(csv, header, sentence):
    with pytest.raises(PayloadError, match=f"{sentence}; say which with columns"):
        csv(f"{header}\nA;1;2;3\n")


def test_columns_say_which_is_which(csv):
    text = "Cod;Stoc;Stoc disponibil;Preț;Preț cu TVA\nA;5;4;1;2\n"
    columns = {"available": "stoc DISPONIBIL", "price": "Pret cu TVA"}
    found = csv(text, columns=columns)
    assert rows(found, "total", "available", "price") == [("5", "4", "2")]
    none = csv(text, columns=columns | {"price": None})
    assert rows(none, "price") == [(None,)]
    own = csv("Artikel;Bestand\nA;5\n", columns={"sku": "Artikel", "total": "Bestand"})
    assert rows(own, "sku", "total") == [("A", "5")]


@pytest.mark.parametrize(
    ("text", "config", "sentence"),
    [
        ("", {}, "The file is empty"),
        ("\n\n", {}, "no header"),
        ("Denumire;Cod;Preț\nx;A;1\n", {}, "line 1 has Denumire, Cod, Preț; name the columns"),
        ('"Cod\narticol";"Preț\r\n\tcu TVA"\n', {}, "line 1 has Cod articol, Preț cu TVA; name"),
        ('"Cod\narticol";"Stoc\nA";Stoc A\n', {"columns": {"total": "Stoc A"}}, "both be total"),
        ("A;1\nB;2\n", {}, "no header"),
        ("Cod;Stoc\nA;1\n", {"columns": {"price": "Tarif"}}, "no column 'Tarif'"),
        ("<!DOCTYPE html><html><body>login</body></html>", {}, "web page"),
        ('{"stocuri":[]}', {}, "no header"),
        ("x\n" * 50 + "Cod;Stoc\nA;1\n", {}, "in the first 50 lines"),
        ('Cod;Stoc\nA;1\n"B;2\nC;3\n', {}, "Line 3: this is no CSV: a quote is never closed"),
        (f'Cod;Stoc\nA;1\n"{"x" * 200_000}";2\n', {}, "Line 3: this is no CSV: field larger"),
        (f"Cod;Stoc\nA;1\n{'x;' * 600_000}\n", {}, "Line 3 is longer than 1,000,000"),
    ],
)
def test_what_is_no_table_is_one_sentence(csv, text, config, sentence):
    with pytest.raises(PayloadError, match=sentence) as caught:
        csv(text, **config)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(PayloadError, match=r"^The file cannot be read: "):
            list(parse_file(path, read_config({})))


# -- lines ----------------------------------------------------------------------------------


def test_lines_that_are_no_row_are_told(csv):
    found = csv(
        "Firma Exemplu SRL\n"
        "\n"
        "Stoc la data;19.11.2026\n" + HEADER + "A;x;1;2\n"
        ";;;\n"
        "\n"
        "B;x;2;2\n" + HEADER + ";Total gestiune;3;\n"
        "TOTAL GENERAL;;3;\n"
        "TOTAL-5W40;ulei;4;1\n"
        ";;7;Subtotal\n"
    )
    assert rows(found, "sku", "where") == [("A", "5"), ("B", "8"), ("TOTAL-5W40", "12")]
    assert told(found.skipped, "where", "code", "raw") == [
        ("1", "TITLE_LINE", "Firma Exemplu SRL"),
        ("2", "BLANK_LINE", ""),
        ("3", "TITLE_LINE", "Stoc la data 19.11.2026"),
        ("6", "BLANK_LINE", ""),
        ("7", "BLANK_LINE", ""),
        ("9", "TITLE_LINE", "Cod articol Denumire Stoc Preț"),
        ("10", "TOTALS_LINE", "Total gestiune 3"),
        ("11", "TOTALS_LINE", "TOTAL GENERAL 3"),
        ("13", "TOTALS_LINE", "7 Subtotal"),
    ]


@pytest.mark.parametrize(
    "cell",
    [
        *(
            "total",
            "TOTAL:",
            "Total general",
            "total 5",
            "Total5",
            "Total=5",
            "- TOTAL -",
            "Totaluri",
        ),
        *("Subtotal", "sub-total 3", "Sub total gestiune", "Grand total", "TOTALUL", "T O T A L"),
    ],
)
def test_totals_are_told_by_whole_words(csv, cell):
    found = csv(f"{HEADER};{cell};3;\n")
    assert (found.errors, told(found.skipped)) == ((), [("2", "TOTALS_LINE")])


@pytest.mark.parametrize(
    "cell",
    ["Totalizator 5 cifre", "Totalis", "subtotalizator", "Tot altceva", "Stoc total", "tota l"],
)
def test_what_only_begins_like_a_total_lacks_its_sku(csv, cell):
    found = csv(f"{HEADER};{cell};3;\n")
    assert (found.skipped, told(found.errors)) == ((), [("2", "MISSING_SKU")])


def test_delimiters_at_the_end_of_lines_are_no_cells(csv):
    assert len(csv("Cod;Stoc;;\nA;1;;\nB;2;;;;\nC;3\n").rows) == 3
    assert len(csv("Cod;Stoc\nA;1;;;\n").rows) == 1


@pytest.mark.parametrize("line", ["A;x;1", "A;x;1;2;3", "A;x", 'A;"x"y;1;2'])
def test_lines_of_other_lengths_are_errors(csv, line):
    found = csv(f"{HEADER}{line}\nB;y;1;1\n")
    assert rows(found, "sku", "where") == [("B", "3")]
    assert told(found.errors, "where", "code", "raw", "sku") == [
        ("2", "WRONG_FIELD_COUNT", line, "A")
    ]


LOTS = "Cod;Gestiune;Lot;Stoc\n"


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("A;1;L2;3;x", ("A", "1", "L2")),
        ("A;1;L2", ("A", "1", "L2")),
        ("A;1", ("A", "1", None)),
        ('A;1;L2;"3"x', ("A", "1", "L2")),
        ('A;1;"L\n2";"3"x', ("A", "1", "L\n2")),
        ('="A";1;L2;3;x', ("A", "1", "L2")),
        (" A ; 1;L2", ("A", "1", "L2")),
    ],
)
def test_a_line_of_another_length_leaves_no_sum_of_the_other_lots(csv, line, place):
    found = csv(f"{LOTS}A;1;L1;5\n{line}\nA;2;L1;7\nB;1;L1;9\n")
    assert rows(found, "sku", "warehouse", "total") == [("A", "2", "7"), ("B", "1", "9")]
    assert told(found.errors, "code", "sku", "warehouse", "lot") == [("WRONG_FIELD_COUNT", *place)]


def test_a_line_of_another_length_has_the_warehouse_that_counts(csv):
    """What stands at the warehouse's place, where it is none that counts, may have been shifted."""
    text = "Cod;Denumire;Gestiune;Lot;Stoc\nA;x;D;L1;5\nA;x; zincat;D;L2;3\nB;x;D;L1;1\n"
    assert rows(csv(text, warehouses={"D": "MAIN"}), "sku", "warehouse") == [("B", "MAIN")]
    assert rows(csv(text, warehouses=["D"]), "sku", "warehouse") == [("B", "D")]


@pytest.mark.parametrize("line", [";1;L2", "x" * 51, "5,94E+12;1", f'"x" {"y" * 200_000}'])
def test_a_line_of_another_length_need_not_tell_whose_it_is(csv, line):
    found = csv(f"{LOTS}{line}\nB;1;L1;9\n")
    assert len(found.rows) == 1
    assert told(found.errors, "code", "sku") == [("WRONG_FIELD_COUNT", None)]


@pytest.mark.parametrize("cell", ["#N/A", ">10", "în stoc", "-", "12 buc", "1e3", "5-", "(5)", "x"])
def test_what_is_no_number_is_an_error_and_not_zero(csv, cell):
    found = csv(f"{HEADER}A;x;{cell};1\n")
    assert found.rows == ()
    assert told(found.errors, "where", "field", "code", "raw", "sku") == [
        ("2", "Stoc", "UNPARSEABLE_NUMBER", cell, "A")
    ]


@pytest.mark.parametrize(
    ("line", "field", "code"),
    [
        (";x;1;1", "Cod articol", "MISSING_SKU"),
        ("A;x;;1", "Stoc", "MISSING_TOTAL"),
        ("5,94E+12;x;1;1", "Cod articol", "SKU_SCIENTIFIC_NOTATION"),
        (f"{'x' * 51};x;1;1", "Cod articol", "UNUSABLE_SKU"),
    ],
)
def test_errors_name_the_column(csv, line, field, code):
    found = csv(f"{HEADER}{line}\n")
    assert told(found.errors, "where", "field", "code") == [("2", field, code)]


def test_one_cell_is_read_one_way(csv):
    text = "Cod;Stoc\nA;1.234\n"
    assert rows(csv(text), "total") == [("1.234",)]
    assert rows(csv(text, decimal=","), "total") == [("1234",)]
    assert csv(text, decimal=",", thousands=" ").rows == ()


def test_a_price_with_words_is_unknown_and_the_row_stays(csv):
    found = csv(f"{HEADER}A;x;1;12,50 lei\n")
    assert rows(found, "sku", "price") == [("A", None)]
    assert told(found.warnings, "field", "code", "raw") == [
        ("Preț", "UNPARSEABLE_PRICE", "12,50 lei")
    ]


def test_leading_zeros_dates_case_and_duplicates(csv):
    found = csv(f"{HEADER}007;x;1;1\n10-mar.;x;1;1\nab;x;1;1\nAB;x;1;1\n007;x;1;1\nC;;1;\nC;;2;\n")
    assert [sku for (sku,) in rows(found, "sku")] == ["007", "10-mar.", "ab", "AB"]
    assert told(found.warnings) == [
        ("3", "SKU_LOOKS_LIKE_DATE"),
        ("6", "IDENTICAL_DUPLICATE"),
        ("5", "SKU_DIFFERS_ONLY_BY_CASE"),
    ]
    assert told(found.errors) == [("7", "CONFLICTING_DUPLICATE"), ("8", "CONFLICTING_DUPLICATE")]


@given(st.lists(st.text(alphabet='A1;,"\n\r\t.-Şș \0', max_size=12), max_size=6))
def test_whatever_stands_in_a_file_is_understood_or_refused(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("csv") / "stock.csv"
    path.write_bytes(("Cod;Stoc\n" + "\n".join(lines)).encode())
    try:
        found = gather(parse_file(path, read_config({})))
    except PayloadError:
        return
    for row in found.rows:
        assert row.sku
        assert row.total.is_finite()


@pytest.mark.parametrize("cell", ['="00123"', '"=""00123"""', "00123", '"00123"', " 00123 "])
def test_a_text_that_is_protected_from_spreadsheets(csv, cell):
    assert rows(csv(f"Cod;Stoc\n{cell};1\n"), "sku") == [("00123",)]


def test_unknown_columns_are_refused_by_the_configuration():
    with pytest.raises(InvalidInputError, match="colour is none of sku"):
        read_config({"columns": {"colour": "Culoare"}})


def test_large_files_do_not_sit_in_memory(tmp_path):
    path = tmp_path / "large.csv"
    lines = 30 * CHUNK
    with path.open("w", encoding="utf-8") as file:
        file.write(HEADER)
        file.writelines(f"ART-{number};Șurub;{number % 97};1\n" for number in range(lines))
    config = read_config({})

    def peak(read):
        tracemalloc.start()
        read(parse_file(path, config))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    sizes = []
    streamed = peak(lambda pages: sizes.extend(len(page.rows) for page in pages))
    assert sizes == [CHUNK] * 30
    assert streamed < 5_000_000
    assert streamed * 3 < peak(list)  # what it would be if they did
