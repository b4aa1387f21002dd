"""No credential is told: not by commands, jobs, the database, logs at DEBUG or exceptions.

Every system and every kind of authorisation; ERPs that take the credentials, that refuse them, and
that repeat all they were sent in their answer.
"""

import asyncio
import base64
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from cerniq_stock.cli.problems import ERP, OK
from cerniq_stock.erp.fakes.base import Reply, Request
from cerniq_stock.erp.fakes.rest import FakeRest
from cerniq_stock.erp.rows import SystemName
from cerniq_stock.erp.webhooks import job
from cerniq_stock.errors import CerniqError
from cerniq_stock.jobs.pg_queue import PostgresQueue
from cerniq_stock.jobs.port import JobState, NewJob
from cerniq_stock.store.database import create_pool
from tests import canary
from tests.entrances.commands import Commands, commands
from tests.erp.source_cases import CASES, Case, sku
from tests.sync.whole import WAREHOUSES, Whole, whole

ALWAYS = 10**9
ENDED = {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}
LOGGERS = "httpx", "httpcore", "asyncpg", "asyncio"
PATIENT = "SAP_B1-v2", "MICROSOFT_BC", "CUSTOM_API-in-body"
"""Of these what may pass is seen, too: it is waited for some seconds, the same way for all."""


def _in_body(fake: FakeRest) -> dict[str, Any]:
    given = fake.settings()
    more = {"clientIn": "body", "tokenFields": {"audience": "canary-audience"}}
    return {**given, "credentials": {**given["credentials"], **more}}


def _small(case: Case) -> Case:
    return replace(case, count=3)


_OAUTH = next(case for case in CASES if case.name == "CUSTOM_API-oauth2-cursor")
_THE_SAME = "OBLIO-one-management", "SAP_B1-v1-crossjoin", "CUSTOM_API-offset"
"""Credentials that another case has as well."""
ALL = [
    *(_small(case) for case in CASES if case.speaks and case.name not in _THE_SAME),
    replace(_small(_OAUTH), name="CUSTOM_API-in-body", settings=_in_body),
]
BY_SYSTEM = list({case.system: case for case in ALL}.values())


def echo(status: int) -> Any:
    """An answer that repeats the request, in JSON; with status 200 as a page."""

    def answer(request: Request) -> Reply:
        sent = {"headers": request.headers, "body": request.body.decode(), "to": request.target}
        text = json.dumps(sent)
        if status == 200:
            return Reply(f"<html>{text}</html>", 200, [("Content-Type", "text/html")])
        error = {"code": -1, "message": text}
        return Reply({"error": error, "statusMessage": text, "message": text, **sent}, status)

    return answer


class Erp:
    """A fake with those that it hangs on."""

    def __init__(self, case: Case, fake: Any) -> None:
        self.case, self.fake = case, fake
        self.servers = [fake, *filter(None, [getattr(fake, "token_server", None)])]

    def well(self) -> None:
        for server in self.servers:
            server.well()

    def spoilt(self, trouble: Any, *, login: bool = False) -> None:
        """Answer so to requests for stock, and with `login` to all others, too."""
        self.well()
        for server in self.servers:
            if login or server is self.fake:
                server.trouble(trouble, path="" if login else self.case.data, times=ALWAYS)

    def handed_out(self) -> list[str]:
        """Tokens and sessions, as they are and in Base64."""
        tokens = [t for s in self.servers for t in getattr(getattr(s, "tokens", None), "given", [])]
        plain = [*tokens, *getattr(self.fake, "sessions", [])]
        return [*plain, *(base64.b64encode(text.encode()).decode() for text in plain)]


async def open_erp(stack: AsyncExitStack, case: Case) -> Erp:
    fake = await stack.enter_async_context(case.fake(None))  # type: ignore[arg-type] # its own time
    case.fill(fake, case.count)
    return Erp(case, fake)


@pytest.fixture
def environment(monkeypatch):
    """What a command line needs to know to speak with the fakes of a tenant."""

    def put(place: Whole) -> None:
        assert place.settings.secret_keys is not None
        monkeypatch.setenv("CERNIQ_SECRET_KEYS", place.settings.secret_keys.get_secret_value())
        monkeypatch.setenv("CERNIQ_ERP_ALLOWED_HOSTS", place.settings.erp_allowed_hosts)
        monkeypatch.setenv("CERNIQ_TENANT_ID", str(place.tenant))
        monkeypatch.setenv("CERNIQ_LOG_LEVEL", "DEBUG")

    return put


