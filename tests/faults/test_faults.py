"""The short version of `make faults`, and proof that its oracle can fail."""

import asyncio
import copy
import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from decimal import Decimal
from itertools import chain, count
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from cerniq_stock.store.database import create_database
from cerniq_stock.wiring import open_stock
from tests.faults import __main__
from tests.faults.client import Orders
from tests.faults.driver import Outcome, kill_clients, kill_servers
from tests.faults.intents import Log, Story, is_refused, send
from tests.faults.nursery import ClientDiedError, Nursery
from tests.faults.oracle import Finding, examine
from tests.faults.report import as_data, as_text, bound, quantile
from tests.faults.scene import (
    DURABLE,
    NotDurableError,
    Scene,
    make_scene,
    refuse_settings,
    require_durable,
    server_folder,
)
from tests.faults.settle import Verdict, repeat, settle
from tests.faults.shop import Shop

SEED = 20
COMMANDS = 150

_numbers = count(1)


def _quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with server_folder() as path:
        yield path


@pytest.fixture(scope="module")
def calm(folder: Path) -> tuple[Scene, Story]:
    """A database with some trade in which nobody was killed, and its story."""
    scene = make_scene(folder, "calm")
    return scene, asyncio.run(_trade(scene))


async def _trade(scene: Scene) -> Story:
    story = copy.deepcopy(scene.opening)
    shop = Shop(scene.world, "calm", random.Random(SEED))
    async with open_stock(scene.dsn, sweep=False) as stock:
        for intent in chain(shop.openings(), (shop.next() for _ in range(COMMANDS))):
            story.intend(intent, 0.0)
            told = await send(stock, intent)
            story.hear(intent.key, told)
            shop.learn(intent, told)
    return story


@pytest.fixture
def case(calm: tuple[Scene, Story]) -> tuple[str, Story]:
    """A copy of the calm database and of its story, to be spoiled."""
    scene, story = calm
    name = f"mutant_{next(_numbers)}"
    dsn = asyncio.run(create_database(scene.dsn, name, template="calm"))
    return dsn, copy.deepcopy(story)


def _sql(dsn: str, statement: str, *args: object) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
        try:
            assert await connection.execute(statement, *args) not in {"UPDATE 0", "DELETE 0"}
        finally:
            await connection.close()

    asyncio.run(run())


def _find(dsn: str, story: Story) -> list[Finding]:
    return asyncio.run(examine(dsn, story))


def _key(story: Story, verb: str) -> str:
    """The key of the last command of this kind that took effect."""
    keys = [
        intent.key
        for intent in story.effective
        if intent.verb == verb and story.answers[intent.key].get("success", True)
    ]
    return keys[-1]


# -- the short version ----------------------------------------------------------------------


def test_killed_clients_lose_and_double_nothing(folder):
    outcome = kill_clients(folder, 8, SEED, _quiet)
    assert outcome.ok, as_text(outcome)
    assert outcome.verdict.unknown > 0
    assert outcome.verdict.acknowledged > 0
    assert outcome.verdict.verify == "clean"


def test_killed_servers_lose_and_double_nothing(folder):
    outcome = kill_servers(folder, 2, SEED, _quiet)
    assert outcome.ok, as_text(outcome)
    assert len(outcome.recovery_s) == len(outcome.silence_s) == 2
    assert outcome.troubles["UNAVAILABLE"] > 0
    assert "0 of 2 kills lost or doubled anything" in as_text(outcome)
    assert as_data(outcome)["lost"] == 0


# -- the oracle can fail --------------------------------------------------------------------


def test_calm_trade_is_found_in_order(case):
    dsn, story = case
    verdict = asyncio.run(settle(dsn, story))
    assert verdict.findings == []
    assert verdict.repeated > 0
    verbs = {intent.verb for intent in story.effective}
    assert verbs == {"reserve", "release", "consume", "extend", "receive", "negotiation"}


def test_an_acknowledged_reservation_that_is_not_there_is_lost(case):
    dsn, story = case
    key = _key(story, "reserve")
    invented = story.intents[key]._replace(key="invented")
    story.intend(invented, 0.0)
    story.hear("invented", story.answers[key] | {"reservationKey": "invented"})
    found = _find(dsn, story)
    assert [(f.kind, f.subject) for f in found] == [("lost", "invented")]


