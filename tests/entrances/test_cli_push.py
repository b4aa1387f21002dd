"""`cerniq-stock erp push`: sales booked in an ERP, refused ones listed and sent again."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cerniq_stock.erp.fakes.base import Reply
from cerniq_stock.erp.fakes.sap_b1 import EXITS, FakeSapB1
from cerniq_stock.erp.secrets import new_key
from tests.entrances.background import going_on
from tests.entrances.conftest import sql


@pytest.fixture
def sap(ok, monkeypatch, tmp_path):
    """An SAP on this machine that knows the laptop only, and is told of sales."""
    monkeypatch.setenv("CERNIQ_SECRET_KEYS", new_key("k1"))
    with going_on(FakeSapB1(warehouses=("MAIN",))) as server:
        monkeypatch.setenv("CERNIQ_ERP_ALLOWED_HOSTS", f"127.0.0.1:{server.port}")
        server.received("LAPTOP-14", "10", "MAIN")
        config = json.dumps({"connection": server.settings()})
        options = tmp_path / "options.json"
        options.write_text(json.dumps({"push": True, "warehouses": {"MAIN": _first(ok)}}))
        ok("erp", "add", "SAP_B1", "--config", "-", "--options", str(options), stdin=config)
        yield server


def _first(ok):
    (tenant,) = ok("tenant", "list", "--json").document
    return tenant["warehouses"][0]


def _sell(ok, line):
    order = ok("order", "create", "--line", line, "--json").document["orderId"]
    ok("order", "deduct", order)


def test_from_an_order_to_the_erp_and_what_it_refuses(ok, cli, sap):
    ok("stock", "receive", "CHAIR", "5")
    _sell(ok, "LAPTOP-14=2")
    _sell(ok, "CHAIR=1")
    result = ok("erp", "push", "SAP_B1", "--json").document
    assert (result["booked"], result["refused"], result["waiting"]) == (1, 1, 0)
    assert sap.shelves["LAPTOP-14", "MAIN"]["InStock"] == 8
    (refused,) = ok("erp", "pushes", "SAP_B1", "--refused", "--json").document
    assert (refused["sku"], refused["state"]) == ("CHAIR", "REFUSED")
    assert "not known there" in refused["error"]
    assert "REFUSED" in ok("erp", "pushes", "SAP_B1").stdout
    assert "0 booked, 0 refused, 0 waiting" in ok("erp", "push", "SAP_B1").stdout

    sap.received("CHAIR", "5", "MAIN")
    ok("erp", "push", "SAP_B1", "--again", refused["movementId"])
    assert sap.shelves["CHAIR", "MAIN"]["InStock"] == 4
    states = [row["state"] for row in ok("erp", "pushes", "SAP_B1", "--json").document]
    assert states == ["BOOKED", "BOOKED"]
    gone = cli("erp", "push", "SAP_B1", "--again", refused["movementId"], "--json")
    assert (gone.exit_code, gone.document["error"]["code"]) == (3, "NOT_FOUND")
    ok("erp", "push", "SAP_B1", "--again", "all")


def test_it_is_off_by_default_and_told_so(ok, cli, sap, tmp_path):
    off = tmp_path / "off.json"
    off.write_text("{}")
    ok("erp", "change", "SAP_B1", "--options", str(off))
    refused = cli("erp", "push", "SAP_B1", "--json")
    assert (refused.exit_code, refused.document["error"]["field"]) == (5, "push")


def test_where_nothing_can_be_booked_it_cannot_be_switched_on(ok, cli, sap, tmp_path):
    options = tmp_path / "options.json"
    options.write_text('{"push": true}')
    given = "--config", "-", "--options", str(options)
    refused = cli("erp", "add", "CSV_IMPORT", *given, "--json", stdin="{}")
    assert (refused.exit_code, refused.document["error"]["field"]) == (5, "push")


def test_killed_when_the_erp_has_booked_it_is_booked_once(ok, dsn, sap):
    """Nothing of the process is left but what it had written down before it asked."""
    _sell(ok, "LAPTOP-14=2")
    command = [str(Path(sys.executable).with_name("cerniq-stock")), "erp", "push", "SAP_B1"]
    process = subprocess.Popen(command, env={**os.environ, "CERNIQ_DATABASE_URL": dsn})

    def kill(request):
        if request.method != "POST":
            return None
        process.kill()
        process.wait(30)
        return Reply(lost=True)

    sap.trouble(kill, path=EXITS, after=True)
    assert process.wait(60) == -signal.SIGKILL
    assert ok("erp", "push", "SAP_B1", "--json").document["waiting"] == 1, "it may be at work on it"
    sql(dsn, "UPDATE erp_pushes SET tried_at = tried_at - interval '1 hour'")
    assert ok("erp", "push", "SAP_B1", "--json").document["booked"] == 1
    assert len(sap.documents[EXITS]) == 1
    assert sap.shelves["LAPTOP-14", "MAIN"]["InStock"] == 8
