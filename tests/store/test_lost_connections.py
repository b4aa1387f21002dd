"""The writer and its connections: cut off at any moment, no answer is lost and none is doubled."""

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from tests.helpers import negotiation, put, read_back, receive, reserve, shop
from tests.store.asking import ask, outcome

from cerniq_stock.domain.model import Tenant
from cerniq_stock.errors import UnavailableError
from cerniq_stock.store import transaction
from cerniq_stock.store import writer as writer_module
from cerniq_stock.store.writer import Limits, Writer

COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"


class Wire:
    """A Unix socket before the server's; `cut` says what happens to the next COMMIT.

    `before`: it never arrives. `after`: it is carried out, its answer never arrives. `during`:
    it arrives and the client is cut off at once.
    """

    def __init__(self, dsn: str, folder: Path) -> None:
        self.server = re.search(r"host=([^&]+)", dsn)[1] + "/.s.PGSQL.5432"
        self.path = str(folder / ".s.PGSQL.5432")
        self.dsn = re.sub(r"host=[^&]+", f"host={folder}", dsn)
        self.cut: str | None = None
        self.cuts = 0
        self.tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Wire"]:
        async with await asyncio.start_unix_server(self._serve, self.path):
            yield self
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _serve(self, *client: Any) -> None:
        task = asyncio.current_task()
        self.tasks.add(task)
        server = await asyncio.open_unix_connection(self.server)
        answers = asyncio.create_task(self._pass(server[0], client[1]))
        try:
            with suppress(ConnectionError):
                await self._forward(client, server, answers)
        finally:
            answers.cancel()
            for _, writer in (client, server):
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
            self.tasks.discard(task)

    async def _forward(self, client: Any, server: Any, answers: "asyncio.Task[None]") -> None:
        while data := await client[0].read(65536):
            cut = None
            if COMMIT in data:
                cut, self.cut = self.cut, None
            if cut == "after":
                answers.cancel()
                await asyncio.wait([answers])
            if cut != "before":
                server[1].write(data)
                await server[1].drain()
            if cut == "after":
                await server[0].read(1)
            if cut is not None:
                self.cuts += 1
                return

    @staticmethod
    async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()


@pytest.fixture
async def wire(database: str) -> AsyncIterator[Wire]:
    with tempfile.TemporaryDirectory(prefix="cerniq-wire-") as folder:
        async with Wire(database, Path(folder)).open() as wire:
            yield wire


COMMANDS = {
    "reserve": reserve("r1", "A=4"),
    "fail to reserve": reserve("r1", "NONE=4"),
    "receive": receive("A=4"),
    "negotiation": negotiation("n1", "DEAD", key="k"),
}


async def one_effect(superuser: asyncpg.Connection, tenant: Tenant, command: Any) -> None:
    """The command was carried out, exactly once."""
    after = await read_back(superuser, tenant)
    wanted = {"reserve": 3, "fail to reserve": 2, "receive": 3, "negotiation": 2}
    name = next(name for name, of in COMMANDS.items() if of is command)
    assert len(after.movements) == wanted[name]
    assert len(after.state.reservations) == ("reserve" in name)
    assert len(after.state.answers) == (name == "negotiation")


@pytest.mark.parametrize("cut", ["before", "after", "during"])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
async def test_a_cut_wire_loses_no_answer(wire, superuser, tenant, command, cut):
    async with Writer(wire.dsn, Limits(connections=1)) as writer:
        wire.cut = cut
        answer = await writer.submit(tenant.id, command)
    assert wire.cuts == 1
    assert getattr(answer, "total_reserved", 4) == (0 if "NONE" in repr(command) else 4)
    await one_effect(superuser, tenant, command)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
async def test_a_backend_killed_before_commit(database, superuser, tenant, monkeypatch, command):
    write = transaction.write
    killed: list[int] = []

    async def then_kill(connection: asyncpg.Connection, *args: Any) -> Any:
        proof = await write(connection, *args)
        if not killed:
            killed.append(connection.get_server_pid())
            await superuser.execute("SELECT pg_terminate_backend($1, 10000)", killed[0])
        return proof

    monkeypatch.setattr(transaction, "write", then_kill)
    async with Writer(database) as writer:
        await writer.submit(tenant.id, command)
    assert killed
    await one_effect(superuser, tenant, command)


SLOW_COMMIT = """
CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON stock_reservations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_for_test();
SELECT pg_advisory_lock(1);
"""
WAITING = "SELECT pid FROM pg_stat_activity WHERE query = 'COMMIT' AND wait_event = 'advisory'"


