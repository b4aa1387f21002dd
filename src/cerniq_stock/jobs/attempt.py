"""One attempt of a job, whatever transport brought it: check, run in time, say how it ended."""

import asyncio
import logging
import time
import traceback
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from pydantic import BaseModel, ValidationError

from cerniq_stock import validate
from cerniq_stock.errors import CerniqError, InvalidInputError, NotFoundError
from cerniq_stock.jobs.catalogue import Kind
from cerniq_stock.jobs.handlers import NotConfiguredError, Running, document
from cerniq_stock.jobs.payloads import ReserveCreate, problem
from cerniq_stock.jobs.port import PLATFORM
from cerniq_stock.logs import CONTEXT

if TYPE_CHECKING:
    from cerniq_stock.jobs.metrics import Metrics

log = structlog.get_logger("cerniq_stock.jobs")
_heard = logging.getLogger("cerniq_stock.jobs").isEnabledFor
"""Asked before a line is made: structlog drops it late, after a tenth of its cost."""

_FOR_GOOD = (InvalidInputError, NotFoundError, NotConfiguredError)
"""Trying again would end the same way."""


@dataclass(frozen=True, slots=True)
class Done:
    """The job has its result."""

    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed. `for_good`: no other attempt would do better.

    `code` is one of few words, that it can be a label (`error_type`, §2.5); `error` says it all.
    Before `wait_s` seconds have passed another attempt would be refused: who failed us has said so.
    """

    error: str
    traceback: str | None
    for_good: bool
    code: str = CerniqError.code
    wait_s: float = 0.0


Outcome = Done | Failed

MOST_TEXT = 20_000
LONGEST_WAIT_S = 3_600.0
"""However long somebody wishes to be left alone."""
ANY_ROOM = nullcontext()


def kept(text: str | None) -> str | None:
    """What is kept of a text that somebody else wrote: as far as it can be stored, and no more."""
    return None if text is None else validate.storable(text[:MOST_TEXT])


async def attempt(
    kind: Kind,
    running: Running,
    payload: Any,
    *,
    trace_id: str | None,
    metrics: "Metrics",
    room: AbstractAsyncContextManager[Any] = ANY_ROOM,
) -> Outcome:
    """Run a job once, within its time, in a task of its own. Raises nothing but cancellation.

    Only the handler itself runs in `room`: what comes before and after need not wait for it.
    """
    CONTEXT.set(
        {
            "job": kind.name,
            "job_id": running.job_id,
            "tenant_id": str(running.tenant_id),
            "trace_id": trace_id or running.job_id,
        }
    )
    asked = _read(kind, running.tenant_id, payload)
    took_s = 0.0
    if isinstance(asked, Failed):
        outcome: Outcome = asked
    else:
        async with room:
            started = time.perf_counter()
            if _heard(logging.INFO):
                log.info("job started", **_asked_figures(running, asked))
            answer = await _answer(kind, running, asked)
            took_s = time.perf_counter() - started
        outcome = answer if isinstance(answer, Failed) else Done(document(answer))
    metrics.attempted(running.tenant_id, kind.name, outcome, took_s, asked)
    _tell(outcome, took_s)
    return outcome


def _read(kind: Kind, tenant_id: UUID, payload: Any) -> BaseModel | Failed:
    try:
        asked = kind.payload.model_validate(payload)
    except ValidationError as error:
        return _failed("INVALID_PAYLOAD", problem(error), for_good=True)
    if getattr(asked, "tenant_id", PLATFORM) != tenant_id:
        return _failed("INVALID_PAYLOAD", "tenantId is not the job's", for_good=True)
    return asked


async def _answer(kind: Kind, running: Running, asked: BaseModel) -> Any:
    """What the handler says, or how it failed."""
    limit = asyncio.timeout(kind.timeout_s)
    try:
        async with limit:
            return await kind.handler(running, asked)
    except _FOR_GOOD as error:
        return _failed(_code(error), str(error), for_good=True)
    except Exception as error:  # noqa: BLE001 - whatever it is, the job has failed
        if isinstance(error, TimeoutError) and limit.expired():
            return _failed("TIMEOUT", f"took longer than {kind.timeout_s:g} s")
        return replace(
            _failed(_code(error), str(error), for_good=getattr(error, "retryable", True) is False),
            traceback=traceback.format_exc(limit=-20),
            wait_s=min(getattr(error, "retry_after_s", None) or 0.0, LONGEST_WAIT_S),
        )


def _failed(code: str, says: str, *, for_good: bool = False) -> Failed:
    return Failed(f"{code}: {says}", None, for_good, code)


def _code(error: Exception) -> str:
    """Name the trouble: errors of the code are few, whatever they say."""
    if isinstance(error, CerniqError):
        return error.code
    if isinstance(error, NotConfiguredError):
        return "NOT_CONFIGURED"
    return type(error).__name__


_ASKED = (
    "negotiation_id",
    "reservation_id",
    "order_id",
    "reason",
    "erp_system",
    "sync_type",
    "schedule",
)
"""What the specification's lines say at the start of a job (§2.5, §3.5, §4.5)."""
MOST_LOGGED = 100
"""Characters: what travels may be of any length, and was not checked by the engine yet."""


def _asked_figures(running: Running, asked: BaseModel) -> dict[str, Any]:
    said = [(name, getattr(asked, name, None)) for name in _ASKED]
    figures: dict[str, Any] = {
        name: str(value)[:MOST_LOGGED] for name, value in said if value is not None
    }
    if isinstance(asked, ReserveCreate):
        figures["items_count"] = len(asked.items)
        figures["reservation_key"] = running.key(asked.reservation_key)[:MOST_LOGGED]
    return figures


def _tell(outcome: Outcome, took_s: float) -> None:
    duration_ms = round(took_s * 1_000, 1)
    match outcome:
        case Done(result) if _heard(logging.INFO):
            log.info("job done", duration_ms=duration_ms, **_figures(result))
        case Failed(error=error, for_good=for_good):
            log.warning("job failed", duration_ms=duration_ms, error=error, for_good=for_good)


_LOGGED = {
    "reservationId": "reservation_id",
    "orderId": "order_id",
    "status": "status",
    "newStatus": "new_status",
    "totalReserved": "total_reserved",
    "totalRequested": "total_requested",
    "totalReleased": "total_released",
    "reason": "reason",
    "quantity": "quantity",
    "expired": "expired",
    "added": "added",
}
"""The figures of the specification's log lines, by their name in a result."""


def _figures(result: dict[str, Any]) -> dict[str, Any]:
    figures = {ours: result[name] for name, ours in _LOGGED.items() if name in result}
    if "items" in result:
        figures["items_count"] = len(result["items"])
    return figures
