"""`cerniq-stock erp add`, `show` and their like, as people use them."""

import asyncio
import json
import os
import signal

import pytest
from structlog.testing import capture_logs

from cerniq_stock.erp.secrets import new_key
from cerniq_stock.running import run_workers
from cerniq_stock.settings import Settings

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


def test_secrets_are_stars_and_settings_are_shown(ok, cli, monkeypatch):
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
    assert "set CERNIQ_SECRET_KEYS to the key they were stored with" in closed.stderr
    assert "new-key" not in closed.stderr
    for args in (("add", "SAGA", "--config", "-"), ("rotate-keys",)):
        lost = cli("erp", *args, stdin=SAGA)
        assert lost.exit_code == 5
        assert "the key they were stored with" in lost.stderr


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
    "misspelt": (
        ["add", "SAGA", "--config", "-"],
        SAGA.replace("apiKey", "api_kee"),
        5,
        "Connection of SAGA: unknown key api_kee; there may be base_url, ca_pem, timeout_s",
    ),
    "misspelt below": (
        ["add", "CUSTOM_API", "--config", "-"],
        json.dumps({"connection": {"credentials": {"tokken": CANARY}}}),
        5,
        "unknown key credentials.tokken; there may be token, username, password",
    ),
    "misspelt place": (
        ["add", "CSV_IMPORT", "--config", "-"],
        json.dumps({"connection": {"fil": "stoc.csv", "file": ""}}),
        5,
        "unknown key fil; there may be file, folder",
    ),
    "misspelt mapping": (
        ["add", "SAGA", "--config", "-"],
        json.dumps({"connection": CONNECTION, "parse": {"field_mapping": {"skku": "x"}}}),
        5,
        "unknown key field_mapping.skku; there may be sku, total",
    ),
    "no sales": (["push", "CSV_IMPORT"], None, 5, "CSV_IMPORT takes no sales"),
    "no sales either": (["push", "OBLIO"], None, 5, "OBLIO takes no sales"),
    "no subscription": (["subscribe", "SAGA"], None, 5, "SAGA is subscribed to at the ERP itself"),
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


def _warnings_of_a_worker(dsn):
    """Start a worker, let it stop as soon as it is ready, and return what it warns of."""
    settings = Settings(database_url=dsn, metrics_port=0)
    with capture_logs() as logs:
        asyncio.run(
            run_workers(
                settings, schedules=False, ready=lambda: os.kill(os.getpid(), signal.SIGTERM)
            )
        )
    return [entry for entry in logs if entry["log_level"] == "warning"]


def test_a_worker_says_at_its_start_that_credentials_do_not_open(ok, dsn, monkeypatch):
    ok("erp", "add", "SAGA", "--config", "-", stdin=SAGA)
    assert _warnings_of_a_worker(dsn) == []
    for keys, reason in ((None, "the key they were stored with"), (NEW, "sealed under key 'k1'")):
        if keys is None:
            monkeypatch.delenv("CERNIQ_SECRET_KEYS")
        else:
            monkeypatch.setenv("CERNIQ_SECRET_KEYS", keys)
        (warning,) = _warnings_of_a_worker(dsn)
        assert "do not open" in warning["event"]
        assert (warning["integrations"], warning["closed"]) == (1, 1)
        assert reason in warning["reason"]
    ok("erp", "remove", "SAGA", "--yes")
    monkeypatch.delenv("CERNIQ_SECRET_KEYS")
    assert _warnings_of_a_worker(dsn) == []


def test_doctor_looks_whether_credentials_open(cli, ok, monkeypatch):
    def keys():
        result = cli("doctor", "--json")
        (check,) = (each for each in result.document["checks"] if each["name"] == "keys")
        return result.exit_code, check["status"], check["message"]

    assert keys() == (0, "ok", "credentials of 0 ERPs open")
    ok("erp", "add", "SAGA", "--config", "-", stdin=SAGA)
    assert keys() == (0, "ok", "credentials of 1 ERPs open")
    monkeypatch.delenv("CERNIQ_SECRET_KEYS")
    code, status, message = keys()
    assert (code, status) == (0, "warn")
    assert message.startswith("credentials of 1 of 1 ERPs stay closed: no key")
    monkeypatch.setenv("CERNIQ_SECRET_KEYS", NEW)
    assert keys()[:2] == (1, "fail")
    ok("erp", "remove", "SAGA", "--yes")
    monkeypatch.setenv("CERNIQ_SECRET_KEYS", "k1:short")
    assert keys() == (1, "fail", "CERNIQ_SECRET_KEYS: key 1 is not 32 bytes in base64")


def test_doctor_looks_for_the_folders_of_files(ok, shop, tmp_path, monkeypatch):
    def files():
        checks = ok("doctor", "--json").document["checks"]
        return [(x["status"], x["message"]) for x in checks if x["name"] == "files"]

    ok("erp", "add", "CSV_IMPORT", "--config", "-", stdin="{}")
    assert files() == []
    config = json.dumps({"connection": {"folder": "in"}})
    ok("erp", "change", "CSV_IMPORT", "--config", "-", stdin=config)
    ((status, message),) = files()
    assert status == "warn"
    assert "CERNIQ_ERP_FILES_DIR is not set" in message
    monkeypatch.setenv("CERNIQ_ERP_FILES_DIR", str(tmp_path / "none"))
    assert "names no folder" in files()[0][1]
    monkeypatch.setenv("CERNIQ_ERP_FILES_DIR", str(tmp_path))
    assert "1 have no folder with their tenant's id" in files()[0][1]
    (tmp_path / shop).mkdir()
    assert files() == [("ok", "integrations that read files: 1")]
