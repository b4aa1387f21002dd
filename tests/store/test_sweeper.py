"""The task in the background: it ends what is due, keeps the partitions, outlives trouble."""

import asyncio
import logging
from typing import Any

import asyncpg
from tests.helpers import uid
from tests.store.sweeping import PATIENCE_S, due, open_shop, run, statuses, until

from cerniq_stock.domain.model import Tenant
from cerniq_stock.store import sweep
from cerniq_stock.store.sweep import SETTINGS, Sweeper


async def test_the_sweeper_ends_what_becomes_due(app, superuser, database):
    await open_shop(superuser, "A=9")

    async def all_ended() -> bool:
        return set((await statuses(superuser)).values()) == {"EXPIRED"}

    async with Sweeper(database, interval_s=0.01):
        await run(app, due("r1", "A=1"))
        await until(all_ended)
        await run(app, due("r2", "A=1"))
        await until(all_ended)


async def test_the_sweeper_survives_the_loss_of_its_connections(
    app, superuser, operator, database, caplog
):
    await open_shop(superuser, "A=9")
    mine = [app.get_server_pid(), operator.get_server_pid()]
    others = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'cerniq-stock' AND pid <> ALL ($1)"
    )

    async def connected() -> bool:
        return len(await superuser.fetch(others, mine)) == 2

    async def ended() -> bool:
        return (await statuses(superuser))["r1"] == "EXPIRED"

    async with Sweeper(database, interval_s=0.01):
        await until(connected)
        await superuser.execute(f"SELECT pg_terminate_backend(pid) FROM ({others}) AS o", mine)
        await run(app, due("r1", "A=1"))
        await until(ended)
        await until(connected)
    assert "has no connection" in caplog.text

    async def gone() -> bool:
        return not await superuser.fetch(others, mine)

    await until(gone)


async def test_the_sweeper_outlives_whatever_happens(database, superuser, app, monkeypatch, caplog):
    await open_shop(superuser, "A=9")
    await run(app, due("r1", "A=1"))
    failed = asyncio.Event()

    async def fail(connection: asyncpg.Connection) -> list[Any]:
        monkeypatch.undo()
        failed.set()
        raise ZeroDivisionError

    monkeypatch.setattr(sweep, "due_tenants", fail)

    async def ended() -> bool:
        return (await statuses(superuser))["r1"] == "EXPIRED"

    async with Sweeper(database, interval_s=0.01):
        await failed.wait()
        await until(ended)
    assert "ZeroDivisionError" in caplog.text


async def test_a_tenant_in_trouble_does_not_hold_the_others_up(
    app, superuser, database, monkeypatch, caplog
):
    monkeypatch.setitem(SETTINGS, "lock_timeout", "20ms")
    monkeypatch.setattr(sweep, "ATTEMPTS", 1)
    tenants = [Tenant(uid(name), name) for name in ("blocked", "free")]
    for tenant in tenants:
        await open_shop(superuser, "A=9", tenant)
        await run(app, due(f"r-{tenant.name}", "A=1"), tenant=tenant)

    async def free_ended() -> bool:
        return "EXPIRED" in (await statuses(superuser)).values()

    async with superuser.transaction():
        await superuser.execute(
            "SELECT FROM stock_levels WHERE tenant_id = $1 FOR UPDATE", tenants[0].id
        )
        async with Sweeper(database, interval_s=0.01):
            await until(free_ended)
    assert await statuses(superuser) == {"r-blocked": "ACTIVE", "r-free": "EXPIRED"}


async def test_the_sweeper_stops_while_the_server_is_away(caplog):
    async with Sweeper("postgresql://nobody@127.0.0.1:1/none", interval_s=0.01):
        async with asyncio.timeout(PATIENCE_S):
            while "has no connection" not in caplog.text:  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0.005)


async def test_the_sweeper_stops_though_its_transaction_hangs(
    app, superuser, database, monkeypatch
):
    monkeypatch.setattr(sweep, "STOP_TIMEOUT_S", 0.05)
    await open_shop(superuser, "A=9")
    await run(app, due("r1", "A=1"))

    async def blocked() -> bool:
        return bool(await superuser.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    async with superuser.transaction():
        await superuser.execute("SELECT FROM stock_levels FOR NO KEY UPDATE")
        async with Sweeper(database, interval_s=0.01):
            await until(blocked)
    assert await statuses(superuser) == {"r1": "ACTIVE"}


# -- partitions -----------------------------------------------------------------------------


async def last_partition(superuser: asyncpg.Connection) -> str:
    return await superuser.fetchval(
        "SELECT max(inhrelid::regclass::text) FROM pg_inherits"
        " WHERE inhparent = 'stock_movements'::regclass"
        " AND inhrelid::regclass::text LIKE '%_20__\\___'"
    )


async def test_the_sweeper_makes_the_partitions_to_come(superuser, database):
    last = await last_partition(superuser)
    await superuser.execute(f"DROP TABLE {last}")

    async def made() -> bool:
        return await last_partition(superuser) == last

    async with Sweeper(database, interval_s=0.01):
        await until(made)


async def test_partitions_wait_for_long_readers_and_nobody_waits_for_them(
    app, superuser, operator, database, monkeypatch, caplog
):
    monkeypatch.setattr(sweep, "UPKEEP_RETRY_S", 0.05)
    caplog.set_level(logging.INFO)
    await open_shop(superuser, "A=9")
    await run(app, due("r1", "A=1"))
    last = await last_partition(superuser)
    await superuser.execute(f"DROP TABLE {last}")

    async def ended() -> bool:
        return await statuses(operator) == {"r1": "EXPIRED"}

    async def made() -> bool:
        return await last_partition(superuser) == last

    async with Sweeper(database, interval_s=0.01):
        async with superuser.transaction():
            await superuser.execute("SELECT FROM stock_movements LIMIT 1")
            await until(ended)
        await until(made)