async def committing(superuser: asyncpg.Connection) -> int:
    """The process whose COMMIT is under way and waits for the test."""
    while not (pid := await superuser.fetchval(WAITING)):  # noqa: ASYNC110 - no event for it
        await asyncio.sleep(0.002)
    return pid


async def test_a_backend_killed_during_commit(database, superuser, tenant):
    await superuser.execute(SLOW_COMMIT)
    async with Writer(database) as writer:
        (task,) = ask(writer, tenant.id, COMMANDS["reserve"])
        await superuser.execute(
            "SELECT pg_terminate_backend($1, 10000)", await committing(superuser)
        )
        await superuser.execute("SELECT pg_advisory_unlock(1)")
        assert (await task).total_reserved == 4
    await one_effect(superuser, tenant, COMMANDS["reserve"])


@pytest.mark.parametrize("name", ["reserve", "fail to reserve"])
async def test_a_commit_that_is_still_under_way_when_it_is_tried_again(
    wire, superuser, tenant, name
):
    """The second attempt must wait for the first one's end before it asks what became of it."""
    await superuser.execute(SLOW_COMMIT)
    async with Writer(wire.dsn, Limits(connections=1)) as writer:
        wire.cut = "during"
        (task,) = ask(writer, tenant.id, COMMANDS[name])
        first = await committing(superuser)
        sql = "SELECT pid FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))"
        while await superuser.fetchval(sql, first) is None:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.002)
        await superuser.execute("SELECT pg_advisory_unlock(1)")
        assert (await task).total_reserved == (4 if name == "reserve" else 0)
    await one_effect(superuser, tenant, COMMANDS[name])


# -- a database that is away ---------------------------------------------------------------


class LostOnce:
    """Stands for a batch whose connection is lost, and which then turns out to be poisonous."""

    def __init__(self) -> None:
        self.trouble = [asyncpg.ConnectionDoesNotExistError(), ZeroDivisionError()]

    async def run(self, _: asyncpg.Connection) -> None:
        raise self.trouble.pop(0)


async def test_the_patience_with_the_database_begins_anew_once_it_is_back(database):
    link = writer_module.Link(database, 15.0)
    with pytest.raises(ZeroDivisionError):
        await link.run(LostOnce())
    assert link._lost_at is None
    await link.close()


async def timed(task: "asyncio.Task[Any]") -> tuple[Any, float]:
    """The answer or the error, and how long it took."""
    start = asyncio.get_running_loop().time()
    return await outcome(task), asyncio.get_running_loop().time() - start


async def test_only_the_first_wait_for_a_database_that_is_away(
    database, superuser, tenant, monkeypatch
):
    """One connection serves all tenants: if each waited for itself, the last would wait longest."""
    patience_s = 0.4
    other = replace(tenant, id=uuid4())
    await put(superuser, shop("A=1", tenant=other))
    tries: list[None] = []

    async def away(*_: Any, **__: Any) -> None:
        tries.append(None)
        raise ConnectionRefusedError

    monkeypatch.setattr(writer_module, "RECONNECT_DELAY_S", 0.02)
    async with Writer(database, Limits(connections=1, reconnect_s=patience_s)) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(writer_module, "connect", away)
            error, took = await timed(*ask(writer, tenant.id, receive("A=1")))
            assert isinstance(error, UnavailableError)
            assert took >= patience_s
            assert len(tries) > 2
            tries.clear()
            for id_ in (other.id, tenant.id, uuid4()):
                error, took = await timed(*ask(writer, id_, receive("A=1")))
                assert isinstance(error, UnavailableError)
                assert took < patience_s / 2
            assert len(tries) == 3
        assert (await writer.submit(other.id, receive("A=1"))).total == 2
        # it was back in between, so that the next outage is waited for anew
        await superuser.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'cerniq-stock'"
        )
        with monkeypatch.context() as patch:
            patch.setattr(writer_module, "connect", away)
            error, took = await timed(*ask(writer, tenant.id, receive("A=1")))
            assert isinstance(error, UnavailableError)
            assert took >= patience_s


async def test_a_database_that_stays_away(wire, tenant, superuser):
    away = wire.dsn.replace("host=", "host=/nowhere")
    async with Writer(away, Limits(reconnect_s=0.2)) as writer:
        with pytest.raises(UnavailableError):
            await writer.submit(tenant.id, receive("A=1"))
        writer._dsn = wire.dsn
    assert not writer.waiting
