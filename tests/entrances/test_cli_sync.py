"""`cerniq-stock erp sync` and what people do about it, from a file to a resolved conflict."""

import json

import pytest

from cerniq_stock.erp.secrets import new_key
from tests.entrances.conftest import sql


@pytest.fixture
def tell(ok, shop, tmp_path, monkeypatch):
    """The merchant's file says this."""
    monkeypatch.setenv("CERNIQ_SECRET_KEYS", new_key("k1"))
    monkeypatch.setenv("CERNIQ_ERP_FILES_DIR", str(tmp_path))
    (tmp_path / shop).mkdir()

    def write(lines: str) -> None:
        (tmp_path / shop / "stock.csv").write_text(f"Cod;Stoc\n{lines}\n")

    write("LAPTOP-14;1")
    config = json.dumps({"connection": {"file": "stock.csv", "settleS": 0}})
    ok("erp", "add", "CSV_IMPORT", "--config", "-", stdin=config)
    return write


def total(ok, sku="LAPTOP-14"):
    levels = ok("stock", "show", sku, "--json").document
    return levels[0]["total"]  # the first warehouse, which rows without one mean


def test_from_a_file_to_the_shelf(ok, tell):
    tell("LAPTOP-14;25")
    result = ok("erp", "sync", "csv_import", "--full", "--json").document
    assert result["success"] is True
    assert total(ok) == 25
    text = ok("erp", "sync", "CSV_IMPORT").stdout
    assert "0 levels changed" in text
    assert [run["status"] for run in ok("erp", "runs", "--json").document] == ["SUCCESS"] * 2


def test_a_run_that_failed_says_why_and_how_long_it_took(ok, cli, tell, tmp_path, shop):
    (tmp_path / shop / "stock.csv").unlink()
    assert cli("erp", "sync", "CSV_IMPORT").exit_code != 0
    (run,) = ok("erp", "runs", "--json").document
    heads, _, line, *more = ok("erp", "runs").stdout.splitlines()
    assert heads.split()[-3:] == ["began", "took", "why"]
    (seconds,) = [word for word in line.split() if word.endswith("s") and word[0].isdigit()]
    assert seconds == f"{run['durationMs'] / 1000:.1f}s"
    why = " ".join([line[heads.index("why") :], *more]).split()
    assert why == run["errorMessage"].split()


def test_a_long_reason_is_shortened(ok, dsn, tell):
    ok("erp", "sync", "CSV_IMPORT")
    sql(dsn, "UPDATE cerniq.stock_sync_logs SET error_message = repeat('reason ', 60)")
    told = ok("erp", "runs").stdout
    assert (told.count("reason"), "…" in told) == (14, True)


def test_what_is_too_long_to_be_listed_is_counted(ok, tell):
    tell("\n".join([*(f"NEW-{n:03};1" for n in range(37)), *("LAPTOP-14;x",) * 23]))
    done = ok("erp", "sync", "CSV_IMPORT", "--full", "--accept-snapshot")
    assert "Unknown here (37): NEW-000, " in done.stderr
    assert "NEW-009 and 27 more" in done.stderr
    assert done.stdout.rstrip().endswith("and 3 more")
    tell("NEW-000;1")
    few = ok("erp", "sync", "CSV_IMPORT", "--full", "--accept-snapshot")
    assert "Unknown here (1): NEW-000\n" in few.stderr


def test_a_sku_is_asked_for_without_the_blanks_around_it(ok, cli, tell):
    asked = "erp", "sync", "CSV_IMPORT", "--file", "-", "--sku", " LAPTOP-14\t", "--json"
    result = ok(*asked, stdin="Cod;Stoc\nLAPTOP-14;17\n").document
    assert (total(ok), result["missing"]) == (17, [])
    assert cli("erp", "apply", " nothing ", "--json").document["error"]["message"] == (
        "sync is not an id of 26 capital letters and digits: ' nothing '"
    )


def test_a_dry_run_is_applied_by_its_id(ok, cli, tell):
    tell("LAPTOP-14;30")
    before = total(ok)
    dry = ok("erp", "sync", "CSV_IMPORT", "--full", "--dry-run", "--json").document
    assert (total(ok), dry["dryRun"]) == (before, True)
    ok("erp", "apply", dry["syncId"])
    assert total(ok) == 30
    again = cli("erp", "apply", dry["syncId"], "--json")
    assert (again.exit_code, again.document["error"]["code"]) == (4, "OUTDATED")


def test_a_conflict_is_decided_with_who_and_why(ok, cli, tell):
    tell("LAPTOP-14;20")
    ok("erp", "sync", "CSV_IMPORT", "--full")
    ok("stock", "adjust", "LAPTOP-14", "--total", "-2")
    tell("LAPTOP-14;26")
    ok("erp", "sync", "CSV_IMPORT", "--full", "--strategy", "manual")
    (conflict,) = ok("erp", "conflicts", "--json").document
    assert (conflict["localValue"], conflict["erpValue"]) == (18, 26)
    told = ok("erp", "conflicts").stdout
    assert ("LAPTOP-14" in told, "CSV_IMPORT" in told, "decided" in told) == (True, True, False)
    refused = cli("erp", "resolve", conflict["id"], "keep-local", "--value", "3")
    assert refused.exit_code == 5
    decided = "--value", "24", "--by", "clerk", "--because", "counted"
    ok("erp", "resolve", conflict["id"], "set-value", *decided)
    assert total(ok) == 24
    assert ok("erp", "conflicts", "--json").document == []
    (kept,) = ok("erp", "conflicts", "--all", "--json").document
    assert (kept["resolvedBy"], kept["resolvedBecause"]) == ("clerk", "counted")
    told = ok("erp", "conflicts", "--all").stdout
    assert told.split("\n", 1)[0].split()[-4:] == ["decided", "to", "by", "because"]
    assert [word in told for word in ("CSV_IMPORT", "SET_VALUE", "clerk", "counted")] == [True] * 4


