"""With --json stdout is one document, whatever the command; nothing else goes there."""

import asyncio
import json
from datetime import UTC, datetime

import asyncpg
import pytest

from cerniq_stock import wire
from cerniq_stock.store.ids import new_id
from cerniq_stock.sync.result import Statistics, SyncResult
from tests.entrances.conftest import PRODUCTS, clone, digest
from tests.entrances.test_cli_help import ESCAPE, LEAVES

KEY = "k1:" + "A" * 43 + "="
SAGA = {"baseUrl": "https://saga.example", "apiKey": "secret", "companyCode": "F1"}
UNKNOWN = "00000000-0000-4000-8000-000000000000"
# what starts servers or takes long has tests of its own
ELSEWHERE = {
    ("database", "start"),
    ("database", "stop"),
    ("demo",),
    ("bench",),
    ("worker",),
    ("up",),
    ("erp", "sync"),
    ("erp", "push"),
    ("erp", "subscribe"),
    ("erp", "unsubscribe"),
}

READS = {
    ("database", "status"): [],
    ("doctor",): [],
    ("tenant", "list"): [],
    ("tenant", "show"): [],
    ("product", "list"): [],
    ("stock", "show"): ["LAPTOP-14"],
    ("reservation", "list"): [],
    ("reservation", "show"): ["{reservation}"],
    ("order", "list"): [],
    ("order", "show"): ["{order}"],
    ("job", "list"): [],
    ("job", "show"): ["{job}"],
    ("job", "watch"): ["--seconds", "0"],
    ("erp", "parse"): ["--system", "SAGA", "{payload}"],
    ("erp", "list"): [],
    ("erp", "show"): ["CSV_IMPORT"],
    ("erp", "test"): ["CSV_IMPORT"],
    ("erp", "runs"): [],
    ("erp", "run"): ["{dry}"],
    ("erp", "conflicts"): [],
    ("erp", "pushes"): ["CSV_IMPORT"],
    ("erp", "new-key"): [],
    ("availability",): ["LAPTOP-14", "FLOUR-000"],
    ("explain",): ["LAPTOP-14"],
    ("movements",): ["--sku", "LAPTOP-14"],
    ("notifications",): [],
    ("verify",): [],
}
WRITES = {
    ("database", "migrate"): [],
    ("tenant", "create"): ["Second"],
    ("product", "import"): ["-"],
    ("stock", "receive"): ["LAPTOP-14", "1"],
    ("stock", "return"): ["LAPTOP-14", "1"],
    ("stock", "adjust"): ["LAPTOP-14", "--total", "-1"],
    ("stock", "count"): ["LAPTOP-14", "9"],
    ("negotiation", "new"): [],
    ("negotiation", "set"): ["{negotiation}", "CLOSING"],
    ("reserve",): ["--negotiation", "{negotiation}", "--line", "LAPTOP-14=1"],
    ("replace",): ["{reservation}", "--line", "LAPTOP-14=2"],
    ("extend",): ["{reservation}", "--hours", "1"],
    ("release",): ["{reservation}"],
    ("consume",): ["{reservation}"],
    ("expire",): [],
    ("order", "create"): ["--line", "CHAIR=1"],
    ("order", "reserve"): ["{order}"],
    ("order", "release"): ["{order}"],
    ("order", "deduct"): ["{order}", "--line", "FLOUR-000=0.25"],
    ("order", "return"): ["{delivered}", "--line", "#1=0.25"],
    ("job", "add"): ["stock:sync:erp", "{}"],
    ("job", "cancel"): ["{job}"],
    ("job", "retry"): ["{failed}"],
    ("erp", "add"): ["SAGA", "--config", "{saga}"],
    ("erp", "change"): ["CSV_IMPORT", "--name", "Files"],
    ("erp", "enable"): ["CSV_IMPORT"],
    ("erp", "disable"): ["CSV_IMPORT"],
    ("erp", "schedule"): ["CSV_IMPORT", "0 3 * * *"],
    ("erp", "remove"): ["CSV_IMPORT", "--yes"],
    ("erp", "rotate-keys"): [],
    ("erp", "apply"): ["{dry}"],
    ("erp", "resolve"): ["{conflict}", "keep-local"],
}


def test_all_commands_are_looked_at():
    assert set(READS) | set(WRITES) | ELSEWHERE == set(LEAVES)


@pytest.fixture
def reservation(ok, negotiation):
    answer = ok("reserve", "--negotiation", negotiation, "--line", "FLOUR-000=0.25", "--json")
    return answer.document["reservationId"]


@pytest.fixture
def named(ok, cli, shop, dsn, negotiation, reservation, tmp_path, monkeypatch):
    """What commands can be told to work on, by the name that stands for it above."""
    order, delivered = (
        ok("order", "create", "--line", "FLOUR-000=0.5", "--json").document["orderId"]
        for _ in range(2)
    )
    ok("order", "deduct", delivered)
    job, failed = (ok("job", "add", "stock:sync:erp", "{}").stdout.strip() for _ in range(2))
    asyncio.run(_fail(dsn, failed))
    payload = tmp_path / "payload.json"
    payload.write_text('{"stocuri": [{"cod_articol": "CHAIR", "cantitate_totala": "4.5000"}]}')
    monkeypatch.setenv("CERNIQ_SECRET_KEYS", KEY)
    # the one of the test before, perhaps
    cli("erp", "add", "CSV_IMPORT", "--config", "-", "--tenant", shop, stdin="{}")
    saga = tmp_path / "saga.json"
    saga.write_text(json.dumps({"connection": SAGA}))
    dry, conflict = asyncio.run(_to_be_decided(dsn, shop))
    return {
        "dry": dry,
        "conflict": conflict,
        "saga": str(saga),
        "payload": str(payload),
        "negotiation": negotiation,
        "reservation": reservation,
        "order": order,
        "delivered": delivered,
        "job": job,
        "failed": failed,
    }


