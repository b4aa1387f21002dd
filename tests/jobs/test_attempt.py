"""What a worker says of an attempt, and what it costs when nobody listens."""

import logging
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
import structlog
from structlog.testing import LogCapture

from cerniq_stock.erp.trouble import RateLimitedError, UnreachableError
from cerniq_stock.errors import OverloadedError
from cerniq_stock.jobs import attempt as attempts
from cerniq_stock.jobs import catalogue
from cerniq_stock.jobs.attempt import Failed, Outcome, attempt
from cerniq_stock.jobs.catalogue import Handler
from cerniq_stock.jobs.handlers import Running
from cerniq_stock.jobs.metrics import Metrics

TENANT, NEGOTIATION, ORDER = uuid4(), uuid4(), uuid4()


@pytest.fixture
def said(monkeypatch, caplog):
    """Run a job that does nothing; returns all lines of a worker at its usual level."""
    lines = LogCapture()
    # whatever else has configured, and cached, in this process
    every = structlog.make_filtering_bound_logger(logging.NOTSET)
    log = structlog.wrap_logger(None, processors=[lines], wrapper_class=every)
    monkeypatch.setattr(attempts, "log", log)
    caplog.set_level(logging.INFO, logger="cerniq_stock.jobs")

    async def run(name: str, **payload: Any) -> list[Any]:
        lines.entries.clear()
        await _run(name, payload)
        return list(lines.entries)

    return run


async def nothing(*_: Any) -> Any:
    return {}


async def _run(name: str, payload: dict[str, Any], handler: Handler = nothing) -> Outcome:
    kind = replace(catalogue.CATALOGUE[name], handler=handler)
    nobody: Any = None
    running = Running(TENANT, "job-1", "job_job-1", nobody, nothing, nothing, nobody)
    asked = {"tenantId": str(TENANT), **payload}
    return await attempt(kind, running, asked, trace_id=None, metrics=Metrics())


def started(**figures: Any) -> dict[str, Any]:
    return {"event": "job started", "log_level": "info", **figures}


@pytest.mark.parametrize(("given", "key"), [({}, "job_job-1"), ({"reservationKey": "k"}, "k")])
async def test_a_reservations_first_line_has_the_specifications_figures(said, given, key):
    items = [{"sku": sku, "quantity": 1} for sku in "AB"]
    lines = await said("stock:reserve:create", negotiationId=str(NEGOTIATION), items=items, **given)
    assert lines[0] == started(negotiation_id=str(NEGOTIATION), items_count=2, reservation_key=key)
    assert [line["event"] for line in lines] == ["job started", "job done"]


async def test_so_have_those_of_releases_and_of_the_others(said):
    release = "stock:reserve:release"
    lines = await said(release, reservationId="r", reason="DEAD")
    assert lines[0] == started(reservation_id="r", reason="DEAD")
    lines = await said(release, negotiationId=str(NEGOTIATION), reason="MANUAL")
    assert lines[0] == started(negotiation_id=str(NEGOTIATION), reason="MANUAL")
    lines = await said("stock:deduct:delivered", orderId=str(ORDER))
    assert lines[0] == started(order_id=str(ORDER))
    lines = await said("stock:sync:erp", erpSystem="SAGA", syncType="FULL")
    assert lines[0] == started(erp_system="SAGA", sync_type="FULL")
    assert (await said("stock:reserve:check-expired"))[0] == started()


@pytest.mark.parametrize(
    ("error", "wait_s"),
    [
        (RateLimitedError("x", retry_after_s=600), 600),
        (UnreachableError("x", retry_after_s=1e9), 3_600),
        (RateLimitedError("x"), 0),
        (OverloadedError(9, 0.5), 0.5),
        (RuntimeError("x"), 0),
    ],
)
async def test_whoever_fails_may_say_for_how_long_but_an_hour_at_most(error, wait_s):
    async def fails(*_: Any) -> Any:
        raise error

    outcome = await _run("stock:sync:erp", {"erpSystem": "SAGA"}, fails)
    assert isinstance(outcome, Failed)
    assert (outcome.wait_s, outcome.for_good) == (wait_s, False)
    assert "in fails" in (outcome.traceback or "")


async def test_a_line_is_no_longer_than_it_should_be(said):
    lines = await said("stock:reserve:release", reservationId="r" * 10_000, reason="DEAD")
    assert lines[0]["reservation_id"] == "r" * attempts.MOST_LOGGED


async def test_what_cannot_be_read_was_not_started(said):
    lines = await said("stock:reserve:release", reason="nobody's")
    assert [line["event"] for line in lines] == ["job failed"]


async def test_nothing_is_gathered_for_a_line_that_nobody_hears(said, caplog, monkeypatch):
    def gather(*_: Any) -> Any:
        raise AssertionError

    caplog.set_level(logging.WARNING, logger="cerniq_stock.jobs")
    monkeypatch.setattr(attempts, "_asked_figures", gather)
    lines = await said("stock:reserve:release", reservationId="r", reason="DEAD")
    assert lines == []