def test_who_does_not_say_who_decides_is_known_by_the_account(ok, cli, tell, monkeypatch):
    tell("LAPTOP-14;20")
    ok("erp", "sync", "CSV_IMPORT", "--full")
    ok("stock", "adjust", "LAPTOP-14", "--total", "-2")
    tell("LAPTOP-14;26")
    ok("erp", "sync", "CSV_IMPORT", "--full", "--strategy", "manual")
    (conflict,) = ok("erp", "conflicts", "--json").document

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    for unnamed in ([], ["--by", ""]):
        refused = cli("erp", "resolve", conflict["id"], "accept-erp", *unnamed, "--json")
        error = refused.document["error"]
        assert (refused.exit_code, error["code"], error["field"]) == (5, "INVALID_INPUT", "by")
    assert total(ok) == 18
    monkeypatch.setattr("getpass.getuser", lambda: "gestionar")
    told = ok("erp", "resolve", conflict["id"], "accept-erp", "--json").document
    assert (told["resolvedBy"], told["resolvedValue"]) == ("gestionar", 26)


def test_what_looks_like_a_mistake_is_refused(ok, cli, tell):
    tell("LAPTOP-14;20\nCHAIR;5")
    ok("erp", "sync", "CSV_IMPORT", "--full")
    tell("LAPTOP-14;0\nCHAIR;0")
    refused = cli("erp", "sync", "CSV_IMPORT", "--full", "--json")
    assert refused.document["error"]["code"] == "SNAPSHOT_REFUSED"
    ok("erp", "sync", "CSV_IMPORT", "--full", "--accept-snapshot")
    assert total(ok) == 0


def test_a_file_that_is_handed_over_is_tried_and_applied(ok, cli, tell, tmp_path):
    ok("erp", "sync", "CSV_IMPORT", "--full")
    file = tmp_path / "by-hand.csv"
    file.write_text("Cod;Stoc\nLAPTOP-14;40\n")
    hand_over = "erp", "sync", "CSV_IMPORT", "--file", str(file)
    dry = ok(*hand_over, "--dry-run", "--json").document
    updated = dry["statistics"]["productsUpdated"]
    assert (dry["syncType"], updated, total(ok)) == ("FULL", 1, 1)
    ok("erp", "apply", dry["syncId"])
    assert total(ok) == 40
    ok("erp", "sync", "CSV_IMPORT", "--file", "-", stdin="Cod;Stoc\nLAPTOP-14;41\n")
    # what lies in the folder is older, and has been read
    ok("erp", "sync", "CSV_IMPORT")
    assert total(ok) == 41
    tell("LAPTOP-14;5")
    ok("erp", "sync", "CSV_IMPORT")
    assert total(ok) == 5
    missing = cli("erp", "sync", "CSV_IMPORT", "--file", str(tmp_path / "none.csv"))
    assert (missing.exit_code, "none.csv cannot be read" in missing.stderr) == (5, True)
    nothing = cli("erp", "sync", "CSV_IMPORT", "--file", "-", "--json", stdin="no table\n")
    assert (nothing.exit_code, nothing.document["error"]["code"]) == (6, "BAD_PAYLOAD")


def test_only_files_are_handed_over(ok, cli, tell):
    connection = {"baseUrl": "https://saga.example", "apiKey": "k", "companyCode": "F1"}
    ok("erp", "add", "SAGA", "--config", "-", stdin=json.dumps({"connection": connection}))
    refused = cli("erp", "sync", "SAGA", "--file", "-", "--json", stdin="Cod;Stoc\nA;1\n")
    assert (refused.exit_code, refused.document["error"]["field"]) == (5, "file")


def test_a_file_that_looks_like_a_mistake_is_refused_whatever_was_asked(ok, cli, tell):
    tell("LAPTOP-14;20\nCHAIR;5")
    ok("erp", "sync", "CSV_IMPORT")
    tell("LAPTOP-14;0\nCHAIR;0")
    for _ in range(2):
        refused = cli("erp", "sync", "CSV_IMPORT", "--json")
        assert refused.document["error"]["code"] == "SNAPSHOT_REFUSED"
    assert total(ok) == 20
    ok("erp", "sync", "CSV_IMPORT", "--accept-snapshot")
    assert total(ok) == 0


@pytest.mark.parametrize("args", [("--full", "--sku", "LAPTOP-14"), ("--strategy", "mine")])
def test_what_makes_no_sense_is_said(cli, tell, args):
    assert cli("erp", "sync", "CSV_IMPORT", *args).exit_code == 2


def test_what_a_sync_told_can_be_read_later(ok, cli, tell):
    tell("LAPTOP-14;31\nFAINA-25;many")
    told = ok("erp", "sync", "CSV_IMPORT", "--json").document
    assert told["errors"]
    later = ok("erp", "run", told["syncId"], "--json").document
    assert later == told
    assert "UNPARSEABLE_NUMBER" in ok("erp", "run", told["syncId"]).stdout
    nobody = cli("erp", "run", "01K7Z9V3J0Q4T5X6Y7Z8A9B0CD", "--json")
    assert (nobody.exit_code, nobody.document["error"]["code"]) == (3, "NOT_FOUND")
