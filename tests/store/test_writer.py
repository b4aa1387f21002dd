"""The writer: bounds, fairness, poison, dead workers, an orderly end."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from tests.helpers import put, receive, reserve, shop
from tests.store.asking import ask, asked, outcome

from cerniq_stock.domain.outcomes import LevelResult, ReserveResult
from cerniq_stock.errors import CommandFailedError, OverloadedError, UnavailableError
from cerniq_stock.store import database as database_module
from cerniq_stock.store import transaction
from cerniq_stock.store import writer as writer_module
from cerniq_stock.store.transaction import Transaction
from cerniq_stock.store.writer import Limits, Writer

NOWHERE = "postgresql://postgres@/none?host=/nowhere"


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
