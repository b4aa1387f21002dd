"""What people see, and what the commands do."""

import re

import pytest

from tests.entrances.conftest import command_line, sql

WIDTH = 100


def test_the_only_tenant_needs_no_name(ok, shop):
    assert shop in ok("tenant", "show").stdout


def test_without_a_tenant_or_with_several_one_is_asked_for(cli, ok, shop, dsn, monkeypatch):
    ok("tenant", "create", "Second")
    result = cli("stock", "show")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "Error: There are 2 tenants; name one with --tenant or CERNIQ_TENANT_ID\n"
    )
    monkeypatch.setenv("CERNIQ_TENANT_ID", shop)
    assert ok("stock", "show", "--json").document
    assert ok("tenant", "list").stdout.count("Second") == 1


def test_no_tenant_yet(bare_dsn):
    result = command_line(bare_dsn, "stock", "show")
    assert result.exit_code == 3
    assert "cerniq-stock tenant create" in result.stderr


def test_a_tenant_keeps_its_rules(ok):
    id_ = "5d0c2f0e-8f4b-4a53-9a44-6a1f3a0e9b21"
    limits = ("--max-extensions", "2", "--max-hours", "48", "--language", "en")
    made = ok("tenant", "create", "One", "--id", id_, "--warehouses", "A, B", *limits, "--json")
    assert made.document["warehouses"] == ["A", "B"]
    assert made.document["maxExtensions"] == 2
    assert made.document["maxReservationH"] == 48
    assert made.document["language"] == "en"


def test_stock_is_shown_by_warehouse_within_the_width(ok, shop):
    text = ok("stock", "show", "LAPTOP-14").stdout
    assert re.search(r"LAPTOP-14 +Laptop 14 inch +MAIN +10 +0 +0 +10 +BUC", text)
    assert re.search(r"NORTH +4 +0 +0 +4", text)
    assert max(map(len, ok("stock", "show").stdout.splitlines())) <= WIDTH


def test_a_list_that_goes_on_says_how(ok, shop):
    first = ok("product", "list", "--limit", "2")
    assert first.stderr == "There may be more: --after FLOUR-000\n"
    rest = ok("product", "list", "--limit", "3", "--after", "FLOUR-000", "--json")
    assert [each["sku"] for each in rest.document] == ["LAPTOP-14", "OLD-FAX"]
    assert rest.stderr == ""


def test_quiet_leaves_errors_only(ok, cli, shop):
    assert ok("product", "list", "--limit", "2", "-q").stderr == ""
    assert ok("reservation", "list").stderr == "No reservations\n"
    assert ok("reservation", "list", "--quiet").stderr == ""
    assert cli("explain", "NO-SUCH", "-q").stderr != ""


@pytest.mark.parametrize("option", [["--total", "-3"], ["--total=-3"], ["--total", "-3.000"]])
def test_differences_may_be_negative(ok, shop, option):
    answer = ok("stock", "adjust", "LAPTOP-14", *option, "--blocked", "+2", "--json").document
    assert (answer["total"], answer["blocked"], answer["available"]) == (7, 2, 5)


def test_receive_return_count(ok, shop):
    ok("stock", "receive", "CHAIR", "5", "--reference", "DN-1", "--warehouse", "NORTH")
    ok("stock", "return", "CHAIR", "1", "--reference", "RMA-1", "--warehouse", "NORTH")
    answer = ok("stock", "count", "CHAIR", "4", "--warehouse", "NORTH", "--json").document
    assert answer["total"] == 4
    moved = ok("movements", "--sku", "CHAIR", "--json").document
    assert [(each["type"], each["quantity"]) for each in moved] == [
        ("ADJUSTMENT", -2),
        ("RETURN", 1),
        ("PURCHASE", 5),
    ]
    assert [each["sku"] for each in ok("movements", "--reference", "DN-1", "--json").document] == [
        "CHAIR"
    ]
    assert len(ok("movements", "--type", "return", "--json").document) == 1
    assert ok("movements", "--until", "2020-01-01").stderr == "No movements\n"
    assert ok("movements", "--since", "2020-01-01T08:00", "--warehouse", "NORTH").stdout


def test_a_key_gives_the_first_answer_again(ok, shop):
    args = ("stock", "receive", "CHAIR", "5", "--key", "DN-7", "--json")
    assert ok(*args).stdout == ok(*args).stdout
    assert ok("availability", "CHAIR", "--json").document[0]["total"] == 5


