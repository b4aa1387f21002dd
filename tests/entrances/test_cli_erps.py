"""`cerniq-stock erp add`, `show` and their like, as people use them."""

import json

import pytest

from cerniq_stock.erp.secrets import new_key

KEY, NEW = new_key("k1"), new_key("k2")
CANARY = "kanarienvogel-4b1d"
CONNECTION = {"baseUrl": "https://saga.example", "apiKey": CANARY, "companyCode": "F1"}
SAGA = json.dumps({"connection": CONNECTION, "parse": {"decimal": ","}})


@pytest.fixture(autouse=True)
def _keys(monkeypatch):
    monkeypatch.setenv("CERNIQ_SECRET_KEYS", KEY)


def test_from_nothing_to_a_tested_source(ok, cli, tmp_path, monkeypatch, shop):
    monkeypatch.setenv("CERNIQ_ERP_FILES_DIR", str(tmp_path))
    config = json.dumps({"connection": {"file": "stock.csv"}})
    assert (
        "erp test CSV_IMPORT"
        in ok("erp", "add", "csv_import", "--config", "-", stdin=config).stdout
    )
    missing = cli("erp", "test", "CSV_IMPORT", "--json")
    assert (missing.exit_code, missing.document["error"]["code"]) == (7, "UNREACHABLE")
    (tmp_path / shop).mkdir()
    (tmp_path / shop / "stock.csv").write_text("Cod;Stoc\nA;1\n")
    assert "answers in" in ok("erp", "test", "CSV_IMPORT").stdout
    document = ok("erp", "test", "CSV_IMPORT", "--json").document
    assert (document["erpSystem"], document["ok"]) == ("CSV_IMPORT", True)
    assert "CSV_IMPORT" in ok("erp", "list").stdout
    ok("erp", "remove", "CSV_IMPORT", "--yes")
    assert ok("erp", "list", "--json").document == []


def test_secrets_are_stars_and_settings_are_shown(ok, monkeypatch):
    ok("erp", "add", "SAGA", "--config", "-", "--name", "Contabilitate", stdin=SAGA)
    for args in (["erp", "show", "SAGA"], ["erp", "show", "SAGA", "--json"], ["erp", "list"]):
        result = ok(*args)
        assert CANARY not in result.stdout + result.stderr
    shown = ok("erp", "show", "SAGA", "--json").document
    assert shown["name"] == "Contabilitate"
    assert shown["configuration"] == {
        "connection": shown["configuration"]["connection"]
        | {"baseUrl": "https://saga.example/", "apiKey": "***", "companyCode": "F1"},
        "parse": {"decimal": ","},
    }
    assert "connection.apiKey" in ok("erp", "show", "SAGA").stdout
    monkeypatch.delenv("CERNIQ_SECRET_KEYS")
    closed = ok("erp", "show", "SAGA", "--json")
    assert closed.document["configuration"] is None
    assert "erp new-key" in closed.stderr


def test_changes_and_schedules(ok):
    ok("erp", "add", "SAGA", "--config", "-", "--disabled", "--schedule", "0 4 * * *", stdin=SAGA)
    view = ok("erp", "enable", "SAGA", "--json").document
    assert (view["enabled"], view["syncSchedule"]) == (True, "0 4 * * *")
    assert ok("erp", "schedule", "SAGA", "none", "--json").document["syncSchedule"] is None
    assert not ok("erp", "disable", "SAGA", "--json").document["enabled"]
    options = '{"conflictResolution": "MANUAL"}'
    changed = ok("erp", "change", "SAGA", "--options", "-", "--json", stdin=options).document
    assert changed["options"] == {"conflictResolution": "MANUAL"}


def test_keys_are_made_and_changed(ok, monkeypatch):
    made = ok("erp", "new-key", "--name", "k9").stdout.strip()
    assert made.startswith("k9:")
    ok("erp", "add", "SAGA", "--config", "-", stdin=SAGA)
    monkeypatch.setenv("CERNIQ_SECRET_KEYS", f"{NEW},{KEY}")
    assert "1 to be put under key k2" in ok("erp", "rotate-keys", "--dry-run").stdout
    assert "1 put under key k2" in ok("erp", "rotate-keys").stdout
    monkeypatch.setenv("CERNIQ_SECRET_KEYS", NEW)
    told = ok("erp", "rotate-keys", "--json").document
    assert (told["current"], told["rewrapped"], told["failed"]) == (1, 0, [])
    assert ok("erp", "show", "SAGA", "--json").document["configuration"]


def test_what_a_change_of_keys_cannot_open_ends_with_one(ok, cli, monkeypatch):
    ok("erp", "add", "SAGA", "--config", "-", stdin=SAGA)
    monkeypatch.setenv("CERNIQ_SECRET_KEYS", NEW)
    result = cli("erp", "rotate-keys")
    assert result.exit_code == 1
    assert "1 failed" in result.stdout
    assert "not configured" in result.stdout


MISTAKES = {
    "unknown key": (["add", "SAGA", "--config", "-"], '{"x": 1}', 5, "unknown key x"),
    "no json": (["add", "SAGA", "--config", "-"], CANARY, 5, "not JSON"),
    "stars": (
        ["add", "SAGA", "--config", "-"],
        SAGA.replace(CANARY, "***"),
        5,
        "give the secret itself",
    ),
    "schedule": (["add", "SAGA", "--config", "-", "--schedule", "x"], SAGA, 5, "cron expression"),
    "no file": (["add", "SAGA", "--config", "none.json"], None, 5, "none.json cannot be read"),
    "settings as an argument": (
        ["add", "SAGA", "--config", SAGA],
        None,
        5,
        "--config takes a file, or - for stdin",
    ),
    "options as an argument": (
        ["change", "SAGA", "--options", f'["{CANARY}"]'],
        None,
        5,
        "--options takes a file, or - for stdin",
    ),
    "a pair as an argument": (
        ["add", "SAGA", "--config", f"apiKey={CANARY}"],
        None,
        5,
        "--config takes a file, or - for stdin",
    ),
    "lines as an argument": (
        ["add", "SAGA", "--config", f"apiKey\n{CANARY}"],
        None,
        5,
        "--config takes a file, or - for stdin",
    ),
    "no system": (["add", "ABACUS", "--config", "-"], SAGA, 2, "ABACUS"),
    "not there": (["show", "SAGA"], None, 3, "No integration with SAGA"),
    "nothing to change": (["change", "SAGA"], None, 2, "Nothing to change"),
    "twice stdin": (["change", "SAGA", "--config", "-", "--options", "-"], SAGA, 2, "Only one of"),
    "unconfirmed": (["remove", "SAGA"], None, 2, "say --yes"),
    "key's name": (["new-key", "--name", "a b"], None, 5, "a key's name is"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(cli, name):
    args, stdin, code, sentence = MISTAKES[name]
    result = cli("erp", *args, stdin=stdin)
    assert (result.exit_code, result.stdout) == (code, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert sentence in line
    assert CANARY not in line
    assert CANARY not in cli("erp", *args, "--json", stdin=stdin).stdout


def test_without_keys_the_sentence_says_how_to_make_one(cli, monkeypatch):
    monkeypatch.delenv("CERNIQ_SECRET_KEYS")
    result = cli("erp", "add", "SAGA", "--config", "-", stdin=SAGA)
    assert result.exit_code == 5
    assert (
        "make one with `cerniq-stock erp new-key` and set it as CERNIQ_SECRET_KEYS" in result.stderr
    )
