"""What a transport must do for producers and operators: the contract of `port.JobQueue`."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from cerniq_stock.errors import InvalidInputError
from cerniq_stock.jobs.port import JobState, NewJob


async def test_a_job_waits_and_is_shown(town):
    (id_,) = await town.add(town.reserve(trace_id="t1", priority=3))
    job = await town.look(id_)
    assert (job.state, job.attempts, job.priority, job.trace_id) == ("WAITING", 0, 3, "t1")
    assert job.payload["items"] == [{"sku": "A", "quantity": 1}]
    assert [x.id for x in await town.queue.jobs(town.tenant)] == [id_]
    (count,) = await town.queue.counts(town.tenant)
    assert count.states == {"WAITING": 1}


async def test_the_same_id_again_adds_nothing(town):
    first = town.reserve(id="one", quantity=1)
    assert await town.add(first, first) == ["one", "one"]
    await town.add(town.reserve(id="one", quantity=2))
    assert len(await town.queue.jobs(town.tenant)) == 1
    assert (await town.look("one")).payload == first.payload
    async with town.working():
        await town.ended("one")
    await town.add(first)
    assert (await town.look("one")).state == JobState.COMPLETED
    assert await town.available("A") == 49


async def test_many_producers_of_one_id(town):
    await asyncio.gather(*(town.add(town.reserve(id="one")) for _ in range(8)))
    left = await town.operator.fetchval("SELECT count(*) FROM cerniq_queue.pgqueuer")
    assert left == 1


async def test_adding_joins_the_callers_transaction(town, superuser):
    transaction = superuser.transaction()
    await transaction.start()
    await town.queue.add(town.tenant, [town.reserve(id="undone")], connection=superuser)
    await transaction.rollback()
    assert await town.queue.get(town.tenant, "undone") is None
    assert not await town.operator.fetchval("SELECT count(*) FROM cerniq_queue.pgqueuer")
    async with superuser.transaction():
        await town.queue.add(town.tenant, [town.reserve(id="done")], connection=superuser)
    assert await town.queue.get(town.tenant, "done") is not None


@pytest.mark.parametrize(
    ("field", "job"),
    [
        ("name", NewJob(name="stock:make:coffee", payload={})),
        ("payload", NewJob(name="stock:sync:erp", payload=[])),
        ("priority", NewJob(name="stock:sync:erp", payload={}, priority=1001)),
        ("delay", NewJob(name="stock:sync:erp", payload={}, delay_s=-1)),
        ("jobId", NewJob(name="stock:sync:erp", payload={}, id="x" * 91)),
        ("payload", NewJob(name="stock:sync:erp", payload={"note": "a\0b"})),
        ("payload", NewJob(name="stock:sync:erp", payload={"note": "a" * 1_000_001})),
    ],
)
async def test_what_can_be_no_job_is_not_taken(town, field, job):
    with pytest.raises(InvalidInputError) as caught:
        await town.add(town.reserve(), job)
    assert caught.value.field == field
    assert await town.queue.jobs(town.tenant) == ()


async def test_a_delayed_job_waits_and_can_be_cancelled(town):
    late, soon = await town.add(town.reserve(delay_s=3600), town.reserve(delay_s=0.3))
    assert (await town.look(late)).state == JobState.DELAYED
    async with town.working():
        await town.ended(soon)
        assert (await town.look(late)).state == JobState.DELAYED
        assert await town.queue.cancel(town.tenant, late)
        assert not await town.queue.cancel(town.tenant, late)
    assert not await town.queue.cancel(town.tenant, soon)
    assert not await town.queue.cancel(town.tenant, "unknown")
    assert (await town.look(late)).state == JobState.CANCELLED
    assert not await town.operator.fetchval("SELECT count(*) FROM cerniq_queue.pgqueuer")


async def test_failed_jobs_are_listed_and_retried(town):
    (bad,) = await town.add(town.job("stock:sync:erp"))
    async with town.working():
        (job,) = await town.ended(bad)
        assert job.state == JobState.FAILED
        assert job.error.startswith("NOT_CONFIGURED: ")
        failed = await town.queue.jobs(town.tenant, state=JobState.FAILED)
        assert [x.id for x in failed] == [bad]
        assert await town.queue.retry(town.tenant, bad)
        assert not await town.queue.retry(town.tenant, "unknown")
        (again,) = await town.ended(bad)
    assert again.finished_at > job.finished_at


async def test_a_tenant_sees_its_own_jobs_only(town):
    (id_,) = await town.add(town.reserve())
    stranger = uuid4()
    assert await town.queue.get(stranger, id_) is None
    assert not await town.queue.cancel(stranger, id_)
    assert await town.queue.counts(stranger) == ()


async def test_the_queues_table_shows_a_tenant_its_own_tickets_only(town, database):
    await town.add(town.reserve())
    connection = await asyncpg.connect(database, server_settings={"role": "cerniq_app"})
    try:
        for tenant, seen in ((town.tenant, 1), (uuid4(), 0)):
            await connection.execute(f"SET app.tenant = '{tenant}'")
            assert await connection.fetchval("SELECT count(*) FROM cerniq_queue.pgqueuer") == seen
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(
                "INSERT INTO cerniq_queue.pgqueuer (priority, status, entrypoint, payload)"
                " VALUES (0, 'queued', 'stock:sync:erp', $1)",
                str(town.tenant).encode(),
            )
    finally:
        await connection.close()


async def test_adding_leaves_the_callers_connection_as_it_was(town, database):
    connection = await asyncpg.connect(database, server_settings={"role": "cerniq_app"})
    theirs = str(uuid4())
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL app.tenant = '{theirs}'")
            await town.queue.add(town.tenant, [town.reserve()], connection=connection)
            assert await connection.fetchval("SHOW app.tenant") == theirs
        # without a transaction of the caller's it is one of its own: all or nothing
        with pytest.raises(InvalidInputError):
            await town.queue.add(
                town.tenant,
                [town.reserve(id="a"), NewJob(name="stock:sync:erp", payload={"x": float("nan")})],
                connection=connection,
            )
    finally:
        await connection.close()
    assert await town.queue.get(town.tenant, "a") is None
    assert await town.operator.fetchval("SELECT count(*) FROM cerniq_queue.pgqueuer") == 1


async def test_of_two_jobs_with_one_id_the_first_stands(town):
    await town.add(town.reserve(id="one", quantity=1), town.reserve(id="one", quantity=2))
    assert (await town.look("one")).payload["items"][0]["quantity"] == 1