def test_a_reservation_in_part_is_a_success_with_a_warning(ok, negotiation):
    result = ok("reserve", "--negotiation", negotiation, "--line", "LAPTOP-14=20")
    assert "PARTIAL" in result.stdout
    assert re.search(r"LAPTOP-14 +20 +14 +0 +PARTIAL +2026-12-31", result.stdout)
    assert result.stderr == (
        "Warning: Partial reservation for LAPTOP-14: requested 20, reserved 14\n"
    )


def test_a_repeat_of_a_reservation_says_so(ok, negotiation):
    args = ("reserve", "--negotiation", negotiation, "--line", "CHAIR=1", "--line", "LAPTOP-14=1")
    first = ok(*args, "--key", "offer-1", "--json").document
    again = ok(*args, "--key", "offer-1", "--json")
    assert again.document["reservationId"] == first["reservationId"]
    assert "Warning: idempotent" in again.stderr


def test_units_may_follow_the_quantity(ok, negotiation):
    lines = ("--line", "FLOUR-000=2.5kg", "--line", "LAPTOP-14=2 BUC")
    answer = ok("reserve", "--negotiation", negotiation, *lines, "--json").document
    assert answer["totalReserved"] == 4.5


def test_replace_takes_over_negotiation_type_and_priority(ok, negotiation):
    rank = ("--type", "hard", "--priority", "urgent")
    old = ok("reserve", "--negotiation", negotiation, "--line", "LAPTOP-14=14", *rank, "--json")
    old_id = old.document["reservationId"]
    new = ok("replace", old_id, "--line", "LAPTOP-14=14", "--key", "c-2", "--json").document
    assert new["status"] == "ACTIVE"
    shown = ok("reservation", "show", new["reservationId"], "--json").document
    assert (shown["type"], shown["priority"]) == ("HARD", "URGENT")
    assert shown["negotiationId"] == negotiation
    before = ok("reservation", "show", old_id, "--json").document
    assert (before["status"], before["releaseReason"]) == ("RELEASED", "REPLACED")
    again = ok("replace", old_id, "--line", "LAPTOP-14=14", "--key", "c-2", "--json").document
    assert again["reservationId"] == new["reservationId"]


def _reserved(ok, negotiation, *lines):
    args = [part for line in lines for part in ("--line", line)]
    return ok("reserve", "--negotiation", negotiation, *args, "--json").document["reservationId"]


def test_sell_part_give_back_the_rest(ok, negotiation):
    id_ = _reserved(ok, negotiation, "LAPTOP-14=6", "FLOUR-000=1.25")
    assert "PARTIAL" in ok("consume", id_, "--line", "LAPTOP-14=2").stdout
    text = ok("release", id_, "--line", "LAPTOP-14=1", "--line", "FLOUR-000=5").stdout
    assert re.search(r"FLOUR-000 +1.25 +120.5", text)
    assert "RELEASED" in ok("release", id_, "--reason", "cancelled").stdout
    again = ok("release", id_)
    assert "terminal" in again.stderr
    (laptop,) = ok("availability", "LAPTOP-14", "--json").document
    assert (laptop["total"], laptop["reserved"]) == (12, 0)


def test_release_by_negotiation_and_by_its_end(ok, negotiation):
    for _ in range(2):
        _reserved(ok, negotiation, "LAPTOP-14=1")
    freed = ok("release", "--negotiation", negotiation, "--json").document
    assert freed["totalReleased"] == 2
    assert ok("release", "--negotiation", negotiation).stdout
    id_ = _reserved(ok, negotiation, "LAPTOP-14=1")
    assert id_ in ok("negotiation", "set", negotiation, "dead").stdout


@pytest.mark.parametrize("word", ["propsal", "ON_HOLD"])
def test_an_unknown_state_is_kept_with_a_warning(cli, ok, negotiation, word):
    id_ = _reserved(ok, negotiation, "LAPTOP-14=1")
    result = ok("negotiation", "set", negotiation, word, "--json")
    assert (result.document["state"], result.document["released"]) == (word.upper(), [])
    assert result.stderr.startswith(f"Warning: {word.upper()} is not among the states known")
    for known in ("PROPOSAL", "NEGOTIATION", "CLOSING", "DEAD", "TIMEOUT"):
        assert known in result.stderr
    assert "ACTIVE" in ok("reservation", "show", id_).stdout
    assert cli("reserve", "--negotiation", negotiation, "--line", "LAPTOP-14=1").exit_code == 4
    assert ok("negotiation", "new", word).stderr.startswith("Warning: ")
    assert ok("negotiation", "set", negotiation, word, "--quiet").stderr == ""


@pytest.mark.parametrize("word", ["PROPOSAL", "negotiation", "Closing", "DEAD", "TIMEOUT"])
def test_a_known_state_needs_no_warning(ok, negotiation, word):
    assert ok("negotiation", "set", negotiation, word).stderr == ""