def test_an_acknowledged_command_that_is_not_there_is_lost(case):
    dsn, story = case
    key = _key(story, "receive")
    story.intend(story.intents[key]._replace(key="invented"), 0.0)
    story.hear("invented", story.answers[key])
    assert ("lost", "invented") in {(f.kind, f.subject) for f in _find(dsn, story)}


def test_less_than_was_acknowledged_is_lost(case):
    dsn, story = case
    key = _key(story, "receive")
    args = story.intents[key].args
    args["quantity"] = str(Decimal(args["quantity"]) + 1)
    assert ("lost", key) in {(f.kind, f.subject) for f in _find(dsn, story)}


_COPY = """
INSERT INTO stock_movements (
    tenant_id, id, product_id, warehouse, sku, type, total_delta, reserved_delta, blocked_delta,
    previous_available, sequence, reference_type, reference_id, negotiation_id, notes, created_by,
    created_at
)
SELECT
    m.tenant_id, {id}, m.product_id, m.warehouse, m.sku, m.type, m.total_delta,
    m.reserved_delta, m.blocked_delta, {previous}, {sequence}, m.reference_type, m.reference_id,
    m.negotiation_id, m.notes, m.created_by, m.created_at + interval '1 second'
FROM stock_movements AS m
JOIN stock_levels AS s USING (tenant_id, product_id, warehouse)
WHERE m.created_by = $1
"""


@pytest.mark.parametrize("id_", ["m.id", "'copy'"])
def test_a_doubled_movement_is_found(case, id_):
    dsn, story = case
    key = _key(story, "receive")
    _sql(dsn, _COPY.format(id=id_, previous="m.previous_available", sequence="m.sequence"), key)
    found = _find(dsn, story)
    assert ("doubled", key) in {(f.kind, f.subject) for f in found}
    assert any(f.kind == "doubled" and f.subject.startswith("movement") for f in found)


def test_a_doubled_effect_is_found_where_every_sum_is_right(case):
    dsn, story = case
    key = _key(story, "receive")
    _sql(dsn, _COPY.format(id="'copy'", previous="s.available", sequence="s.version + 1"), key)
    _sql(
        dsn,
        "UPDATE stock_levels AS s SET total = s.total + m.total_delta, version = s.version + 1"
        " FROM stock_movements AS m WHERE m.id = 'copy' AND s.tenant_id = m.tenant_id"
        " AND s.product_id = m.product_id AND s.warehouse = m.warehouse",
    )
    found = _find(dsn, story)
    assert ("doubled", key) in {(f.kind, f.subject) for f in found}
    assert not any(f.subject.startswith(("movement", "level")) for f in found)


def test_a_forgotten_key_is_found_when_its_command_is_repeated(case):
    dsn, story = case
    key = _key(story, "receive")
    _sql(dsn, "DELETE FROM stock_commands WHERE key = $1", key)
    verdict = asyncio.run(settle(dsn, story))
    assert {("lost", key), ("doubled", key), ("doubled", "the database")} <= {
        (f.kind, f.subject) for f in verdict.findings
    }


def test_another_answer_to_the_same_key_is_found(case):
    dsn, story = case
    key = _key(story, "extend")
    story.answers[key] = story.answers[key] | {"expiresAt": "2026-01-01T00:00:00+00:00"}

    async def ask_again() -> None:
        async with open_stock(dsn, sweep=False) as stock:
            await repeat(stock, story, [story.intents[key]])

    asyncio.run(ask_again())
    assert ("differs", key) in {(f.kind, f.subject) for f in _find(dsn, story)}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stock_levels SET total = total + 1, version = version + 1",
        "UPDATE stock_levels SET total = total + 1",
        "UPDATE stock_reservations SET extensions = extensions + 1",
        "UPDATE stock_reservations SET expires_at = expires_at - interval '1 hour'",
        "UPDATE stock_reservation_lines SET released = released + held WHERE held > 0",
        (
            "UPDATE stock_reservations SET status = 'ACTIVE', released_at = NULL"
            " WHERE status = 'RELEASED'"
        ),
        "UPDATE negotiations SET state = 'CLOSED'",
        "DELETE FROM stock_reservation_lines",
        "DELETE FROM stock_reservations WHERE status = 'ACTIVE'",
        "DELETE FROM stock_commands",
        (
            "INSERT INTO stock_commands SELECT tenant_id, 'nobody', fingerprint, answer_type,"
            " answer_json, created_at FROM stock_commands LIMIT 1"
        ),
    ],
)
def test_what_was_changed_behind_our_backs_is_found(case, statement):
    dsn, story = case
    _sql(dsn, statement)
    assert _find(dsn, story)


