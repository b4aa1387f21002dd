"""Every kind of job in one place: what it takes, what runs it, how often it is tried (§2.1 … §8.1).

The names are the specification's; a transport may have to spell them differently on its wire.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from cerniq_stock.jobs import handlers
from cerniq_stock.jobs.handlers import Running
from cerniq_stock.jobs.payloads import (
    CheckExpired,
    Dispatch,
    OfOrder,
    PartsOfOrder,
    PushErp,
    RenewSubscription,
    ReserveCreate,
    ReserveRelease,
    SyncErp,
    SyncOblio,
)

HOUR_S = 3_600
DAY_S = 24 * HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long finished jobs can be looked at, and of those completed at most how many."""

    completed_s: float = DAY_S
    completed_count: int = 1_000
    failed_s: float = 7 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of job. `attempts` counts runs; between them `backoff_s` doubles each time.

    `concurrency` is a worker's, or, where it is `shared`, that of all workers together.
    """

    name: str
    payload: type[BaseModel]
    handler: "Handler"
    concurrency: int
    timeout_s: float
    attempts: int
    backoff_s: float
    retention: Retention = Retention()
    shared: bool = False
    platform_only: bool = False

    def retry_delay_s(self, failed_attempts: int, at_least_s: float = 0.0) -> float | None:
        """How long to wait after so many failed attempts; None: it has failed for good."""
        if failed_attempts >= self.attempts:
            return None
        return max(float(self.backoff_s * 2 ** (failed_attempts - 1)), at_least_s)


Handler = Callable[[Running, Any], Awaitable[Any]]


def _stock(name: str, payload: type[BaseModel], handler: Handler) -> Kind:
    """A job that people wait for (§2.1, §3.1)."""
    return Kind(
        name=name,
        payload=payload,
        handler=handler,
        concurrency=50,
        timeout_s=10,
        attempts=3,
        backoff_s=1,
    )


def _erp(name: str, payload: type[BaseModel], handler: Handler = handlers.sync) -> Kind:
    """A job that speaks with an ERP (§4.1, job 28)."""
    return Kind(
        name=name,
        payload=payload,
        handler=handler,
        concurrency=5,
        timeout_s=120,
        attempts=5,
        backoff_s=5,
        retention=Retention(completed_s=2 * DAY_S, completed_count=100),
        shared=True,
    )


def _tidying(name: str, payload: type[BaseModel], handler: Handler, *, concurrency: int) -> Kind:
    """A job of the schedules."""
    return Kind(
        name=name,
        payload=payload,
        handler=handler,
        concurrency=concurrency,
        timeout_s=120,
        attempts=5,
        backoff_s=1,
        shared=payload is Dispatch,
        platform_only=payload is Dispatch,
    )


_KINDS = (
    _stock("stock:reserve:create", ReserveCreate, handlers.reserve_create),
    _stock("stock:reserve:release", ReserveRelease, handlers.reserve_release),
    _erp("stock:sync:erp", SyncErp),
    _erp("stock:sync:oblio", SyncOblio),
    _erp("stock:push:erp", PushErp, handlers.push),
    _stock("stock:reserve:order", OfOrder, handlers.reserve_order),
    _stock("stock:release:order", PartsOfOrder, handlers.release_order),
    _stock("stock:deduct:delivered", PartsOfOrder, handlers.deduct_delivered),
    _tidying("stock:reserve:check-expired", CheckExpired, handlers.check_expired, concurrency=5),
    _tidying(
        "stock:subscriptions:renew", RenewSubscription, handlers.renew_subscription, concurrency=5
    ),
    _tidying("stock:schedule:dispatch", Dispatch, handlers.dispatch, concurrency=1),
)
CATALOGUE = {kind.name: kind for kind in _KINDS}
