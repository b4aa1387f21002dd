"""What is counted of attempts, and under which labels: few, whatever comes in."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from cerniq_stock.errors import OverloadedError, UnavailableError
from cerniq_stock.jobs import catalogue
from cerniq_stock.jobs.attempt import Done, Failed, Outcome, attempt
from cerniq_stock.jobs.handlers import NotConfiguredError, Running
from cerniq_stock.jobs.metrics import Metrics

TENANT = uuid4()
WORD = "one-of-many-words"
RESERVE = {
    "tenantId": str(TENANT),
    "negotiationId": str(uuid4()),
    "items": [{"sku": "A", "quantity": 1}],
}
RELEASE = {"tenantId": str(TENANT), "reservationId": "r", "reason": "MANUAL"}
SYNC = {"tenantId": str(TENANT), "erpSystem": "SAGA"}
OBLIO = {"tenantId": str(TENANT)}


async def run(
    metrics: Metrics, name: str, payload: Any, does: Any = None, **changed: Any
) -> Outcome:
    """Attempt a job whose handler does so: raises an error, or returns a result."""

    async def handler(running: Running, asked: Any) -> Any:
        if isinstance(does, Exception):
            raise does
        return does

    async def nothing(*_: Any) -> Any:
        return None

    kind = replace(catalogue.CATALOGUE[name], handler=handler)
    kind = replace(kind, **changed)
    nobody: Any = None
    running = Running(TENANT, "job-1", "key-1", nobody, nothing, nothing, nobody)
    return await attempt(kind, running, payload, trace_id=None, metrics=metrics)


def series(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """All series of a name, by their labels' values."""
    return {
        tuple(sample.labels.values()): sample.value
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.name == name
    }


@pytest.mark.parametrize(
    ("name", "payload", "counter"),
    [
        ("stock:reserve:create", RESERVE, "stock_reservations_failed_total"),
        ("stock:reserve:release", RELEASE, "stock_releases_failed_total"),
        ("stock:sync:erp", SYNC, "stock_sync_failed_total"),
        ("stock:sync:oblio", OBLIO, "stock_sync_failed_total"),
    ],
)
async def test_failures_are_counted_by_their_code(name, payload, counter):
    metrics = Metrics()
    for said in ("a", "b"):
        for error in (
            UnavailableError(said),
            NotConfiguredError(said),
            KeyError(said),
            # not the worker's: its own time was not over
            TimeoutError(said),
        ):
            await run(metrics, name, payload, error)
    await run(metrics, name, payload, OverloadedError(7, 0.5))
    await run(metrics, name, {"tenantId": WORD})
    await run(metrics, name, {**payload, "tenantId": str(uuid4())})
    assert series(metrics, counter) == {
        ("UNAVAILABLE",): 2,
        ("NOT_CONFIGURED",): 2,
        ("KeyError",): 2,
        ("TimeoutError",): 2,
        ("OVERLOADED",): 1,
        ("INVALID_PAYLOAD",): 2,
    }


async def test_what_took_too_long_has_a_code_of_its_own():
    async def hangs(running: Running, asked: Any) -> Any:
        await asyncio.Event().wait()

    metrics = Metrics()
    limits = {"handler": hangs, "timeout_s": 0.02}
    outcome = await run(metrics, "stock:reserve:create", RESERVE, **limits)
    assert outcome == Failed(
        "TIMEOUT: took longer than 0.02 s", None, for_good=False, code="TIMEOUT"
    )
    assert series(metrics, "stock_reservations_failed_total") == {("TIMEOUT",): 1}


async def test_an_errors_sentence_begins_with_its_code():
    for error in (UnavailableError("x"), NotConfiguredError("x"), RuntimeError("x")):
        outcome = await run(Metrics(), "stock:reserve:create", RESERVE, error)
        assert isinstance(outcome, Failed)
        assert outcome.error == f"{outcome.code}: x"


async def test_labels_are_of_what_was_read_not_of_what_came():
    metrics = Metrics()
    done = {"status": "ACTIVE"}
    for type_ in ("SOFT", "HARD", None, ""):
        await run(metrics, "stock:reserve:create", {**RESERVE, "reservationType": type_}, done)
    for payload in (WORD, [WORD], None, {**RESERVE, "reservationType": WORD}):
        await run(metrics, "stock:reserve:create", payload, done)
    assert series(metrics, "stock_reservations_created_total") == {
        ("ACTIVE", "SOFT"): 3,
        ("ACTIVE", "HARD"): 1,
    }
    for reason in ("MANUAL", "DEAD", WORD):
        await run(metrics, "stock:reserve:release", {**RELEASE, "reason": reason}, {})
    assert series(metrics, "stock_releases_total") == {("MANUAL",): 1, ("DEAD",): 1}


def test_no_raw_payload_becomes_a_label():
    # whoever hands over what came, and not what was read of it, makes no series
    metrics = Metrics()
    raw: Any = {"reservationType": WORD, "reason": WORD}
    for name in ("stock:reserve:create", "stock:reserve:release"):
        metrics.attempted(UUID(int=1), name, Done({"status": "ACTIVE"}), 0.1, raw)
    labels = [
        value
        for metric in metrics.registry.collect()
        for sample in metric.samples
        for value in sample.labels.values()
    ]
    assert labels
    assert WORD not in labels


@pytest.mark.parametrize(("took_s", "at_most"), [(11, 30), (45, 60), (119, 120)])
def test_how_long_slow_jobs_take_can_be_told_apart(took_s, at_most):
    metrics = Metrics()
    name = "stock:reserve:check-expired"
    asked = catalogue.CATALOGUE[name].payload(tenantId=TENANT)
    metrics.attempted(TENANT, name, Done({}), took_s, asked)
    found = series(metrics, "stock_job_duration_seconds_bucket")
    assert min(float(le) for (_, le), count in found.items() if count) == at_most
    longest = max(kind.timeout_s for kind in catalogue.CATALOGUE.values())
    assert max(float(le) for _, le in found if le != "+Inf") >= longest


@pytest.mark.parametrize(
    ("name", "payload", "counted", "failed"),
    [
        (
            "stock:reserve:create",
            RESERVE,
            "stock_reservations_created_total",
            "stock_reservations_failed_total",
        ),
        ("stock:reserve:release", RELEASE, "stock_releases_total", "stock_releases_failed_total"),
    ],
)
async def test_what_is_refused_was_not_done(name, payload, counted, failed):
    metrics = Metrics()
    refusal = {"success": False, "code": "NEGOTIATION_CLOSED", "message": "Cannot reserve"}
    await run(metrics, name, payload, refusal)
    assert series(metrics, counted) == {}
    assert series(metrics, failed) == {("NEGOTIATION_CLOSED",): 1}
