"""What becomes of jobs: results, attempts, timeouts, turns, limits, workers that die."""

import asyncio
import time
from dataclasses import replace
from uuid import uuid4

import pytest
from prometheus_client import generate_latest

from cerniq_stock.domain.commands import Item
from cerniq_stock.errors import InvalidInputError, UnavailableError
from cerniq_stock.jobs import catalogue
from cerniq_stock.jobs.attempt import Done
from cerniq_stock.jobs.handlers import Running
from cerniq_stock.jobs.metrics import Metrics
from cerniq_stock.jobs.payloads import CheckExpired
from cerniq_stock.jobs.port import JobState, NewJob


async def test_the_seven_jobs_of_the_specification(town):
    order = uuid4()
    stock, tenant = town.stock, town.tenant
    await stock.create_order(tenant, order, _items("A=5", "B=2"))
    async with town.working():
        (id_,) = await town.add(town.reserve(quantity=2))
        (held,) = await town.ended(id_)
        assert held.result["status"] == "ACTIVE"
        assert held.result["items"][0]["reservedQuantity"] == 2
        reservation = held.result["reservationId"]
        release = town.job("stock:reserve:release", reservationId=reservation, reason="CANCELLED")
        (id_,) = await town.add(release)
        (freed,) = await town.ended(id_)
        assert (freed.result["newStatus"], freed.result["totalReleased"]) == ("RELEASED", 2)

        async def of_order(name, **payload):
            (id_,) = await town.add(town.job(name, orderId=str(order), **payload))
            (job,) = await town.ended(id_)
            return job.result

        assert (await of_order("stock:reserve:order"))["reserved"] is True
        part = {"items": [{"sku": "A", "quantity": 3}], "deliveryId": "d1"}
        for _ in range(2):
            told = await of_order("stock:deduct:delivered", **part)
            assert (told["status"], told["quantity"]) == ("PARTLY_DELIVERED", 3)
        told = await of_order("stock:release:order")
        assert (told["status"], told["quantity"]) == ("DELIVERED", 4)
        again = await of_order("stock:release:order")
        assert again["warnings"]
        short = uuid4()
        await stock.create_order(tenant, short, _items("A=99", "B=99"))
        (id_,) = await town.add(town.job("stock:reserve:order", orderId=str(short)))
        (job,) = await town.ended(id_)
        assert job.state == JobState.COMPLETED
        assert job.result["reserved"] is False
        assert [error["sku"] for error in job.result["errors"]] == ["A", "B"]
        for name, of in (("stock:sync:erp", {"erpSystem": "SAGA"}), ("stock:sync:oblio", {})):
            (id_,) = await town.add(town.job(name, **of))
            (job,) = await town.ended(id_)
            assert job.error.startswith("NOT_CONFIGURED")
    assert (await stock.verify()).ok


def _items(*lines):
    return [Item(sku, int(n)) for sku, _, n in (line.partition("=") for line in lines)]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({}, "negotiationId: Field required"),
        ({"negotiationId": "x", "items": []}, "negotiationId: Input should be a valid UUID"),
        ({"negotiationId": str(uuid4()), "items": []}, "items: Tuple should have at least 1"),
        (
            {"negotiationId": str(uuid4()), "items": [{"sku": "A", "quantity": "many"}]},
            "items.0.quantity: Input should be a valid decimal",
        ),
        (
            {
                "negotiationId": str(uuid4()),
                "items": [{"sku": "A", "quantity": 1}],
                "tenantId": str(uuid4()),
            },
            "tenantId is not the job's",
        ),
    ],
)
async def test_a_bad_payload_fails_at_once_and_says_why(town, payload, reason):
    job = NewJob(name="stock:reserve:create", payload={"tenantId": str(town.tenant), **payload})
    async with town.working():
        (id_,) = await town.add(job)
        (job,) = await town.ended(id_)
    assert (job.state, job.attempts) == ("FAILED", 1)
    assert job.error.startswith("INVALID_PAYLOAD: ")
    assert reason in job.error


async def test_what_the_engine_refuses_to_read_fails_at_once(town):
    async with town.working():
        (id_,) = await town.add(town.reserve(quantity=1.0005))
        (job,) = await town.ended(id_)
    assert (job.state, job.attempts) == ("FAILED", 1)
    assert "more than three decimal places" in job.error


async def test_trouble_is_tried_again_later_and_later(town, handle):
    at = []

    async def fails_twice(running: Running, _):
        at.append(time.monotonic())
        if len(at) < 3:
            raise UnavailableError("not now")
        return {"tried": len(at)}

    handle(handler=fails_twice, backoff_s=0.2)
    async with town.working():
        (id_,) = await town.add(town.reserve())
        (job,) = await town.ended(id_)
    assert (job.state, job.attempts, job.result) == ("COMPLETED", 3, {"tried": 3})
    first, second = at[1] - at[0], at[2] - at[1]
    assert first >= 0.2
    assert second >= 0.4


