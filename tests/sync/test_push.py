"""Sales told to ERPs: off by default, those that are an ERP's, in documents as they fit."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from cerniq_stock.domain.commands import Item
from cerniq_stock.erp import sap_b1_push
from cerniq_stock.erp.fakes.sap_b1 import ENTRIES, EXITS
from cerniq_stock.errors import InvalidInputError, NotFoundError
from cerniq_stock.jobs.metrics import Metrics
from cerniq_stock.jobs.pg_queue import PostgresQueue
from cerniq_stock.jobs.pg_worker import Worker
from cerniq_stock.jobs.port import NewJob
from cerniq_stock.jobs.rates import Rates
from cerniq_stock.jobs.schedule import Scheduler
from cerniq_stock.store.catalog import NewProduct, NewTenant
from cerniq_stock.store.database import KEY_LOOKUPS, connect
from cerniq_stock.store.pushing import SQL
from cerniq_stock.sync.push import OVERLAP, PushOffError
from tests.sync.conftest import Shop
from tests.sync.till import PLACES, REST, SAP, Till, open_till


@pytest.fixture
async def till(shop: Shop) -> AsyncIterator[Till]:
    async with open_till(shop) as opened:
        yield opened


# -- off and on -------------------------------------------------------------------------------


async def test_by_default_nothing_is_sent(till):
    await till.connect(on=False)
    await till.sell("A")
    with pytest.raises(PushOffError, match="push is off"):
        await till.push()
    assert till.sap.requests == []
    assert await till.states() == {}


async def test_only_sales_and_returns_and_only_since_it_was_switched_on(till):
    await till.sell("A", 5)
    await till.connect()
    stock = till.shop.stock
    await stock.receive(till.tenant, "A", 4)
    await stock.adjust(till.tenant, "A", total=-1)
    await stock.reserve(till.tenant, till.shop.negotiation, [Item("B", 2)])
    held = await stock.reserve(till.tenant, till.shop.negotiation, [Item("A", 2)], type="HARD")
    await till.sync()  # what the ERP tells is not told to it
    assert (await till.push()).booked == 0
    await stock.consume(till.tenant, held.reservation_id)
    await stock.take_back(till.tenant, "A", 1)
    await till.push()
    assert (till.booked(), till.booked(ENTRIES)) == ([{"A": 2}], [{"A": 1}])


async def test_what_is_sold_while_it_is_off_is_somebody_elses_and_what_was_sold_before_is_not(till):
    """Not twice, not silently lost: what was sold while it was on is sent when it is on again."""
    await till.connect()
    await till.sell("A", 1)
    await till.switch(on=False)
    await till.sell("A", 2)
    await till.switch(on=True)
    await till.sell("A", 4)
    await till.switch(on=False)
    await till.switch(on=True)
    await till.integrations.change(till.tenant, SAP, config=till.config(SAP))
    assert (await till.push()).booked == 2
    assert till.sap.shelves["A", "01"]["InStock"] == 15


async def test_a_pause_loses_nothing(till):
    await till.connect()
    await till.integrations.change(till.tenant, SAP, enabled=False)
    await till.sell("A", 2)
    with pytest.raises(PushOffError, match="disabled"):
        await till.push()
    await till.integrations.change(till.tenant, SAP, enabled=True)
    assert (await till.push()).booked == 1


@pytest.mark.parametrize("system", ["SAGA", "OBLIO", "MICROSOFT_BC", "CSV_IMPORT"])
async def test_what_takes_no_sales_cannot_be_switched_on(till, system):
    configs = {
        "SAGA": {"base_url": "https://a.example", "api_key": "k", "company_code": "F"},
        "OBLIO": {"email": "a@b.example", "secret": "s", "cif": "RO123"},
        "MICROSOFT_BC": {"tenant_id": "t", "company": "c", "client_id": "i", "client_secret": "s"},
        "CSV_IMPORT": {},
    }
    if system == "SAGA":
        await till.integrations.remove(till.tenant, "SAGA")  # that of the other tests
    given = {"name": "x", "config": {"connection": configs[system]}}
    with pytest.raises(InvalidInputError, match=f"{system} takes no sales") as caught:
        await till.integrations.add(till.tenant, system, options={"push": True}, **given)
    assert caught.value.field == "push"
    await till.integrations.add(till.tenant, system, **given)
    with pytest.raises(InvalidInputError, match=f"{system} takes no sales"):
        await till.integrations.change(till.tenant, system, options={"push": True})


async def test_an_interface_of_ones_own_takes_sales_only_where_it_says_how(till):
    with pytest.raises(InvalidInputError, match="without its push settings"):
        await till.connect(REST, push=None)
    await till.connect(REST)
    with pytest.raises(InvalidInputError, match="without its push settings"):
        await till.integrations.change(till.tenant, REST, config=till.config(REST, push=None))
    await till.switch(on=False, system=REST)
    await till.integrations.change(till.tenant, REST, config=till.config(REST, push=None))


# -- documents --------------------------------------------------------------------------------


async def test_a_document_takes_so_many_and_what_came_back_has_its_own(till):
    await till.connect()
    for _ in range(14):
        await till.sell("A")
    for _ in range(2):
        await till.shop.stock.take_back(till.tenant, "B", 1)
    result = await till.push()
    assert (result.booked, result.waiting, result.more) == (16, 0, False)
    remarks = [one["Comments"].count("(") for one in till.sap.documents[EXITS]]
    assert remarks == [sap_b1_push.MOST, sap_b1_push.MOST, 2]
    assert [one["Comments"].count("(") for one in till.sap.documents[ENTRIES]] == [2]
    assert till.sap.shelves["A", "01"]["InStock"] == 6
    assert till.sap.shelves["B", "01"]["InStock"] == 22


async def test_one_that_is_refused_holds_up_no_other(till):
    await till.connect()
    for sku in ("A", "NEW", "B"):
        if sku == "NEW":
            await till.shop.stock.import_products(till.tenant, [NewProduct("NEW", "New")])
            await till.shop.stock.receive(till.tenant, "NEW", 5)
        await till.sell(sku)
    result = await till.push()
    assert (result.success, result.booked, result.refused, result.waiting) == (False, 2, 1, 0)
    (refused,) = result.errors
    assert (refused.sku, refused.code) == ("NEW", "REFUSED")
    assert till.booked() == [{"A": 1}, {"B": 1}]
    (kept,) = await till.pushes.listed(till.tenant, SAP, state="REFUSED")
    assert "not known there" in (kept.error or "")
    asked = len(till.sap.requests)
    assert (await till.push()).refused == 0
    assert len(till.sap.requests) == asked, "it is not sent again by itself"

    till.sap.received("NEW", "5")
    with pytest.raises(NotFoundError, match="No sale 01XYZ was refused"):
        await till.pushes.again(till.tenant, SAP, [kept.movement_id, "01XYZ"])
    assert await till.pushes.again(till.tenant, SAP, [kept.movement_id]) == 1
    assert (await till.push()).booked == 1
    assert await till.states() == {"BOOKED": 3}
    assert await till.pushes.again(till.tenant, SAP) == 0


async def test_only_the_warehouses_that_the_erp_tells_of(till):
    """Another ERP may have the others; one that was never read is told of all."""
    await till.connect(REST)
    await till.sync(REST)
    stock, tenant = till.shop.stock, till.tenant
    await stock.receive(tenant, "A", 5, warehouse="DEPOT")
    await stock.take_back(tenant, "A", 1, warehouse="DEPOT")
    await till.sell("A", 2)
    assert (await till.push(REST)).booked == 1
    till.rest.received("A", "6", "02")
    await till.sync(REST)
    await stock.take_back(tenant, "A", 1, warehouse="DEPOT")
    await till.push(REST)  # the last hour's of that warehouse, too
    assert [till.rest.figures()["A", place][0] for place in PLACES] == [18, 8]


async def test_figures_of_all_warehouses_together_are_those_of_the_first(till):
    await till.connect(stock="totals")
    await till.shop.stock.take_back(till.tenant, "A", 1, warehouse="DEPOT")
    await till.sell("A", 2)
    await till.push()
    (document,) = till.sap.documents[EXITS]
    assert "WarehouseCode" not in document["DocumentLines"][0]
    assert till.sap.documents[ENTRIES] == []


# -- how they are found -----------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [OVERLAP, timedelta(0)])
async def test_a_sale_that_commits_late_is_found(till, monkeypatch, overlap):
    """Its id and time are older than those of sales that were pushed before it could be seen.

    Negative control: without the overlap it would be lost.
    """
    monkeypatch.setattr("cerniq_stock.sync.push.OVERLAP", overlap)
    await till.connect()
    await till.sell("A", 1)
    slow = await connect(till.shop.stock.dsn, settings={"app.tenant": str(till.tenant)})
    copy = (
        "INSERT INTO stock_movements (tenant_id, id, product_id, warehouse, sku, type, total_delta,"
        " reserved_delta, blocked_delta, previous_available, sequence, created_at)"
        " SELECT tenant_id, new_ulid(), product_id, warehouse, sku, 'SALE', -2, 0, 0, 19,"
        " sequence + 1, now() FROM stock_movements WHERE type = 'SALE'"
    )
    try:
        async with slow.transaction():
            await slow.execute(copy)
            await till.sell("B", 1)
            assert (await till.push()).booked == 2
        assert (await till.push()).booked == bool(overlap)
    finally:
        await slow.close()
    assert till.booked() == [{"A": 1, "B": 1}, {"A": 2}][: 1 + bool(overlap)]


async def test_what_was_looked_through_long_ago_is_not_looked_through_again(till, superuser):
    await till.connect()
    since = "SELECT lower(push_times) FROM erp_integrations WHERE erp_system = 'SAP_B1'"
    began = await superuser.fetchval(since)
    await till.push()
    assert await superuser.fetchval(since) == began, "within the overlap"
    await superuser.execute(
        "UPDATE erp_integrations SET push_times = tstzmultirange(tstzrange($1, NULL))",
        began - 3 * OVERLAP,
    )
    await till.push()
    cut = await superuser.fetchval(since)
    assert began - OVERLAP <= cut < began - OVERLAP + timedelta(minutes=5)


async def test_each_sale_is_looked_up_by_its_key(till):
    """Where nobody knows yet how many rows there are, a join would read them all for each sale."""
    settings = {**KEY_LOOKUPS, "app.tenant": str(till.tenant)}
    connection = await connect(till.shop.stock.dsn, settings=settings)
    given = till.tenant, uuid4(), "", datetime.now(UTC), ["MAIN"], 100
    rows = await connection.fetch(f"EXPLAIN {SQL['unpushed_sales']}", *given)
    await connection.close()
    plan = "\n".join(row[0] for row in rows)
    assert re.search(r"using erp_pushes_pkey.*\n.*Index Cond.*movement_id = ", plan), plan
    assert not re.search(r"Seq Scan|Sort \(|Join", plan), plan


# -- by a worker ------------------------------------------------------------------------------


async def test_the_job_from_the_schedule_to_the_document(till):
    """And one that the tenant has not, or has switched off, says so and is not tried again."""
    await till.connect()
    await till.connect(REST, on=False)
    await till.sell("A", 2)
    queue = PostgresQueue(till.app)
    scheduler, rates = Scheduler(till.operator, queue), Rates(till.operator, {}, {})
    worker = Worker(till.operator, till.shop.stock, till.syncs, scheduler.fan_out, rates, Metrics())
    assert await scheduler.fan_out("scheduled-erp-push", datetime.now(UTC)) == 1
    others = [
        NewJob(name="stock:push:erp", payload={"tenantId": str(till.tenant), "erpSystem": system})
        for system in (REST, "OBLIO")
    ]
    ids = await queue.add(till.tenant, others)
    task = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(60):
            while any(job.finished_at is None for job in await queue.jobs(till.tenant)):  # noqa: ASYNC110 - it is there, and nobody tells
                await asyncio.sleep(0.02)
    finally:
        worker.stop()
        await task
    jobs = {job.id: job for job in await queue.jobs(till.tenant)}
    off, unknown = (jobs.pop(id_) for id_ in ids)
    assert (off.attempts, unknown.attempts) == (1, 1)
    assert off.error.startswith("INVALID_INPUT: Sales are not pushed to CUSTOM_API")
    assert unknown.error.startswith("NOT_CONFIGURED")
    (done,) = jobs.values()
    told = {name: done.result[name] for name in ("success", "booked", "refused", "waiting", "more")}
    assert told == {"success": True, "booked": 1, "refused": 0, "waiting": 0, "more": False}
    assert done.result["documents"] == ["7001"]


# -- tenants, and the way back ----------------------------------------------------------------


async def test_a_tenants_sales_are_its_own(till):
    await till.connect()
    stock, other = till.shop.stock, uuid4()
    await stock.create_tenant(NewTenant("Other", id=other))
    await stock.import_products(other, [NewProduct("A", "A")])
    await stock.receive(other, "A", 9)
    await till.integrations.add(
        other, SAP, name="x", config=till.config(SAP), options={"push": True}
    )
    await till.sell("A", 4, other)
    await till.sell("B", 2)
    assert (await till.push()).booked == 1
    assert till.booked() == [{"B": 2}]
    assert await till.pushes.listed(other, SAP) == ()
    (row,) = await till.pushes.listed(till.tenant, SAP)
    with pytest.raises(NotFoundError):
        await till.pushes.again(other, SAP, [row.movement_id])


@pytest.mark.parametrize("system", [SAP, REST])
async def test_what_was_pushed_comes_back_as_its_posting(till, system):
    """No conflict, nothing taken twice: the ERP's figure falls by what was sold here."""
    await till.connect(system)
    await till.sync(system)
    await till.sell("A", 3)
    await till.sell("A", 1)
    between = await till.sync(system)  # it has not heard of them yet
    assert (await till.shop.levels())["A@MAIN"] == "16 0 0"
    await till.push(system)
    after = await till.sync(system)
    for result in (between, after):
        assert (result.conflicts, result.errors, result.changes) == ((), (), ())
    assert (await till.shop.levels())["A@MAIN"] == "16 0 0"
    await till.shop.stock.take_back(till.tenant, "A", 2)
    await till.push(system)
    assert (await till.sync(system)).changes == ()
    assert (await till.shop.levels())["A@MAIN"] == "18 0 0"
    assert (await till.shop.stock.verify()).ok
