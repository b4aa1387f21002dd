"""The writer: bounds, fairness, poison, lost connections, dead workers, an orderly end."""

import asyncio
import logging
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from tests.helpers import negotiation, put, read_back, receive, reserve, shop

from cerniq_stock.domain.model import Tenant
from cerniq_stock.domain.outcomes import LevelResult, ReserveResult
from cerniq_stock.errors import CommandFailedError, OverloadedError, UnavailableError
from cerniq_stock.store import database as database_module
from cerniq_stock.store import transaction
from cerniq_stock.store import writer as writer_module
from cerniq_stock.store.transaction import Transaction
from cerniq_stock.store.writer import Limits, Writer

NOWHERE = "postgresql://postgres@/none?host=/nowhere"


async def asked(writer: Writer, count: int) -> None:
    """Wait until so many commands are waiting."""
    while writer.waiting < count:  # noqa: ASYNC110 - a few turns of the loop
        await asyncio.sleep(0)


def ask(writer: Writer, tenant: UUID, *commands: Any) -> list["asyncio.Task[Any]"]:
    return [asyncio.create_task(writer.submit(tenant, command)) for command in commands]


async def outcome(task: "asyncio.Task[Any]") -> Any:
    """The answer, or the error instead of raising it."""
    return (await asyncio.gather(task, return_exceptions=True))[0]


@pytest.fixture
async def tenant(superuser: asyncpg.Connection) -> Tenant:
    state = shop("A=100 B=100")
    await put(superuser, state)
    return state.tenant


@pytest.fixture
async def writer(database: str) -> AsyncIterator[Writer]:
    async with Writer(database) as writer:
        yield writer


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[UUID, int]]:
    """Tenant and size of each batch, in the order in which they are run."""
    seen: list[tuple[UUID, int]] = []
    run = Transaction.run

    async def record(self: Transaction, connection: asyncpg.Connection) -> Any:
        seen.append((self.tenant_id, len(self.commands)))
        return await run(self, connection)

    monkeypatch.setattr(Transaction, "run", record)
    return seen


# -- bounds and fairness --------------------------------------------------------------------


async def test_too_many_waiting_are_not_taken():
    one, two = uuid4(), uuid4()
    limits = Limits(connections=0, waiting=5, waiting_per_tenant=3)
    writer = Writer(NOWHERE, limits)
    taken = ask(writer, one, *[receive("A=1")] * 3)
    await asked(writer, 3)
    with pytest.raises(OverloadedError):  # this tenant's share is used up
        await writer.submit(one, receive("A=1"))
    taken += ask(writer, two, *[receive("A=1")] * 2)
    await asked(writer, 5)
    with pytest.raises(OverloadedError) as refused:
        await writer.submit(two, receive("A=1"))
    assert refused.value.waiting == 5
    assert refused.value.retryable
    taken.pop().cancel()
    await asyncio.sleep(0)
    taken += ask(writer, two, receive("A=1"))  # room again
    await asked(writer, 5)
    for task in taken:
        task.cancel()
    await asyncio.gather(*taken, return_exceptions=True)
    assert writer.waiting == 0


async def test_a_flood_of_one_tenant_does_not_starve_another(database, superuser, tenant, batches):
    other = replace(tenant, id=uuid4())
    await put(superuser, shop("A=1", tenant=other))
    async with Writer(database, Limits(connections=1, batch=5)) as writer:
        flood = ask(writer, tenant.id, *[receive(f"{sku}=1") for sku in "AB" * 100])
        await flood[0]
        before = len(batches)
        await writer.submit(other.id, receive("A=1"))
        between = [of for of, _ in batches[before:]].index(other.id)
        await asyncio.gather(*flood)
    # one under way, and one for each of the flooding tenant's lanes
    assert between <= 3
    assert len(batches) >= 40


async def test_callers_share_batches(writer, tenant, batches):
    answers = await asyncio.gather(*ask(writer, tenant.id, *[receive("A=1")] * 300))
    assert sorted(answer.total for answer in answers) == list(range(101, 401))
    assert len(batches) <= 3


async def test_a_batch_is_bounded_in_commands_and_in_lines(database, tenant, batches):
    async with Writer(database, Limits(lanes_per_tenant=1, batch=4, batch_lines=6)) as writer:
        await asyncio.gather(*ask(writer, tenant.id, *[receive("A=1")] * 9))
        assert [size for _, size in batches] == [4, 4, 1]
        batches.clear()
        three = [reserve(f"r{n}", "A=1 B=1 A=1") for n in range(4)]
        await asyncio.gather(*ask(writer, tenant.id, *three))
        assert [size for _, size in batches] == [2, 2]