async def test_what_fails_to_the_end_keeps_its_error_and_traceback(town, handle):
    async def fails(running: Running, _):
        raise RuntimeError("broken beyond repair")

    handle(handler=fails, backoff_s=0.01)
    async with town.working():
        (id_,) = await town.add(town.reserve())
        (job,) = await town.ended(id_)
    assert (job.state, job.attempts) == ("FAILED", 3)
    assert job.error == "RuntimeError: broken beyond repair"
    assert "in fails" in job.traceback


async def test_a_handler_that_hangs_is_stopped(town, handle):
    async def hangs(running: Running, _):
        await asyncio.Event().wait()

    handle(handler=hangs, timeout_s=0.05, attempts=2, backoff_s=0.01)
    async with town.working():
        (id_,) = await town.add(town.reserve())
        (job,) = await town.ended(id_)
    assert (job.state, job.attempts) == ("FAILED", 2)
    assert job.error == "TIMEOUT: took longer than 0.05 s"


async def test_progress_is_shown_while_it_runs(town, handle):
    go = asyncio.Event()

    async def works(running: Running, _):
        await running.progress({"done": 1, "of": 2})
        await go.wait()
        return {}

    handle(handler=works)
    async with town.working():
        (id_,) = await town.add(town.reserve())

        async def reported():
            job = await town.look(id_)
            return job.progress == {"done": 1, "of": 2} and job.state == JobState.ACTIVE

        await town.until(reported)
        assert not await town.queue.cancel(town.tenant, id_)
        go.set()
        await town.ended(id_)


async def test_two_workers_share_and_each_effect_is_once(town):
    async with town.working(), town.working():
        ids = await town.add(*[town.reserve() for _ in range(40)])
        await town.ended(*ids)
    assert await town.available("A") == 10


async def test_a_job_that_lost_its_ticket_gets_another(town):
    ids = await town.add(town.reserve(), town.reserve())
    await town.operator.execute("DELETE FROM cerniq_queue.pgqueuer")
    assert await town.upkeep().replace_lost() == 2
    assert await town.upkeep().replace_lost() == 0
    async with town.working():
        await town.ended(*ids)


async def test_finished_jobs_are_forgotten_by_count_and_by_age(town, superuser, monkeypatch):
    kept = catalogue.Retention(completed_count=3)
    kind = replace(catalogue.CATALOGUE["stock:reserve:create"], retention=kept)
    monkeypatch.setitem(catalogue.CATALOGUE, kind.name, kind)
    async with town.working():
        ids = await town.add(*[town.reserve() for _ in range(5)], town.job("stock:sync:oblio"))
        await town.ended(*ids)
    upkeep = town.upkeep()
    await upkeep.prune()
    states = [job.state for job in await town.queue.jobs(town.tenant)]
    assert sorted(states) == ["COMPLETED"] * 3 + ["FAILED"]
    await superuser.execute("UPDATE jobs SET finished_at = finished_at - interval '25 hours'")
    await upkeep.prune()
    assert [job.state for job in await town.queue.jobs(town.tenant)] == ["FAILED"]
    await superuser.execute("UPDATE jobs SET finished_at = finished_at - interval '7 days'")
    await upkeep.prune()
    assert await town.queue.jobs(town.tenant) == ()


async def test_the_database_goes_away_and_comes_back(town, superuser):
    async with town.working():
        ids = await town.add(*[town.reserve() for _ in range(10)])
        await superuser.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        # a producer is told, and repeats with the same ids
        more = [town.reserve(id=f"more{n}") for n in range(10)]
        while True:
            try:
                ids += await town.add(*more)
                jobs = await town.ended(*ids)
                break
            except UnavailableError:
                continue
    assert {job.state for job in jobs} == {"COMPLETED"}
    assert await town.available("A") == 30
    assert (await town.stock.verify()).ok


async def test_metrics_have_the_specifications_names(town):
    async with town.working():
        bad = town.reserve(quantity="x"), town.job("stock:sync:oblio")
        ids = await town.add(town.reserve(), *bad)
        await town.ended(*ids)
        await town.add(town.reserve(delay_s=60))
        await town.upkeep().look()
    found = {
        sample.name: sample.value
        for metric in town.metrics.registry.collect()
        for sample in metric.samples
        if sample.labels in ({}, {"status": "ACTIVE", "type": "SOFT"})
        or sample.labels.get("error_type") in {"INVALID_PAYLOAD", "NOT_CONFIGURED"}
        or sample.labels == {"job": "stock:reserve:create", "state": "DELAYED"}
    }
    assert found["stock_reservations_created_total"] == 1
    assert found["stock_reservations_failed_total"] == 1
    assert found["stock_reservation_duration_seconds_count"] == 2
    assert found["stock_sync_failed_total"] == 1
    assert found["stock_queue_depth"] == 1
    assert found["stock_expiry_lag_seconds"] == 0


def test_a_series_of_each_tenant_by_setting_only():
    tenant = uuid4()
    for label in (False, True):
        metrics = Metrics(tenant_label=label)
        outcome = Done({"status": "ACTIVE"})
        asked = CheckExpired(tenantId=tenant)
        metrics.attempted(tenant, "stock:reserve:check-expired", outcome, 0.1, asked)
        text = generate_latest(metrics.registry).decode()
        assert (f'tenant="{tenant}"' in text) is label


