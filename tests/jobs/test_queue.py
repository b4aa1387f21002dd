"""What the queue on PostgreSQL does beyond the contract that every transport keeps."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from cerniq_stock.errors import InvalidInputError
from cerniq_stock.jobs.port import JobState, NewJob


async def test_a_trace_is_kept(town):
    (id_,) = await town.add(town.reserve(trace_id="t1"))
    assert (await town.look(id_)).trace_id == "t1"


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


async def test_what_was_cancelled_is_shown_and_its_ticket_is_gone(town):
    (late,) = await town.add(town.reserve(delay_s=3600))
    assert await town.queue.cancel(town.tenant, late)
    assert (await town.look(late)).state == JobState.CANCELLED
    assert not await town.operator.fetchval("SELECT count(*) FROM cerniq_queue.pgqueuer")


async def test_a_failed_job_may_be_retried_while_workers_run(town):
    (bad,) = await town.add(town.job("stock:sync:oblio"))
    async with town.working():
        (job,) = await town.ended(bad)
        assert await town.queue.retry(town.tenant, bad)
        (again,) = await town.ended(bad)
    assert again.finished_at > job.finished_at


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