async def test_cancelled_callers_disturb_nobody(writer, tenant, superuser):
    tasks = ask(writer, tenant.id, *[receive("A=1")] * 20)
    await asked(writer, 20)
    tasks[0].cancel()
    tasks[7].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers].count(LevelResult) == 18
    assert await superuser.fetchval("SELECT max(total) FROM stock_levels") == 118
    assert writer.waiting == 0


async def test_a_caller_cancelled_during_the_batch_still_took_effect(
    writer, tenant, superuser, monkeypatch
):
    write = transaction.write
    here, go = asyncio.Event(), asyncio.Event()

    async def slow(*args: Any) -> Any:
        here.set()
        await go.wait()
        return await write(*args)

    monkeypatch.setattr(transaction, "write", slow)
    gone, stays = ask(writer, tenant.id, receive("A=1"), receive("A=2"))
    await here.wait()
    gone.cancel()
    go.set()
    assert (await stays).total == 103
    assert isinstance(await outcome(gone), asyncio.CancelledError)


# -- poison ---------------------------------------------------------------------------------

POISON = {
    "a number out of range": reserve("p", "A=100000000000000000"),
    "a text too long": replace(reserve("p", "A=1"), requested_by="x" * 101),
    "a NUL": replace(reserve("p", "A=1"), notes="\0"),
    "a number used before": replace(reserve("r0", "A=1"), key="other"),
    "an assertion": replace(receive("A=1"), by="poison"),
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
async def test_a_poisonous_command_fails_alone(
    writer, tenant, superuser, monkeypatch, caplog, poison
):
    def decide_many(state: Any, commands: Any, now: Any) -> Any:
        assert not any(getattr(command, "by", "") == "poison" for command in commands)
        return real(state, commands, now)

    real = transaction.decide_many
    monkeypatch.setattr(transaction, "decide_many", decide_many)
    await writer.submit(tenant.id, reserve("r0", "A=1"))
    commands = [reserve(f"r{n}", "A=1") for n in range(1, 30)]
    tasks = ask(writer, tenant.id, *commands[:13], poison, *commands[13:])
    results = await asyncio.gather(*tasks, return_exceptions=True)
    failed = results.pop(13)
    # a number that was used may be another session's, and free the next time
    assert type(failed) is (UnavailableError if poison.key == "other" else CommandFailedError)
    assert all(isinstance(result, ReserveResult) and result.success for result in results)
    assert await superuser.fetchval("SELECT sum(held) FROM stock_reservation_lines") == 30
    assert "command failed" in caplog.text
    await writer.submit(tenant.id, receive("A=1"))


async def test_a_lock_held_by_another_session_is_trouble_and_passes(
    database, tenant, superuser, monkeypatch
):
    monkeypatch.setitem(database_module._LIMITS, "lock_timeout", "50ms")
    async with Writer(database) as writer, superuser.transaction():
        await superuser.execute(
            "SELECT FROM stock_levels AS s JOIN products AS p ON p.id = s.product_id"
            " WHERE sku = 'A' FOR UPDATE OF s"
        )
        blocked, free = ask(writer, tenant.id, receive("A=1"), receive("B=1"))
        assert isinstance(await outcome(blocked), UnavailableError)
        assert (await free).total == 101
    async with Writer(database) as writer:
        assert (await writer.submit(tenant.id, receive("A=1"))).total == 101


async def test_many_that_wait_for_a_lock_do_not_wait_one_after_another(
    database, tenant, superuser, monkeypatch
):
    """What is left of the batch fails together when its patience is over."""
    monkeypatch.setitem(database_module._LIMITS, "lock_timeout", "100ms")
    monkeypatch.setattr(writer_module, "PATIENCE_S", 0.0)
    tried: list[int] = []
    run = Transaction.run

    async def counted(self: Transaction, connection: asyncpg.Connection) -> Any:
        tried.append(len(self.commands))
        return await run(self, connection)

    monkeypatch.setattr(Transaction, "run", counted)
    async with Writer(database) as writer, superuser.transaction():
        await superuser.execute("SELECT FROM stock_levels FOR UPDATE")
        tasks = ask(writer, tenant.id, *[receive("A=1")] * 8)
        assert {type(await outcome(task)) for task in tasks} == {UnavailableError}
    assert tried == [8, 4, 4]


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


# -- lost connections -----------------------------------------------------------------------

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


async def test_a_database_that_stays_away(wire, tenant, superuser):
    away = wire.dsn.replace("host=", "host=/nowhere")
    async with Writer(away, Limits(reconnect_s=0.2)) as writer:
        with pytest.raises(UnavailableError):
            await writer.submit(tenant.id, receive("A=1"))
        writer._dsn = wire.dsn
    assert not writer.waiting


# -- workers --------------------------------------------------------------------------------


class KilledError(BaseException):
    """Neither an error of the engine nor a cancellation."""


@pytest.mark.parametrize("at", ["work", "rest"])
async def test_a_killed_worker_is_started_again(database, tenant, monkeypatch, caplog, at):
    async with Writer(database, Limits(connections=1)) as writer:
        await writer.submit(tenant.id, receive("A=1"))
        (worker,) = writer._workers
        with monkeypatch.context() as patch:
            if at == "work":
                patch.setattr(Transaction, "run", _killed)
                with pytest.raises(CommandFailedError):
                    await writer.submit(tenant.id, receive("A=1"))
            else:
                patch.setattr(writer, "_keep_or_drop", _killed_now)
                await writer.submit(tenant.id, receive("A=1"))
            await asyncio.wait([worker])
        assert (await writer.submit(tenant.id, receive("A=1"))).total > 101
    assert "started again" in caplog.text


async def _killed(*_: Any) -> None:
    raise KilledError


def _killed_now(*_: Any) -> None:
    raise KilledError


async def test_a_cancelled_worker_is_started_again(database, tenant):
    async with Writer(database, Limits(connections=1)) as writer:
        await writer.submit(tenant.id, receive("A=1"))
        (worker,) = writer._workers
        worker.cancel()
        await asyncio.wait([worker])
        async with asyncio.timeout(2):
            await writer.submit(tenant.id, receive("A=1"))


async def test_a_worker_cancelled_while_committing_promises_nothing(
    database, tenant, superuser, monkeypatch
):
    run = Transaction.run

    async def then_cancelled(self: Transaction, connection: asyncpg.Connection) -> None:
        await run(self, connection)
        raise asyncio.CancelledError

    monkeypatch.setattr(Transaction, "run", then_cancelled)
    async with Writer(database, Limits(connections=1)) as writer:
        with pytest.raises(UnavailableError):
            await writer.submit(tenant.id, receive("A=1"))
    assert await superuser.fetchval("SELECT max(total) FROM stock_levels") == 101


async def test_closing_answers_what_waits(database, tenant, superuser):
    async with Writer(database, Limits(connections=1, batch=3)) as writer:
        tasks = ask(writer, tenant.id, *[receive("A=1")] * 20)
        await asked(writer, 20)
    assert sorted(task.result().total for task in tasks) == list(range(101, 121))
    with pytest.raises(UnavailableError):
        await writer.submit(tenant.id, receive("A=1"))


async def test_closing_without_workers_tells_everybody():
    writer = Writer(NOWHERE, Limits(connections=0, batch=2))
    async with writer:
        tasks = ask(writer, uuid4(), *[receive("A=1")] * 5)
        await asked(writer, 5)
    done, pending = await asyncio.wait(tasks, timeout=0.2)
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(done) == 5
    assert {type(task.exception()) for task in done} == {UnavailableError}


async def test_a_cancelled_close_tells_everybody(database, tenant, superuser):
    """Who cancels an orderly end wants an end: those in the batch and those behind it are told."""
    writer = Writer(database, Limits(connections=1, lanes_per_tenant=1, batch=2))
    await writer.__aenter__()
    async with superuser.transaction():
        await superuser.execute("SELECT FROM stock_levels FOR UPDATE")
        tasks = ask(writer, tenant.id, *[receive("A=1")] * 5)
        await until_one_is_blocked(superuser)
        closing = asyncio.create_task(writer.__aexit__())
        await asyncio.sleep(0)
        closing.cancel()
        done, pending = await asyncio.wait([closing, *tasks], timeout=5)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    assert len(done) == 6
    assert closing.cancelled()
    assert {type(task.exception()) for task in tasks} == {UnavailableError}
    with pytest.raises(UnavailableError):
        await writer.submit(tenant.id, receive("A=1"))
    assert writer.waiting == 0
    assert not writer._workers
    assert await superuser.fetchval("SELECT max(total) FROM stock_levels") == 100


async def until_one_is_blocked(superuser: asyncpg.Connection) -> None:
    sql = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    while not await superuser.fetchval(sql):  # noqa: ASYNC110 - the server has no event for it
        await asyncio.sleep(0.002)


async def test_planning_again_is_harmless(database, tenant, caplog):
    """At 1, 2, 4, 8 and 16 batches of a connection; what was prepared by name stays."""
    caplog.set_level(logging.WARNING)
    async with Writer(database, Limits(connections=1)) as writer:
        for n in range(20):
            answer = await writer.submit(tenant.id, reserve(f"r{n}", "A=1"))
            assert answer.success
    assert not caplog.records
