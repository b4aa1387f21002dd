"""What each kind of job does: thin functions over the service.

Every effect has a key made of the job's id, so a job that runs again after its worker was killed
changes nothing and gets the first answer. A refusal is a result; trouble is raised and retried.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, Protocol
from uuid import UUID

from cerniq_stock.domain.outcomes import Refused, ReleaseResult, ReserveResult
from cerniq_stock.errors import NotFoundError
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
)
from cerniq_stock.service import Stock
from cerniq_stock.sync.push import PushResult
from cerniq_stock.sync.result import SyncResult
from cerniq_stock.sync.syncs import Syncs
from cerniq_stock.views import SubscriptionView
from cerniq_stock.wire import to_wire

Document = dict[str, Any]

PUSHING_S = 80.0
"""A job of pushes begins no document after that; the next one goes on."""


class NotConfiguredError(Exception):
    """There is nothing that this job could do; trying again would change nothing."""


class FanOut(Protocol):
    """Adds the jobs of a schedule that came due; returns how many."""

    async def __call__(self, schedule: str, due_at: datetime) -> int:
        """Each job's id tells what it is for, so doing it twice adds none."""
        ...


@dataclass(frozen=True, slots=True)
class Running:
    """One attempt of one job, and what it may use."""

    tenant_id: UUID
    job_id: str
    effect_key: str
    stock: Stock
    progress: Callable[[Any], Awaitable[None]]
    fan_out: FanOut
    syncs: Syncs

    def key(self, of: str | None = None) -> str:
        """The key of the job's effect: what the platform gave, else the job's own."""
        return of or self.effect_key


async def reserve_create(running: Running, asked: ReserveCreate) -> ReserveResult | Refused:
    """Hold goods for a negotiation; the result is §2.4's."""
    return await running.stock.reserve(
        asked.tenant_id,
        asked.negotiation_id,
        [item.item() for item in asked.items],
        type=asked.reservation_type,
        priority=asked.priority,
        expires_in_h=asked.expires_in_hours,
        replaces=asked.replaces,
        key=running.key(asked.reservation_key),
        requested_by=asked.metadata.requested_by,
        channel=asked.metadata.channel,
        notes=asked.metadata.notes,
    )


async def reserve_release(running: Running, asked: ReserveRelease) -> ReleaseResult | Refused:
    """Give back, or with CONSUMED sell; the result is §3.4's."""
    return await running.stock.release(
        asked.tenant_id,
        reservation_id=asked.reservation_id,
        # the reservation is the narrower of the two
        negotiation_id=None if asked.reservation_id else asked.negotiation_id,
        reason=asked.reason,
        items=asked.amounts(),
        key=running.key(),
        by=asked.released_by,
        notes=asked.notes,
    )


async def reserve_order(running: Running, asked: OfOrder) -> Document:
    """Hold all of an order, or nothing; `reserved` tells which (job 29)."""
    answer = await running.stock.reserve_order(
        asked.tenant_id,
        asked.order_id,
        key=running.key(),
        by=asked.requested_by,
        notes=asked.notes,
    )
    told = document(answer)
    return {"reserved": told["success"], **told}


async def release_order(running: Running, asked: PartsOfOrder) -> Document:
    """Cancel what is outstanding of an order (job 30)."""
    return document(
        await running.stock.release_order(
            asked.tenant_id,
            asked.order_id,
            asked.parts(),
            key=running.key(),
            by=asked.requested_by,
            notes=asked.notes,
        )
    )


async def deduct_delivered(running: Running, asked: PartsOfOrder) -> Document:
    """Sell what was delivered of an order (job 31)."""
    return document(
        await running.stock.deduct_order(
            asked.tenant_id,
            asked.order_id,
            asked.parts(),
            key=running.key(_delivery_key(asked)),
            by=asked.requested_by,
            notes=asked.notes,
        )
    )


async def check_expired(running: Running, asked: CheckExpired) -> Document:
    """Write down what has expired: the safety net below the sweep (READING 7)."""
    return {"expired": await running.stock.expire(asked.tenant_id)}


async def sync(running: Running, asked: SyncErp) -> SyncResult:
    """Bring the stock in line with an ERP; the result is §4.4's."""
    try:
        return await running.syncs.run(
            asked.tenant_id, asked.erp_system, asked.asked(), progress=running.progress
        )
    except NotFoundError:
        raise _not_configured(asked) from None


async def push(running: Running, asked: PushErp) -> PushResult:
    """Tell an ERP what was sold. What it does not take now is sent by a later job."""
    try:
        return await running.syncs.pushes.run(asked.tenant_id, asked.erp_system, most_s=PUSHING_S)
    except NotFoundError:
        raise _not_configured(asked) from None


def _not_configured(asked: SyncErp | PushErp) -> NotConfiguredError:
    of = f"Tenant {asked.tenant_id} has no integration with {asked.erp_system} configured"
    return NotConfiguredError(of)


async def renew_subscription(running: Running, asked: RenewSubscription) -> SubscriptionView:
    """Let an ERP go on telling of changes; what was gone is made anew."""
    try:
        return await running.syncs.subscriptions.renew(asked.tenant_id, asked.erp_system)
    except NotFoundError as error:
        raise NotConfiguredError(str(error)) from None


async def dispatch(running: Running, asked: Dispatch) -> Document:
    """Add the jobs of a schedule, one for each tenant or integration (READING 31)."""
    return {"added": await running.fan_out(asked.schedule, asked.due_at)}


def _delivery_key(asked: PartsOfOrder) -> str | None:
    """One for each delivery of each order, however its note is numbered."""
    if asked.delivery_id is None:
        return None
    named = f"{asked.order_id}/{asked.delivery_id}".encode()
    return f"del_{blake2b(named, digest_size=16).hexdigest()}"


def document(answer: Any) -> Document:
    """An answer as a job's result: what a handler has made ready is left as it is."""
    if isinstance(answer, dict):
        return answer
    told: Document = to_wire(answer)
    return {"success": False, **told} if isinstance(answer, Refused) else told