@pytest.mark.parametrize("result", [{"x": float("nan")}, {"x": object()}, {"x": "a\0b"}])
async def test_a_result_that_cannot_be_stored_fails_its_job_alone(town, handle, result):
    async def odd(running: Running, asked):
        return result if asked.metadata.notes == "odd" else {}

    handle(handler=odd)
    bad = town.reserve()
    bad.payload["metadata"] = {"notes": "odd"}
    async with town.working():
        ids = await town.add(bad, *[town.reserve() for _ in range(5)])
        first, *others = await town.ended(*ids)
    assert first.state == JobState.FAILED
    assert first.error.startswith("RESULT_NOT_STORED: ")
    assert {job.state for job in others} == {"COMPLETED"}


async def test_ends_are_stored_when_the_table_is_free_again(town, superuser, monkeypatch):
    async with town.working():
        ids = await town.add(town.reserve())
        async with superuser.transaction():
            await superuser.execute("LOCK TABLE jobs IN SHARE MODE")
            # longer than the worker waits for a lock
            await superuser.execute("SELECT pg_sleep(3.5)")
        ids += await town.add(town.reserve())
        jobs = await town.ended(*ids)
    assert {job.state for job in jobs} == {"COMPLETED"}


async def test_what_an_error_says_is_stored_as_far_as_it_can_be(town, handle):
    async def fails(running: Running, _):
        raise RuntimeError("a\0b \ud800" + "x" * 50_000)

    handle(handler=fails, attempts=1)
    async with town.working():
        (id_,) = await town.add(town.reserve())
        (job,) = await town.ended(id_)
    assert (job.state, job.attempts) == ("FAILED", 1)
    assert job.error.startswith(
        "RuntimeError: a\N{REPLACEMENT CHARACTER}b \N{REPLACEMENT CHARACTER}xxx"
    )


async def test_a_tenant_cannot_fan_out(town):
    job = NewJob(
        name="stock:schedule:dispatch",
        payload={"schedule": "daily-full-sync", "dueAt": "2026-01-01T00:00:00+00:00"},
    )
    with pytest.raises(InvalidInputError) as caught:
        await town.add(job)
    assert caught.value.field == "name"


async def test_two_orders_may_number_their_deliveries_alike(town):
    orders = [uuid4(), uuid4()]
    for order in orders:
        await town.stock.create_order(town.tenant, order, _items("A=2"))
    part = {"items": [{"sku": "A", "quantity": 1}], "deliveryId": "1"}
    async with town.working():
        ids = await town.add(
            *[town.job("stock:deduct:delivered", orderId=str(x), **part) for x in orders]
        )
        jobs = await town.ended(*ids)
    assert [job.result["quantity"] for job in jobs] == [1, 1]


async def test_one_id_is_of_one_kind(town):
    await town.add(town.reserve(id="one"))
    other = replace(town.job("stock:sync:oblio"), id="one")
    with pytest.raises(InvalidInputError) as caught:
        await town.add(other)
    assert caught.value.field == "jobId"


async def test_an_id_is_free_again_once_its_job_was_cancelled(town):
    await town.add(town.reserve(id="one", delay_s=60))
    assert await town.queue.cancel(town.tenant, "one")
    await town.add(town.reserve(id="one", quantity=3))
    async with town.working():
        await town.ended("one")
    assert await town.available("A") == 47


async def test_fields_that_say_nothing_are_as_good_as_left_out(town):
    job = town.reserve()
    empty = dict.fromkeys(("reservationKey", "priority", "reservationType", "expiresInHours"))
    job.payload.update(empty, metadata={"notes": "", "requestedBy": "", "channel": None})
    job.payload["items"][0]["unitOfMeasure"] = "BUC"
    async with town.working():
        (id_,) = await town.add(job)
        (job,) = await town.ended(id_)
    assert job.result["status"] == "ACTIVE"


async def test_a_lost_ticket_keeps_its_time(town):
    await town.add(town.reserve(id="late", delay_s=3600))
    await town.operator.execute("DELETE FROM cerniq_queue.pgqueuer")
    assert await town.upkeep().replace_lost() == 1
    assert (await town.look("late")).state == JobState.DELAYED


async def test_a_job_that_kills_its_workers_is_ended(town):
    (id_,) = await town.add(town.reserve())
    ticket = await town.operator.fetchval("SELECT id FROM cerniq_queue.pgqueuer")
    upkeep = town.upkeep()
    sql = (
        "INSERT INTO cerniq_queue.pgqueuer_log (job_id, status, entrypoint, priority)"
        " SELECT $1, 'picked', 'stock:reserve:create', 0 FROM generate_series(1, $2::int)"
    )
    await town.operator.execute(sql, ticket, 10)
    assert await upkeep.fail_poison() == 0
    await town.operator.execute(sql, ticket, 1)
    assert await upkeep.fail_poison() == 1
    job = await town.look(id_)
    assert (job.state, job.error[:7]) == ("FAILED", "STALLED")
    assert not await town.operator.fetchval("SELECT count(*) FROM cerniq_queue.pgqueuer")
