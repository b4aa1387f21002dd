"""Product files that cannot be read: told by line and column, nothing changed."""

import pytest

from tests.entrances.conftest import clone, digest

HEADER = (
    "sku,name,unit,status,price,currency,reorder_point,reorder_quantity,expected_restock_date\n"
)

BAD = {
    "empty": ("", "line 1, column sku: the header lacks this column"),
    "no name": ("sku\nA\n", "line 1, column name"),
    "unknown column": ("sku,name,colour\nA,B,red\n", "line 1, column colour: no such column"),
    "column twice": ("sku,name,sku\nA,B,C\n", "line 1, column sku: the column stands twice"),
    "semicolons": ("sku;name\nA;B\n", "line 1, column sku;name: no such column"),
    "short row": ("sku,name\nA,B\n\nC\n", "line 4: 1 cells under 2 columns"),
    "long row": ("sku,name\nA,B,C\n", "line 2: 3 cells under 2 columns"),
    "no sku": ("sku,name\n,B\n", "line 2, column sku"),
    "no name in row": ("sku,name\nA,\n", "line 2, column name"),
    "long sku": (f"sku,name\n{'x' * 51},B\n", "line 2, column sku: sku has 51 characters"),
    "nul": ("sku,name\nA\0,B\n", "line 2, column sku"),
    "unit": (HEADER + "A,B,DOZEN,,,,,,\n", "line 2, column unit"),
    "status": (HEADER + "A,B,,GONE,,,,,\n", "line 2, column status"),
    "price": (HEADER + "A,B,,,cheap,,,,\n", "line 2, column price: unusable: 'cheap'"),
    "negative price": (HEADER + "A,B,,,-1,,,,\n", "line 2, column price"),
    "endless price": (HEADER + "A,B,,,NaN,,,,\n", "line 2, column price"),
    "precise price": (HEADER + "A,B,,,1.23456,,,,\n", "line 2, column price"),
    "huge price": (HEADER + "A,B,,,1e99,,,,\n", "line 2, column price"),
    "currency": (HEADER + "A,B,,,,LEI!,,,\n", "line 2, column currency"),
    "reorder point": (HEADER + "A,B,,,,,-1,,\n", "line 2, column reorder_point"),
    "reorder quantity": (HEADER + "A,B,,,,,,lots,\n", "line 2, column reorder_quantity"),
    "date": (HEADER + "A,B,,,,,,,31.12.2026\n", "line 2, column expected_restock_date"),
    "twice": ("sku,name\nA,B\nC,D\nA,E\n", "line 4, column sku: A stands in line 2 already"),
    "open quote": ('sku,name\nA,"B\n', "line 2: this is no CSV"),
    "after a long cell": ('sku,name\nA,"B\nB\nB"\nC\n', "line 5: 1 cells under 2 columns"),
}


@pytest.fixture(scope="module")
def dsn(server, shop_template):
    """One database for all: each test sees to it that it is left as it was."""
    yield from clone(server, shop_template[0])


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_named_by_line_and_column(cli, dsn, shop, name):
    text, reason = BAD[name]
    before = digest(dsn)
    for more in ((), ("--dry-run",)):
        result = cli("product", "import", "-", *more, stdin=text)
        assert (result.exit_code, result.stdout) == (5, "")
        (sentence,) = result.stderr.splitlines()
        assert sentence.startswith(f"Error: {reason}"), sentence
    assert digest(dsn) == before


@pytest.mark.parametrize("data", [b"\x7fELF\xff\xfe", b"sku,name\nA,B\nC,\xe2\x28\n", b"\xff" * 9])
def test_what_is_no_text_is_told(cli, shop, data):
    result = cli("product", "import", "-", stdin=data)
    assert result.exit_code == 5
    assert "the file is not UTF-8 text" in result.stderr


def test_files_that_cannot_be_read(cli, shop, tmp_path):
    for name in (str(tmp_path), str(tmp_path / "missing.csv"), "nul\0", ""):
        result = cli("product", "import", name)
        assert result.exit_code == 5, result
        assert len(result.stderr.splitlines()) == 1
