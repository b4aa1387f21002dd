"""Trouble with ERPs: one sentence, the documented exit code, nothing changed but the log."""

import importlib
import json
import pkgutil
from uuid import UUID

import pytest

import cerniq_stock
from cerniq_stock.cli.problems import ERROR, EXIT_CODES, TROUBLE, problem_of
from cerniq_stock.erp.fakes.base import Reply
from cerniq_stock.erp.fakes.saga import FakeSaga
from cerniq_stock.erp.secrets import new_key
from cerniq_stock.errors import CerniqError
from cerniq_stock.store.syncing import BusyError, turn
from tests.entrances.background import going_on
from tests.entrances.conftest import sql


@pytest.fixture
def saga(ok, monkeypatch):
    """A SAGA on this machine that the shop is connected to."""
    monkeypatch.setenv("CERNIQ_SECRET_KEYS", new_key("k1"))
    with going_on(FakeSaga()) as server:
        monkeypatch.setenv("CERNIQ_ERP_ALLOWED_HOSTS", f"127.0.0.1:{server.port}")
        server.received("LAPTOP-14", "10", "MAIN")
        config = json.dumps({"connection": server.settings()})
        ok("erp", "add", "SAGA", "--config", "-", stdin=config)
        yield server


ANSWERS = {
    "refused credentials": (Reply({"eroare": "Cheie"}, 401), 6, "UNAUTHORIZED"),
    "too many requests": (Reply({}, 429, [("Retry-After", "9999")]), 7, "RATE_LIMITED"),
    "refused": (Reply({"eroare": "firma"}, 400), 6, "REFUSED"),
    "a redirect": (Reply(None, 302, [("Location", "http://10.0.0.1/")]), 6, "REFUSED"),
    "no envelope": (Reply({"altceva": []}), 6, "BAD_PAYLOAD"),
    "nothing in it": (Reply({"stocuri": []}), 4, "SNAPSHOT_REFUSED"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_an_erp_answers_is_told_in_one_sentence(cli, dsn, saga, name):
    reply, exit_code, code = ANSWERS[name]
    before = sql(dsn, "SELECT * FROM stock_levels ORDER BY product_id, warehouse")
    saga.trouble(reply, times=8)
    _is_told(cli, ("erp", "sync", "SAGA", "--full"), exit_code, code)
    assert sql(dsn, "SELECT * FROM stock_levels ORDER BY product_id, warehouse") == before
    (kept,) = sql(dsn, "SELECT DISTINCT status FROM stock_sync_logs")
    assert kept["status"] == "FAILED"


def test_what_keeps_from_asking_it_at_all(cli, saga, monkeypatch):
    monkeypatch.setenv("CERNIQ_ERP_ALLOWED_HOSTS", "")
    _is_told(cli, ("erp", "test", "SAGA"), 6, "FORBIDDEN_ADDRESS")
    monkeypatch.setenv("CERNIQ_ERP_ALLOWED_HOSTS", "nonsense:x")
    _is_told(cli, ("erp", "test", "SAGA"), 5, "INVALID_INPUT")
    monkeypatch.setenv("CERNIQ_SECRET_KEYS", new_key("another"))
    monkeypatch.setenv("CERNIQ_ERP_ALLOWED_HOSTS", "")
    _is_told(cli, ("erp", "sync", "SAGA"), 5, "SECRETS")


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("CERNIQ_ERP_PORTS", "443,8443", "it is no JSON; it is written as [443, 50000]"),
        ("CERNIQ_ERP_PORTS", "[443, 70000]", "it is written as [443, 50000]"),
        ("CERNIQ_JOB_RATES", "stock:sync:erp=5", 'written as {"stock:sync:erp": 5}'),
        ("CERNIQ_ERP_ALLOWED_HOSTS", "erp.lan", "such as erp.lan:8080 or 192.168.1.0/24:50000"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named_with_an_example(
    cli, saga, monkeypatch, variable, value, sentence
):
    monkeypatch.setenv(variable, value)
    result = cli("erp", "test", "SAGA", "--json")
    assert result.exit_code == 5
    assert result.document["error"]["field"] == variable
    assert result.stderr.startswith(f"Error: {variable}")
    assert sentence in result.stderr


def test_authorities_that_cannot_be_read_are_named(cli, saga, monkeypatch, tmp_path):
    monkeypatch.setenv("CERNIQ_ERP_CA_FILE", str(tmp_path / "none.pem"))
    _is_told(cli, ("erp", "test", "SAGA"), 5, "INVALID_INPUT")
    field = cli("--json", "erp", "test", "SAGA").document["error"]["field"]
    assert field == "CERNIQ_ERP_CA_FILE"


def test_one_that_is_switched_off_says_so(ok, cli, saga):
    ok("erp", "disable", "SAGA")
    _is_told(cli, ("erp", "sync", "SAGA"), 5, "INVALID_INPUT")


def test_one_run_at_a_time(cli, dsn, shop, saga):
    (row,) = sql(dsn, "SELECT id FROM erp_integrations")
    with going_on(turn(dsn, UUID(shop), row["id"])):
        _is_told(cli, ("erp", "sync", "SAGA"), 7, "UNAVAILABLE")
    assert cli("erp", "sync", "SAGA").exit_code == 0


def test_every_kind_of_trouble_has_a_documented_exit_code():
    for module in pkgutil.walk_packages(cerniq_stock.__path__, "cerniq_stock."):
        if "bull" not in module.name and ".migrations" not in module.name:
            importlib.import_module(module.name)
    found = set(_below(CerniqError))
    assert BusyError in found
    assert {kind.code for kind in found} - {CerniqError.code, "ERP"} == set(TROUBLE)
    assert set(TROUBLE.values()) <= set(EXIT_CODES)


def test_what_derives_from_trouble_ends_as_it_does():
    assert problem_of(BusyError("x")).exit_code == 7
    assert problem_of(CerniqError("x")).exit_code == ERROR


def _below(kind):
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)


def _is_told(cli, args, exit_code, code):
    result = cli(*args)
    assert (result.exit_code, result.stdout) == (exit_code, ""), result
    assert result.stderr.count("\n") == 1, result.stderr
    (sentence,) = result.stderr.splitlines()
    assert sentence.startswith("Error: ")
    assert "canary" not in sentence
    assert "bug" not in sentence
    document = cli("--json", *args)
    assert document.exit_code == exit_code
    assert document.document["error"]["code"] == code
