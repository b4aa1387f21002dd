"""Bad input: one sentence, the documented exit code, no traceback, nothing changed."""

from uuid import uuid4

import pytest

from tests.entrances.conftest import clone, digest

RESERVATION = "01K7Z9V3J0Q4T5X6Y7Z8A9B0CD"
RESERVE = ["reserve", "--negotiation", "{negotiation}", "--line"]
MANY = [part for number in range(101) for part in ("--line", f"SKU-{number}=1")]

INVALID = [
    ["--tenant", "x", "stock", "show"],
    ["tenant", "show", "not-a-uuid"],
    ["tenant", "create", "Second", "--id", "12"],
    ["tenant", "create", "Second", "--language", "fr"],
    ["tenant", "create", "Second", "--warehouses", "A,A"],
    ["tenant", "create", "Second", "--warehouses", ""],
    ["tenant", "create", "Second", "--max-extensions", "-1"],
    ["tenant", "create", "Second", "--max-extensions", "99999"],
    ["tenant", "create", "Second", "--max-hours", "0"],
    ["tenant", "create", ""],
    ["tenant", "create", "x" * 101],
    ["tenant", "create", "nul\0"],
    ["stock", "receive", "LAPTOP-14", "0"],
    ["stock", "receive", "LAPTOP-14", "-3"],
    ["stock", "receive", "LAPTOP-14", "--", "-3"],
    ["stock", "receive", "LAPTOP-14", "three"],
    ["stock", "receive", "LAPTOP-14", "NaN"],
    ["stock", "receive", "LAPTOP-14", "Infinity"],
    ["stock", "receive", "LAPTOP-14", "1e30"],
    ["stock", "receive", "LAPTOP-14", "1.5"],
    ["stock", "receive", "FLOUR-000", "0.0001"],
    ["stock", "receive", "", "1"],
    ["stock", "receive", "x" * 51, "1"],
    ["stock", "receive", "nul\0", "1"],
    ["stock", "receive", "\udcff", "1"],
    ["stock", "receive", "LAPTOP-14", "1", "--key", "x" * 101],
    ["stock", "receive", "LAPTOP-14", "1", "--key", ""],
    ["stock", "receive", "LAPTOP-14", "1", "--reference", "x" * 51],
    ["stock", "receive", "LAPTOP-14", "1", "--notes", "x" * 501],
    ["stock", "receive", "LAPTOP-14", "1", "--by", "x" * 101],
    ["stock", "count", "LAPTOP-14", "-1"],
    ["stock", "count", "LAPTOP-14", "2.5"],
    ["stock", "return", "LAPTOP-14", "0"],
    ["stock", "adjust", "LAPTOP-14"],
    ["stock", "adjust", "LAPTOP-14", "--total", "0"],
    ["stock", "adjust", "LAPTOP-14", "--total", "-0.5"],
    ["stock", "adjust", "LAPTOP-14", "--total=-x"],
    ["stock", "show", "nul\0"],
    ["stock", "show", "--search", "nul\0"],
    ["stock", "show", "--after", "nul\0"],
    ["product", "list", "--search", "\udcff"],
    ["product", "list", "--after", "nul\0"],
    ["erp", "sync", "SAGA", "--sku", ""],
    ["erp", "sync", "SAGA", "--sku", "  "],
    ["erp", "sync", "SAGA", "--sku", "A", "--sku", "nul\0"],
    ["erp", "sync", "SAGA", "--sku", "\udcff"],
    ["erp", "sync", "SAGA", "--sku", "x" * 51],
    ["erp", "apply", ""],
    ["erp", "apply", "nul\0"],
    ["erp", "apply", "\udcff" * 26],
    ["erp", "apply", RESERVATION[:-1]],
    ["erp", "resolve", "nul\0", "keep-local"],
    ["erp", "resolve", "\udcff", "keep-local"],
    ["erp", "push", "SAP_B1", "--again", "nul\0"],
    ["erp", "push", "SAP_B1", "--again", RESERVATION, "--again", "\udcff"],
    ["availability", "nul\0"],
    ["availability", ""],
    ["explain", "nul\0"],
    [*RESERVE, "LAPTOP-14=0"],
    [*RESERVE, "LAPTOP-14=-1"],
    [*RESERVE, "LAPTOP-14=1.5"],
    [*RESERVE, "LAPTOP-14=10001"],
    [*RESERVE, "LAPTOP-14=1KG"],
    [*RESERVE, "LAPTOP-14=1DOZEN"],
    [*RESERVE, "LAPTOP-14=1e1"],
    [*RESERVE, "LAPTOP-14=NaN"],
    [*RESERVE, "LAPTOP-14=1,5"],
    [*RESERVE, "LAPTOP-14="],
    [*RESERVE, "LAPTOP-14"],
    [*RESERVE, "=1"],
    [*RESERVE, "nul\0=1"],
    [*RESERVE, "FLOUR-000=0.0001"],
    [*RESERVE, "LAPTOP-14=1", "--hours", "0"],
    [*RESERVE, "LAPTOP-14=1", "--hours", "169"],
    [*RESERVE, "LAPTOP-14=1", "--key", "x" * 101],
    [*RESERVE, "LAPTOP-14=1", "--key", "nul\0"],
    [*RESERVE, "LAPTOP-14=1", "--channel", "x" * 21],
    [*RESERVE, "LAPTOP-14=1", *MANY[:-2], "--line", "X=1"],
    ["reserve", "--negotiation", "{negotiation}", *MANY],
    ["reserve", "--negotiation", "12", "--line", "LAPTOP-14=1"],
    ["replace", "x" * 27, "--line", "LAPTOP-14=1"],
    ["replace", RESERVATION, "--negotiation", "12", "--line", "LAPTOP-14=1"],
    ["extend", RESERVATION, "--hours", "0"],
    ["extend", "", "--hours", "1"],
    ["release"],
    ["release", RESERVATION, "--negotiation", "{negotiation}"],
    ["release", "--negotiation", "12"],
    ["release", "x" * 27],
    ["release", RESERVATION, "--line", "LAPTOP-14=0"],
    ["release", RESERVATION, "--line", "LAPTOP-14=1BUC"],
    ["release", RESERVATION, "--line", "LAPTOP-14"],
    ["consume", "nul\0"],
    ["reservation", "show", "x" * 27],
    ["reservation", "list", "--negotiation", "12"],
    ["reservation", "list", "--after", "nul\0"],
    ["negotiation", "set", "12", "CLOSING"],
    ["negotiation", "set", "{negotiation}", "not a state"],
    ["negotiation", "set", "{negotiation}", "x" * 31],
    ["negotiation", "new", ""],
    ["movements", "--since", "yesterday"],
    ["movements", "--until", "2026-13-01"],
    ["movements", "--reference", "nul\0"],
    ["movements", "--before", "nul\0"],
]
NOT_FOUND = [
    ["--tenant", str(uuid4()), "stock", "show"],
    ["--tenant", str(uuid4()), "stock", "receive", "LAPTOP-14", "1"],
    ["tenant", "show", str(uuid4())],
    ["stock", "show", "NO-SUCH"],
    ["stock", "show", "LAPTOP-14", "NO-SUCH"],
    ["stock", "receive", "NO-SUCH", "1"],
    ["stock", "receive", "LAPTOP-14", "1", "--warehouse", "SOUTH"],
    ["stock", "adjust", "NO-SUCH", "--total", "-3"],
    ["stock", "count", "NO-SUCH", "3"],
    ["stock", "return", "NO-SUCH", "3"],
    ["availability", "NO-SUCH"],
    ["explain", "NO-SUCH"],
    ["movements", "--sku", "NO-SUCH"],
    ["movements", "--warehouse", "SOUTH"],
    ["reservation", "list", "--sku", "NO-SUCH"],
    ["reservation", "show", RESERVATION],
    ["extend", RESERVATION, "--hours", "1"],
    ["release", RESERVATION],
    ["consume", RESERVATION],
    ["replace", RESERVATION, "--line", "LAPTOP-14=1"],
    ["reserve", "--negotiation", str(uuid4()), "--line", "LAPTOP-14=1"],
]