class Desk:
    """Commands and library calls on one integration; `told` is all that they said."""

    def __init__(self, place: Whole, erp: Erp, run: Commands) -> None:
        self.place, self.erp, self._run = place, erp, run
        self.told: list[str] = []

    async def command(self, *args: str, stdin: str | None = None, ends: int = OK) -> None:
        """Run `erp …`."""
        found = await self._run.run("erp", *args, stdin=stdin)
        assert found.exit_code == ends, (args, found)
        self.told += [found.stdout, found.stderr]

    async def fails(self, call: Awaitable[Any]) -> None:
        """Call the library: what is raised, and all that led to it."""
        with pytest.raises(CerniqError) as raised:
            await call
        self.told.append(canary.chain(raised.value))

    async def well(self, options: Path) -> None:
        """Everything that there is, of an ERP that takes the credentials."""
        place, case = self.place, self.erp.case
        config = json.dumps(
            {"connection": case.settings(self.erp.fake), "parse": dict(case.config)}
        )
        assert canary.seen(config), "there is something to be told"
        given = "--config", "-", "--options", str(options)
        await self.command("add", place.system, *given, stdin=config)
        for more in ([], ["--json"]):
            for args in (["list"], ["show", place.system], ["test", place.system]):
                await self.command(*args, *more)
            await self.command("sync", place.system, "--full", *more)
        self.told.append(repr(await place.sync()))

    async def in_trouble(self) -> None:
        """An ERP that repeats what it was sent: refusing everything, or at its stock alone."""
        place = self.place
        for status, login, more in ((401, True, []), (400, True, []), (400, False, ["--json"])):
            self.erp.spoilt(echo(status), login=login)
            if login:
                await self.fails(place.integrations.test(place.tenant, place.system))
            await self.fails(place.sync())
            await self.command("sync", place.system, *more, ends=ERP)
        self.erp.spoilt(echo(401), login=True)
        await self.command("test", place.system, "--json", ends=ERP)
        if self.erp.case.name in PATIENT:
            for status in (200, 500):
                self.erp.spoilt(echo(status))
                await self.fails(place.sync())
        await self.command("runs", "--json")


@pytest.mark.parametrize("case", ALL, ids=str)
async def test_commands_and_calls_tell_no_credential(case, database, environment, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    for name in LOGGERS:
        caplog.set_level(logging.DEBUG, logger=name)
    async with AsyncExitStack() as stack:
        erp = await open_erp(stack, case)
        skus = [sku(number) for number in range(case.count)]
        place = await stack.enter_async_context(whole(database, *erp.servers, skus=skus))
        place.system = case.system.value
        environment(place)
        run = await stack.enter_async_context(commands(database))
        lines = stack.enter_context(structlog.testing.capture_logs())
        desk = Desk(place, erp, run)
        (tmp_path / "options").write_text(json.dumps({"warehouses": WAREHOUSES}))
        await desk.well(tmp_path / "options")
        await desk.in_trouble()
        dump, handed_out = await canary.dumped(database), erp.handed_out()
    assert "stock_sync_logs" in dump
    assert any(line["event"] == "erp request" for line in lines)
    desk.told += [dump, repr(lines), caplog.text, *(repr(vars(x)) for x in caplog.records)]
    assert canary.seen("\n".join(desk.told), handed_out) == []


async def test_what_an_erp_repeats_in_its_rows_is_not_told(database):
    """Where figures should be stands what the request had, and remarks quote what they found."""
    async with FakeRest() as fake, whole(database, fake, skus=["A", "B"]) as place:
        fake.received("A", "5")
        await place.connect(fake.settings())
        await place.sync()

        def repeats(request: Request) -> Reply:
            said = request.headers["authorization"]
            short, long = said, "x" * 62 + said
            row = {"code": "B", "stock": {"total": short, "free": 1}, "depot": "01"}
            cut = {"code": "C", "stock": {"total": long, "free": 1}, "depot": "01"}
            return Reply({"items": [*fake.records("A"), row, cut]})

        fake.trouble(repeats, path="/v1/stock")
        result = await place.sync()
    assert [(x.sku, x.code) for x in result.errors] == [(x, "UNPARSEABLE_NUMBER") for x in "BC"]
    assert canary.seen(f"{result!r}{await canary.dumped(database)}") == []


async def test_a_worker_at_debug_tells_no_credential(database, environment, tmp_path):
    """A process as it is run: all systems of a tenant, well and in trouble; its logs and jobs."""
    async with AsyncExitStack() as stack:
        erps = [await open_erp(stack, case) for case in BY_SYSTEM]
        assert {erp.case.system for erp in erps} == set(SystemName) - {SystemName.CSV_IMPORT}
        servers = [server for erp in erps for server in erp.servers]
        place = await stack.enter_async_context(whole(database, *servers, skus=[sku(0)]))
        environment(place)
        app = await stack.enter_async_context(create_pool(database, "cerniq_app", max_size=1))
        queue = PostgresQueue(app)
        for erp in erps:
            place.system = erp.case.system.value
            await place.connect(erp.case.settings(erp.fake), parse=erp.case.config)
        log = stack.enter_context((tmp_path / "log").open("w+"))
        code = "from cerniq_stock.cli import main; main()"
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code, "worker", "--no-schedules", "--metrics-port", "0"),
            stdout=log,
            stderr=log,
            env={**os.environ, "CERNIQ_DATABASE_URL": database, "CERNIQ_LOG_FORMAT": "json"},
        )
        try:
            ends = await asyncio.gather(*(_job(queue, place, erp) for erp in erps))
            for erp in erps:
                erp.spoilt(echo(401), login=True)
            refused = await asyncio.gather(*(_job(queue, place, erp) for erp in erps))
            for erp in erps:
                erp.spoilt(echo(400))
            refused += await asyncio.gather(*(_job(queue, place, erp) for erp in erps))
            (central,) = (x for x in erps if x.case.system is SystemName.MICROSOFT_BC)
            central.well()
            ends.append(await _notified(queue, place, central))
        finally:
            worker.send_signal(signal.SIGTERM)
            await worker.wait()
        log.seek(0)
        logged = log.read()
        handed_out = [text for erp in erps for text in erp.handed_out()]
        dump = await canary.dumped(database)
    assert {x.state for x in ends} == {JobState.COMPLETED}, [x.error for x in ends]
    assert {x.state for x in refused} == {JobState.FAILED}
    assert all(x.traceback for x in refused)
    assert '"level": "debug"' in logged
    jobs = "\n".join(repr(x) for x in (*ends, *refused))
    assert canary.seen(f"{logged}\n{dump}\n{jobs}", handed_out) == []