def test_a_refusal_that_had_an_effect_is_found(case):
    dsn, story = case
    key = _key(story, "release")
    story.answers[key] = {"kind": "Refused", "code": "RESERVATION_ENDED", "message": ""}
    assert ("differs", key) in {(f.kind, f.subject) for f in _find(dsn, story)}


def test_a_command_that_broke_the_engine_is_reported(case):
    dsn, story = case
    key = _key(story, "release")
    story.failed[key] = "COMMAND_FAILED"
    assert [(f.kind, f.subject) for f in _find(dsn, story)] == [("differs", key)]


# -- the harness ----------------------------------------------------------------------------


async def test_a_server_that_may_forget_is_refused(database):
    with pytest.raises(NotDurableError, match=r"fsync=off.*synchronous_commit=off"):
        await require_durable(database)


@pytest.mark.parametrize("name", DURABLE)
def test_each_setting_counts(name):
    refuse_settings(DURABLE)
    with pytest.raises(NotDurableError, match=f"{name}=off"):
        refuse_settings(DURABLE | {name: "off"})


def test_a_client_that_dies_by_itself_is_reported(tmp_path, calm):
    scene, _ = calm
    nowhere = f"postgresql://postgres@/nowhere?host={tmp_path}"
    orders = Orders(1, nowhere, str(tmp_path), SEED, 1, scene.world)
    with pytest.raises(ClientDiedError), Nursery(tmp_path) as nursery:
        nursery.stop(nursery.start(orders))


async def test_the_log_tells_what_was_known(tmp_path, calm):
    _, calm_story = calm
    first, second = list(calm_story.intents.values())[:2]
    answer: dict[str, Any] = calm_story.answers[first.key]
    path = tmp_path / "log"
    async with Log(path) as log:
        await asyncio.gather(log.intend(first), log.intend(second))
        await log.hear(first.key, answer)
        await log.trouble(second.key, "UNAVAILABLE")
    with path.open("ab") as file:
        file.write(b'{"key": "torn", "tol')
    story = Story().read(path)
    assert story.intents == {first.key: first, second.key: second}
    assert story.answers == {first.key: answer}
    assert story.unknown == [second]
    assert list(story.doubted_at) == [second.key]
    assert not is_refused(answer)


@pytest.mark.parametrize(
    ("findings", "code"), [([], 0), ([Finding("lost", "c00001-000001", "no such reservation")], 1)]
)
def test_the_exit_code_tells(monkeypatch, capsys, findings, code):
    verdict = Verdict(10, 8, 2, 1, 7, 20, 5, "clean", findings)
    outcome = Outcome("clients", 3, SEED, verdict, 1.0, Counter())
    monkeypatch.setattr(__main__, "kill_clients", lambda *_: outcome)
    monkeypatch.setattr(__main__, "server_folder", lambda **_: nullcontext())
    for format_ in ([], ["--json"]):
        arguments = ["--server-kills", "0", "--worker-kills", "0"]
        monkeypatch.setattr("sys.argv", ["faults", *arguments, *format_])
        assert __main__.main() == code
    text, _, data = capsys.readouterr().out.partition("[\n")
    assert "2, of these 1 had been committed" in text
    assert json.loads(f"[{data}")[0]["lost"] == code


def test_figures_of_the_report():
    assert bound(200) == pytest.approx(0.015)
    assert bound(1) == 1
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2
    assert quantile([float(n) for n in range(1, 21)], 0.95) == 19
    assert quantile([1.0], 0.95) == 1
