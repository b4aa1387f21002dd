"""`cerniq-stock erp parse`: one document, no database, no traceback."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cerniq_stock.cli.app import app
from tests.entrances.conftest import Result
from tests.erp.workbooks import workbook

NOWHERE = {"CERNIQ_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
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
            "data_modificare": "2026-11-19 12:04:05",
            "lot": "L1",
        },
        {"cod_articol": "B", "cantitate_totala": "12 buc"},
    ]
}


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Run the command in a folder of its own, with a database that cannot be reached."""
    monkeypatch.chdir(tmp_path)

    def run(*args, stdin=None, **files):
        for name, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            (tmp_path / name).write_bytes(data)
        done = CliRunner(env=NOWHERE).invoke(app, ["erp", "parse", *args], input=stdin)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return Result(done.exit_code, done.stdout, done.stderr)

    return run


def test_the_document(cli):
    result = cli("--system", "SAGA", "page", "--json", page=GOLDEN)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.document == {
        "rows": [
            {
                "sku": "ȘURUB-06",
                "total": "12",
                "available": "0",
                "price": "3.5",
                "currency": "RON",
                "status": "ACTIVE",
                "warehouse": "0001",
                "last_modified": "2026-11-19T10:04:05Z",
            }
        ],
        "errors": [
            {
                "where": "stocuri[1]",
                "field": "cantitate_totala",
                "code": "UNPARSEABLE_NUMBER",
                "raw": "12 buc",
                "sku": "B",
            }
        ],
        "warnings": [],
        "skipped": [],
    }


def test_people_get_a_table_and_lists(cli):
    result = cli("--system", "saga", "page", page=GOLDEN)
    assert result.exit_code == 0
    assert "rows 1, errors 1, warnings 0, skipped 0" in result.stdout
    assert "ȘURUB-06" in result.stdout
    assert "UNPARSEABLE_NUMBER" in result.stdout
    assert "Skipped" not in result.stdout


def test_several_files_are_pages_of_one_answer(cli):
    lot = GOLDEN["stocuri"][0]
    result = cli(
        *("--system", "SAGA", "one", "two", "--json"),
        one={"stocuri": [lot]},
        two={"stocuri": [lot | {"lot": "L2", "cantitate_totala": "3"}, lot, {}]},
    )
    (row,) = result.document["rows"]
    assert (row["total"], row["file"]) == ("15", "one")
    (error,) = result.document["errors"]
    assert (error["where"], error["code"], error["file"]) == ("stocuri[2]", "MISSING_SKU", "two")
    (warning,) = result.document["warnings"]
    assert (warning["where"], warning["file"]) == ("stocuri[1]", "two")


@pytest.mark.parametrize(
    ("number", "written"),
    [("1e3", "1000"), ("0.100", "0.1"), ("-0.0", "0"), ("100", "100"), ("1E+9", "1000000000")],
)
def test_numbers_are_written_plainly(cli, number, written):
    page = b'{"value":[{"number":"A","type":"Inventory","inventory":%s}]}' % number.encode()
    result = cli("--system", "MICROSOFT_BC", "page", "--json", page=page)
    assert result.document["rows"][0]["total"] == written


def test_files_and_workbooks_by_their_line(cli, tmp_path):
    config = {"decimal": ",", "warehouses": {"Depozit": "MAIN"}}
    text = "Cod;Stoc;Gestiune\nA;1,5;Depozit\nB;>10;Depozit\n".encode("utf-16")
    result = cli(
        *("--system", "CSV_IMPORT", "--config", "config", "stock", "--json"),
        stock=text,
        config=config,
    )
    (row,) = result.document["rows"]
    assert (row["total"], row["warehouse"]) == ("1.5", "MAIN")
    (error,) = result.document["errors"]
    assert (error["where"], error["field"]) == ("3", "Stoc")
    workbook(tmp_path / "stock.xlsx", ["Cod", "Stoc"], ["A", 1.5], [None, None], ["B", "#N/A"])
    result = cli("--system", "CSV_IMPORT", "stock.xlsx", "--json")
    assert result.document["rows"][0]["total"] == "1.5"
    assert result.document["errors"][0]["where"] == "4"
    assert result.document["skipped"][0]["code"] == "BLANK_LINE"


@pytest.mark.parametrize(
    ("system", "data"),
    [("SAGA", json.dumps(GOLDEN).encode()), ("CSV_IMPORT", b"Cod;Stoc\nA;1\n")],
)
def test_stdin(cli, system, data):
    result = cli("--system", system, "-", "--json", stdin=data)
    assert len(result.document["rows"]) == 1