async def _job(queue: PostgresQueue, place: Whole, erp: Erp) -> Any:
    asked = {"tenantId": str(place.tenant), "syncType": "FULL"}
    name = "stock:sync:oblio"
    if erp.case.system is not SystemName.OBLIO:
        name, asked["erpSystem"] = "stock:sync:erp", erp.case.system.value
    (id_,) = await queue.add(place.tenant, [NewJob(name=name, payload=asked)])
    return await _ended(queue, place, id_)


async def _ended(queue: PostgresQueue, place: Whole, id_: str) -> Any:
    async with asyncio.timeout(60):
        while (found := await queue.get(place.tenant, id_)).state not in ENDED:  # type: ignore[union-attr] # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
    return found


async def _notified(queue: PostgresQueue, place: Whole, erp: Erp) -> Any:
    """The job of a notification, which repeats a secret of ours."""
    assert erp.case.event is not None
    body = json.dumps(erp.case.event(erp.fake, [sku(0)])).encode()
    assert canary.seen(body.decode())
    name, payload = job(SystemName.MICROSOFT_BC, place.tenant, body)
    (id_,) = await queue.add(place.tenant, [NewJob(name=name, payload=payload)])
    ended = await _ended(queue, place, id_)
    assert ended.result["statistics"]["totalProducts"] == 1, "it was believed"
    return ended


# -- that it would be seen ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Bearer canary-rest-key",
        "CANARY-REST-KEY",
        "client_secret=canary-rest%2Fkey",
        base64.b64encode(b"demo:canary-rest-password").decode(),
        base64.b64encode(b"de:canary-rest-password").decode(),
        base64.urlsafe_b64encode(b"d:canary-rest-password").decode(),
        b"{canary-rest-key}".hex(),
        "kanarienvogel-7f3a",
    ],
)
def test_a_credential_is_seen_in_every_form(text):
    assert canary.seen(f"before {text} after")


def test_a_token_is_seen_and_innocence_is_not():
    assert canary.seen("x 0a1b2c x", ["0a1b2c"])
    assert canary.seen("nothing to be told", ["0a1b2c"]) == []


async def test_what_lies_open_in_a_table_is_seen(database, superuser):
    """Negative control: one table, as text and as bytes."""
    await superuser.execute("CREATE TABLE left_open (it bytea, words text)")
    assert canary.seen(await canary.dumped(database)) == []
    await superuser.execute("INSERT INTO left_open VALUES ($1, NULL)", b"x-canary-key")
    assert canary.seen(await canary.dumped(database))
    await superuser.execute("UPDATE left_open SET it = NULL, words = 'canary-key'")
    assert canary.seen(await canary.dumped(database))