async def _fail(dsn, job):
    """No worker runs here."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
    await connection.execute(
        "UPDATE jobs SET status = 'FAILED', finished_at = now() WHERE id = $1", job
    )
    await connection.close()


async def _to_be_decided(dsn, shop):
    """A dry run that changes nothing, and a conflict of a level, as syncs leave them."""
    now = datetime.now(UTC)
    told = SyncResult(
        *(True, "", "FULL", "CSV_IMPORT", now, now, 0, Statistics(), (), (), (), now), dry_run=True
    )
    asked = {"asked": {"force": False, "strategy": "ERP_WINS"}}
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
    dry, conflict = new_id(), new_id()
    await connection.execute(
        "INSERT INTO stock_sync_logs (tenant_id, id, integration_id, erp_system, sync_type, status,"
        " started_at, completed_at, duration_ms, dry_run, result_json)"
        " SELECT tenant_id, $1, id, erp_system, 'FULL', 'SUCCESS', now(), now(), 1, true, $2"
        " FROM erp_integrations WHERE erp_system = 'CSV_IMPORT'",
        *(dry, wire.dumps({**wire.to_wire(told), **asked})),
    )
    await connection.execute(  # the one of the test before
        "UPDATE sync_conflicts SET resolution = 'GONE', resolved_at = now()"
        " WHERE resolution IS NULL"
    )
    await connection.execute(
        "INSERT INTO sync_conflicts (tenant_id, id, integration_id, erp_system, sync_id,"
        " product_id, sku, warehouse, field, reason, local_value, erp_value, seen_at,"
        " first_seen_at)"
        " SELECT $1, $2, i.id, i.erp_system, 's', p.id, p.sku, t.warehouses[1],"
        " 'stock_total', 'REVIEW', 1, 2, now(), now()"
        " FROM products AS p JOIN tenants AS t ON t.id = p.tenant_id"
        " JOIN erp_integrations AS i ON i.tenant_id = t.id AND i.erp_system = 'CSV_IMPORT'"
        " WHERE p.tenant_id = $1 AND p.sku = 'CHAIR'",
        *(shop, conflict),
    )
    await connection.close()
    return dry, conflict


@pytest.fixture(scope="module")
def dsn(server, shop_template):
    """One database for all: none of the tests minds what the others left."""
    yield from clone(server, shop_template[0])


@pytest.fixture
def ok(cli, shop):
    """Work for the shop, as there may be a second tenant by now."""

    def run(*args, stdin=None):
        result = cli(*args, "--tenant", shop, stdin=stdin)
        assert result.exit_code == 0, result
        return result

    return run


def _filled(args, named):
    return [named.get(each.strip("{}"), each) for each in args]


@pytest.mark.parametrize("path", READS, ids=" ".join)
def test_reads_answer_with_one_document_and_change_nothing(path, ok, dsn, named):
    before = digest(dsn)
    args = _filled(READS[path], named)
    after_the_name = ok(*path, *args, "--json")
    before_the_name = ok("--json", *path, *args)
    for result in (after_the_name, before_the_name):
        assert isinstance(json.loads(result.stdout), (dict, list))
        assert len(result.stdout.splitlines()) == 1
        assert ESCAPE not in result.stdout
    assert ESCAPE not in ok(*path, *args).stdout
    assert digest(dsn) == before


@pytest.mark.parametrize("path", WRITES, ids=" ".join)
def test_writes_answer_with_one_document(path, ok, named):
    args = _filled(WRITES[path], named)
    result = ok(*path, *args, "--json", stdin=PRODUCTS if "-" in args else None)
    assert isinstance(result.document, dict)
    assert ESCAPE not in result.stdout
    assert not [key for key in result.document if "_" in key]


def test_options_may_stand_between_group_and_command(ok, shop):
    assert isinstance(ok("stock", "--json", "-q", "show").document, list)


def test_the_nearer_option_wins(ok, cli, shop):
    assert cli("--tenant", UNKNOWN, "stock", "show").exit_code == 3
    assert ok("--tenant", UNKNOWN, "stock", "show")


def test_numbers_are_numbers_and_times_have_a_zone(ok, reservation):
    (level, *_) = ok("stock", "show", "FLOUR-000", "--json").document
    assert level["reorderPoint"] == 50
    assert isinstance(level["total"], float)
    shown = ok("reservation", "show", reservation, "--json").document
    assert shown["totalHeld"] == 0.25
    assert shown["expiresAt"].endswith("+00:00")


def test_an_error_is_a_document_too(cli, shop):
    result = cli("stock", "receive", "NO-SUCH", "1", "--json", "--tenant", shop)
    assert result.exit_code == 3
    assert result.document == {
        "error": {
            "code": "PRODUCT_UNKNOWN",
            "message": "Product with SKU NO-SUCH not found",
            "field": None,
        }
    }
    assert result.stderr == "Error: Product with SKU NO-SUCH not found\n"


def test_a_reservation_that_holds_nothing_says_why_line_by_line(cli, shop, negotiation):
    lines = ("--line", "CHAIR=1", "--line", "OLD-FAX=1")
    named = ("--tenant", shop, "--negotiation", negotiation)
    result = cli("reserve", *named, *lines, "--json")
    assert result.exit_code == 4
    assert result.document["error"]["code"] == "INSUFFICIENT_STOCK"
    answer = result.document["answer"]
    assert [each["status"] for each in answer["items"]] == ["UNAVAILABLE", "UNAVAILABLE"]
    assert [each["code"] for each in answer["errors"]] == [
        "INSUFFICIENT_STOCK",
        "PRODUCT_DISCONTINUED",
    ]