@pytest.fixture(scope="module")
def dsn(server, shop_template):
    """One database for all: each test sees to it that it is left as it was."""
    yield from clone(server, shop_template[0])


def _is_told_in_one_sentence(cli, dsn, negotiation, args, exit_code):
    line = [each.replace("{negotiation}", negotiation) for each in args]
    before = digest(dsn)
    result = cli(*line)
    assert result.exit_code == exit_code, result
    assert result.stdout == ""
    (sentence,) = result.stderr.splitlines()
    assert sentence.startswith("Error: ")
    assert "Traceback" not in sentence
    assert "bug" not in sentence
    document = cli("--json", *line)
    assert document.exit_code == exit_code
    assert set(document.document) == {"error"}
    assert set(document.document["error"]) == {"code", "message", "field"}
    assert digest(dsn) == before


@pytest.mark.parametrize("args", INVALID, ids=lambda args: ascii(" ".join(args))[1:60])
def test_invalid(cli, dsn, negotiation, args):
    _is_told_in_one_sentence(cli, dsn, negotiation, args, 5)


@pytest.mark.parametrize("args", NOT_FOUND, ids=lambda args: " ".join(args)[:60])
def test_not_found(cli, dsn, negotiation, args):
    _is_told_in_one_sentence(cli, dsn, negotiation, args, 3)


def test_a_reservation_of_unknown_products_only_is_not_found(cli, negotiation):
    result = cli("reserve", "--negotiation", negotiation, "--line", "A=1", "--line", "B=1")
    assert result.exit_code == 3
    assert result.stderr == ("Error: Product with SKU A not found; Product with SKU B not found\n")


def test_refusals_by_the_state_of_things(cli, ok, dsn, negotiation):
    line = ("--line", "LAPTOP-14=1")
    live = ok("reserve", "--negotiation", negotiation, *line, "--key", "k", "--json").document
    live_id = live["reservationId"]
    ok("extend", live_id, "--hours", "168")
    over = ok("reserve", "--negotiation", negotiation, *line, "--json").document["reservationId"]
    ok("release", over)
    ok("stock", "receive", "CHAIR", "2")
    ok("reserve", "--negotiation", negotiation, "--line", "CHAIR=2", "--type", "hard")
    closed = ok("negotiation", "new", "DEAD").stdout.strip()
    before = digest(dsn)
    for args in (
        ["reserve", "--negotiation", negotiation, "--line", "CHAIR=1", "--key", "k"],
        ["reserve", "--negotiation", negotiation, *line, "--hours", "1", "--key", "k"],
        ["reserve", "--negotiation", closed, *line],
        ["replace", over, *line],
        ["extend", over, "--hours", "1"],
        ["extend", live_id, "--hours", "168"],
        ["consume", over],
        ["consume", live_id, "--line", "LAPTOP-14=2"],
        ["consume", live_id, "--line", "CHAIR=1"],
        ["release", live_id, "--reason", "expired"],
        ["stock", "adjust", "CHAIR", "--total", "-1"],
        ["stock", "count", "CHAIR", "1"],
    ):
        result = cli(*args)
        assert (args, result.exit_code) == (args, 4), result
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1
    assert digest(dsn) == before