BAD = {
    "empty": (b"", "OBLIO", "page: The payload is empty"),
    "html": (b"<html>Bad gateway</html>", "OBLIO", "page: The payload is a web page"),
    "no json": (b"{", "OBLIO", "page: The payload is not JSON"),
    "binary": (b"\xff\xfe\x00", "OBLIO", "page: The payload is not UTF-8"),
    "no list": (b'{"status":200}', "OBLIO", "page: This is no answer of Oblio"),
    "refused": (
        b'{"status":401,"statusMessage":"The access token provided is invalid"}',
        "OBLIO",
        "page: Oblio answered with status 401: The access token provided is invalid",
    ),
    "another system": (b'{"stocuri":[]}', "SAP_B1", "page: This is no answer of SAP"),
    "deep": (b"[" * 100_000, "CUSTOM_API", "page: The payload is nested too deeply"),
    "no mapping": (b"[]", "WIZCOUNT", "WIZCOUNT needs field_mapping"),
    "empty table": (b"", "CSV_IMPORT", "page: The file is empty"),
    "html table": (b"<html><table>", "CSV_IMPORT", "page: The file is a web page"),
    "no header": (b"a;b\n1;2\n", "CSV_IMPORT", "page: There is no header"),
    "no workbook at all": (
        bytes(range(1, 256)) + b"\x81\x8d",
        "CSV_IMPORT",
        "page.xlsx: The file is named like a workbook, but this is no workbook",
    ),
    "no workbook": (b"PK\x03\x04", "CSV_IMPORT", "page: The workbook cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_at_all_is_one_sentence(cli, name):
    data, system, sentence = BAD[name]
    page = sentence.partition(":")[0] if sentence.startswith("page") else "page"
    result = cli("--system", system, page, **{page: data})
    assert (result.exit_code, result.stdout) == (5, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: {sentence}"), line
    error = cli("--system", system, page, "--json", **{page: data}).document["error"]
    assert error["code"] == "INVALID_INPUT"


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"colour": 1}, "Configuration: unknown key colour; there may be timezone,"),
        (b"{", "The configuration is not JSON"),
    ],
)
def test_a_bad_configuration_is_one_sentence(cli, config, sentence):
    result = cli("--system", "SAGA", "--config", "config", "page", page=GOLDEN, config=config)
    assert (result.exit_code, result.stdout) == (5, "")
    assert result.stderr.startswith(f"Error: {sentence}")


@pytest.mark.parametrize("whole", [{"connection": {"file": "x"}}, {"parse": {"decimal": ","}}, {}])
def test_the_file_of_erp_add_will_do(cli, whole):
    page = b"Cod;Stoc\nA;1,5\n"
    result = cli("--system", "CSV_IMPORT", "--config", "c", "page", "--json", page=page, c=whole)
    read = [row["total"] for row in result.document["rows"]]
    assert read == (["1.5"] if "parse" in whole else [])


def test_what_stands_beside_these_parts_is_unknown(cli):
    mixed = {"parse": {}, "decimal": ","}
    result = cli("--system", "CSV_IMPORT", "--config", "c", "page", page=b"Cod;Stoc\n", c=mixed)
    assert result.exit_code == 5
    assert "unknown key parse" in result.stderr


def test_people_are_told_lines(cli):
    result = cli("--system", "CSV_IMPORT", "page", page=b"Cod;Stoc\nA;1\nB;12 buc\n")
    assert "line 3" in result.stdout
    document = cli("--system", "CSV_IMPORT", "page", "--json", page=b"Cod;Stoc\nB;x\n").document
    assert document["errors"][0]["where"] == "2"


def test_a_row_beside_one_in_error_is_none(cli):
    result = cli("--system", "CSV_IMPORT", "page", "--json", page=b"Cod;Stoc\nA;12\nA;12 buc\n")
    assert result.document["rows"] == []
    assert [(error["where"], error["code"]) for error in result.document["errors"]] == [
        ("3", "UNPARSEABLE_NUMBER"),
        ("2", "CONFLICTING_DUPLICATE"),
    ]


def test_a_folder_is_no_file_in_one_short_sentence(cli, tmp_path):
    (tmp_path / "folder").mkdir()
    told = {name: cli("--system", name, "folder").stderr for name in ("SAGA", "CSV_IMPORT")}
    assert told == {
        "SAGA": "Error: folder cannot be read: Is a directory\n",
        "CSV_IMPORT": "Error: folder: The file cannot be read: Is a directory\n",
    }


@pytest.mark.parametrize("args", [["-", "--config", "-"], ["-", "-"]])
def test_stdin_is_one_thing_only(cli, args):
    for system in ("SAGA", "CSV_IMPORT"):
        result = cli("--system", system, *args, stdin=b"{}")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == "Error: Only one of the files and --config can be stdin\n"


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (
            ("--system", "FOO", "x"),
            "Invalid value for '--system': 'FOO' is not one of SAGA, SENIOR,",
        ),
        (("x",), "Missing option '--system'. Choose from: SAGA, SENIOR,"),
    ],
)
def test_systems_are_named_as_they_are_documented(cli, args, sentence):
    (line,) = cli(*args).stderr.splitlines()
    assert line.startswith(f"Error: {sentence}")
    assert line.endswith(" CSV_IMPORT; see cerniq-stock erp parse --help")


def test_files_that_are_not_there(cli):
    for args in (("none",), ("page", "--config", "none"), ("page", "none")):
        for system in ("SAGA", "CSV_IMPORT"):
            result = cli("--system", system, *args, page=GOLDEN)
            assert result.exit_code == 5
            assert "Traceback" not in result.stderr


@pytest.mark.parametrize("args", [["--system", "SAP", "x"], ["x"], ["--system", "SAGA"]])
def test_a_line_that_makes_no_sense(cli, args):
    assert cli(*args).exit_code == 2


def test_neither_the_database_nor_the_network_is_touched():
    code = (
        "import sys; from cerniq_stock.cli.app import app\n"
        "try:\n    app(['erp', 'parse', '--system', 'SAGA', '-', '--json'])\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "slow = {'asyncpg', 'sqlalchemy', 'openpyxl', 'httpx2', 'cerniq_stock.wiring'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input='{"stocuri":[]}',
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "[]"