def test_extend(ok, negotiation):
    id_ = _reserved(ok, negotiation, "LAPTOP-14=1")
    assert re.search(
        r"lasts until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$", ok("extend", id_, "--hours", "2").stdout
    )


def test_explain_names_the_holders(ok, negotiation):
    args = ("--line", "LAPTOP-14=12", "--by", "sales agent")
    id_ = ok("reserve", "--negotiation", negotiation, *args, "--json").document["reservationId"]
    ok("stock", "adjust", "LAPTOP-14", "--blocked", "1", "--warehouse", "NORTH")
    text = ok("explain", "LAPTOP-14").stdout
    assert "LAPTOP-14: 1 BUC available = 14 there - 12 reserved - 1 blocked" in text
    assert re.search(rf" 10 +MAIN +SOFT NORMAL +[-T:\d]+ +{id_} +sales agent", text)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "Nobody holds any of it" in ok("explain", "CHAIR").stderr


def test_reservations_are_listed_and_shown(ok, negotiation):
    id_ = _reserved(ok, negotiation, "LAPTOP-14=1")
    listed = ok("reservation", "list", "--status", "active", "--sku", "LAPTOP-14").stdout
    assert id_ in listed
    assert max(map(len, listed.splitlines())) <= WIDTH
    assert ok("reservation", "list", "--status", "failed", "--json").document == []
    text = ok("reservation", "show", id_).stdout
    assert negotiation in text
    assert re.search(r"LAPTOP-14 +MAIN +1 +1 +0 +0", text)


def test_expire_says_how_many_ended(ok, dsn, negotiation):
    id_ = _reserved(ok, negotiation, "LAPTOP-14=1")
    sql(dsn, "UPDATE stock_reservations SET expires_at = now() - interval '1 minute'")
    sql(dsn, "UPDATE stock_reservation_lines SET expires_at = now() - interval '1 minute'")
    assert ok("expire").stdout == "1 ended\n"
    assert ok("expire", "--all-tenants", "--json").document == {"expired": 0}
    assert ok("reservation", "show", id_, "--json").document["status"] == "EXPIRED"


def test_notifications_speak_the_tenants_language(ok, negotiation):
    _reserved(ok, negotiation, "LAPTOP-14=13")
    assert "mai are disponibil 1 BUC" in " ".join(ok("notifications").stdout.split())


def test_verify_holds_and_names_what_does_not(cli, ok, dsn, shop):
    assert ok("verify").stdout.startswith("Everything holds: ")
    assert ok("verify", "--all-tenants", "--json").document["ok"] is True
    sql(dsn, "ALTER TABLE stock_levels DISABLE TRIGGER USER")
    sql(dsn, "UPDATE stock_levels SET total = total + 1 WHERE warehouse = 'NORTH'")
    result = cli("verify")
    assert result.exit_code == 1
    assert result.stdout.startswith("Differences: ")
    document = cli("verify", "--json")
    assert document.exit_code == 1
    assert document.document["ok"] is False
    assert document.document["differences"][0]["tenantId"] == shop


def test_doctor_finds_what_is_wrong(cli, ok, dsn, shop):
    found = ok("doctor", "--json").document
    by_name = {each["name"]: each for each in found["checks"]}
    assert by_name["schema"]["status"] == "ok"
    assert by_name["roles"]["status"] == "ok"
    assert by_name["row security"]["status"] == "ok"
    assert by_name["partitions"]["status"] == "ok"
    # the tests' server gives durability up for speed
    assert by_name["durability"]["status"] == "warn"
    assert "OFF" in ok("doctor").stderr
    sql(dsn, "ALTER TABLE stock_levels NO FORCE ROW LEVEL SECURITY")
    result = cli("doctor")
    assert result.exit_code == 1
    assert "not enforced on stock_levels" in " ".join(result.stdout.split())


def test_a_schema_that_is_behind_is_told(cli, ok, dsn, shop):
    sql(dsn, "UPDATE alembic_version SET version_num = '0004'")
    assert cli("doctor").exit_code == 1
    assert ok("database", "status", "--json").document["upToDate"] is False
    result = cli("stock", "show")
    assert result.exit_code == 7
    assert "cerniq-stock database migrate" in result.stderr


def test_names_cannot_steer_the_terminal(ok, shop):
    ok("product", "import", "-", stdin='sku,name\nEVIL,"red \x1b[31m\nname"\n')
    text = ok("product", "list", "--search", "EVIL").stdout
    assert "\x1b" not in text
    assert "red  [31m name" in text
