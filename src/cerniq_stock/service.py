"""The use cases: the only door to the engine for every entrance.

Each call checks its input, hands one command to the writer or one question to the reads, and
returns the answer. Refusals come back as values; trouble is raised (`cerniq_stock.errors`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TypeVar, cast
from uuid import UUID

import asyncpg

from cerniq_stock import validate
from cerniq_stock.domain.commands import (
    Adjust,
    Count,
    Extend,
    Item,
    KeyedCommand,
    Quantity,
    Receive,
    Release,
    Reserve,
    Return,
    SetNegotiation,
)
from cerniq_stock.domain.model import Priority, ReleaseReason, ReservationType
from cerniq_stock.domain.outcomes import (
    ExtendResult,
    LevelResult,
    NegotiationResult,
    Refused,
    ReleaseResult,
    ReserveResult,
)
from cerniq_stock.errors import InvalidInputError, NotFoundError
from cerniq_stock.store import catalog, reads
from cerniq_stock.store.availability import AvailabilityReader
from cerniq_stock.store.catalog import NewProduct, NewTenant
from cerniq_stock.store.ids import new_id
from cerniq_stock.store.sweep import sweep_all
from cerniq_stock.store.verify import verify
from cerniq_stock.store.writer import Writer
from cerniq_stock.views import (
    Availability,
    Explanation,
    LevelView,
    MovementView,
    NotificationView,
    ProductView,
    Report,
    ReservationView,
    TenantView,
)

A = TypeVar("A")
Number = Decimal | int | str
Amounts = Mapping[str, Number] | Iterable[Quantity]


class Stock:
    """A handle on the engine; `cerniq_stock.open_stock()` makes one.

    Every call names the tenant first. `key` makes a call repeatable: the same key with the same
    payload changes nothing and returns the first answer; with another payload the call is refused
    with RESERVATION_EXISTS. Quantities are exact: int, Decimal or text, never float.

    Every call may raise InvalidInputError (nothing changed), OverloadedError (not taken, try
    later) or UnavailableError (outcome unknown: repeat with the same key).
    """

    def __init__(
        self,
        dsn: str,
        writer: Writer,
        availability: AvailabilityReader,
        app: asyncpg.Pool,
        operator: asyncpg.Pool,
    ) -> None:
        self.dsn = dsn
        self._writer = writer
        self._availability = availability
        self._app = app
        self._operator = operator

    # -- reservations -----------------------------------------------------------------------

    async def reserve(
        self,
        tenant_id: UUID,
        negotiation_id: UUID,
        items: Iterable[Item],
        *,
        type: ReservationType | str = ReservationType.SOFT,  # noqa: A002 - the specification's word
        priority: Priority | str = Priority.NORMAL,
        expires_in_h: int = 72,
        replaces: str | None = None,
        key: str | None = None,
        requested_by: str | None = None,
        channel: str | None = None,
        notes: str | None = None,
    ) -> ReserveResult:
        """Hold goods for a negotiation until `expires_in_h` hours from now (§2).

        1 to 100 items, each of a quantity above zero and up to 10,000 in the product's unit. What
        is short is held in part: see `status` of the answer and of its items. HARD takes what it
        lacks from SOFT reservations, never the other way round.

        `replaces` names a live reservation of the same negotiation whose goods the new one takes
        over, atomically (READING 10): it ends as RELEASED with reason REPLACED. Where the new one
        could hold nothing at all, the answer is FAILED and the old one stays as it was.
        """
        id_ = new_id()
        negotiation = validate.uuid("negotiationId", negotiation_id)
        lines = validate.items(items)
        kind = validate.choice("reservationType", ReservationType, type)
        rank = validate.choice("priority", Priority, priority)
        lasts_h = validate.hours("expiresInHours", expires_in_h)
        replaced = validate.optional_text("replaces", replaces, most=26)
        command = Reserve(
            id_,
            f"res_{id_}" if key is None else validate.text("reservationKey", key, most=100),
            validate.reserve_fingerprint(lines, negotiation, kind, rank, lasts_h, replaced),
            negotiation,
            lines,
            kind,
            rank,
            lasts_h,
            replaced,
            validate.optional_text("requestedBy", requested_by, most=validate.MAX_NAME),
            validate.optional_text("channel", channel, most=20),
            validate.optional_text("notes", notes, most=validate.MAX_NOTES),
        )
        answer = await self._writer.submit(validate.uuid("tenantId", tenant_id), command)
        return cast("ReserveResult", answer)

    async def extend(
        self,
        tenant_id: UUID,
        reservation_id: str,
        hours: int,
        *,
        key: str | None = None,
        by: str | None = None,
    ) -> ExtendResult | Refused:
        """Let a live reservation last `hours` longer, within the tenant's limits."""
        more = validate.hours("hours", hours)
        id_ = validate.text("reservationId", reservation_id, most=26)
        # a lost extension could not be told from one never made, so it always has a key
        return await self._ask(
            ExtendResult, tenant_id, Extend, key or f"ext_{new_id()}", by, None, id_, more
        )

    async def release(
        self,
        tenant_id: UUID,
        *,
        reservation_id: str | None = None,
        negotiation_id: UUID | None = None,
        reason: ReleaseReason | str = ReleaseReason.MANUAL,
        items: Amounts | None = None,
        key: str | None = None,
        by: str | None = None,
        notes: str | None = None,
    ) -> ReleaseResult | Refused:
        """Give back what one reservation, or every one of a negotiation, holds (§3).

        With `items` (quantity by SKU) only so much; without a key each repetition of a partial
        release is another one. Reason CONSUMED sells instead. What is over already, or unknown,
        is a success with a warning: nothing is held.
        """
        why = validate.choice("reason", ReleaseReason, reason)
        if (reservation_id is None) == (negotiation_id is None):
            raise InvalidInputError(
                "reservationId", "give either reservationId or negotiationId, not both"
            )
        id_ = None
        if reservation_id is not None:
            id_ = validate.text("reservationId", reservation_id, most=26)
        negotiation = None
        if negotiation_id is not None:
            negotiation = validate.uuid("negotiationId", negotiation_id)
        amounts = validate.quantities(cast("Mapping[str, Decimal] | None", items))
        return await self._ask(
            ReleaseResult, tenant_id, Release, key, by, notes, why, id_, negotiation, amounts
        )

    async def consume(
        self,
        tenant_id: UUID,
        reservation_id: str,
        *,
        items: Amounts | None = None,
        key: str | None = None,
        by: str | None = None,
        notes: str | None = None,
    ) -> ReleaseResult | Refused:
        """Sell what a live reservation holds, whole or so much by SKU (READING 6, 8).

        `total` and `reserved` fall, `available` stays. More than is held is refused as a whole.
        """
        return await self.release(
            tenant_id,
            reservation_id=reservation_id,
            reason=ReleaseReason.CONSUMED,
            items=items,
            key=key,
            by=by,
            notes=notes,
        )

    async def expire(self, tenant_id: UUID | None = None) -> int:
        """Write down now what has expired, of one tenant or of all; returns how many ended.

        Expiry needs no call to be exact: what is past its time holds nothing. This tidies.
        """
        return await sweep_all(self.dsn, tenant_id=tenant_id)

    async def set_negotiation(
        self,
        tenant_id: UUID,
        negotiation_id: UUID,
        state: str,
        *,
        key: str | None = None,
        by: str | None = None,
    ) -> NegotiationResult | Refused:
        """Record a negotiation's state. DEAD and TIMEOUT release all it holds (READING 13)."""
        id_ = validate.uuid("negotiationId", negotiation_id)
        word = validate.state("state", state)
        return await self._ask(
            NegotiationResult, tenant_id, SetNegotiation, key, by, None, id_, word
        )

    # -- the shelf --------------------------------------------------------------------------

    async def receive(
        self,
        tenant_id: UUID,
        sku: str,
        quantity: Number,
        *,
        warehouse: str | None = None,
        reference: str | None = None,
        key: str | None = None,
        by: str | None = None,
        notes: str | None = None,
    ) -> LevelResult | Refused:
        """Book goods that came in. `warehouse` defaults to the tenant's first."""
        amount = validate.positive("quantity", quantity)
        return await self._change(
            tenant_id, Receive, key, by, notes, sku, warehouse, amount, _reference(reference)
        )

    async def take_back(
        self,
        tenant_id: UUID,
        sku: str,
        quantity: Number,
        *,
        warehouse: str | None = None,
        reference: str | None = None,
        key: str | None = None,
        by: str | None = None,
        notes: str | None = None,
    ) -> LevelResult | Refused:
        """Book sold goods that came back and can be promised again (movement RETURN)."""
        amount = validate.positive("quantity", quantity)
        return await self._change(
            tenant_id, Return, key, by, notes, sku, warehouse, amount, _reference(reference)
        )

    async def adjust(
        self,
        tenant_id: UUID,
        sku: str,
        *,
        total: Number = 0,
        blocked: Number = 0,
        warehouse: str | None = None,
        key: str | None = None,
        by: str | None = None,
        notes: str | None = None,
    ) -> LevelResult | Refused:
        """Correct `total` and `blocked` of a level by signed differences.

        SOFT reservations give way where less is left than they hold; HARD ones refuse.
        """
        deltas = validate.number("total", total), validate.number("blocked", blocked)
        if not any(deltas):
            raise InvalidInputError("total", "give a difference of total or of blocked")
        return await self._change(tenant_id, Adjust, key, by, notes, sku, warehouse, *deltas)

    async def count(
        self,
        tenant_id: UUID,
        sku: str,
        counted: Number,
        *,
        warehouse: str | None = None,
        key: str | None = None,
        by: str | None = None,
        notes: str | None = None,
    ) -> LevelResult | Refused:
        """Book a stocktake: what is really on the shelf, held and blocked goods included."""
        found = validate.number("counted", counted)
        if found < 0:
            raise InvalidInputError("counted", f"counted cannot be below zero: {counted}")
        return await self._change(tenant_id, Count, key, by, notes, sku, warehouse, found)

    async def _change(
        self,
        tenant_id: UUID,
        kind: Callable[..., KeyedCommand],
        key: str | None,
        by: str | None,
        notes: str | None,
        sku: str,
        warehouse: str | None,
        *rest: object,
    ) -> LevelResult | Refused:
        name = validate.text("sku", sku, most=validate.MAX_SKU)
        where = validate.optional_text("warehouse", warehouse, most=50)
        return await self._ask(LevelResult, tenant_id, kind, key, by, notes, name, where, *rest)

    async def _ask(
        self,
        _: type[A],
        tenant_id: UUID,
        kind: Callable[..., KeyedCommand],
        key: str | None,
        by: str | None,
        notes: str | None,
        *rest: object,
    ) -> A | Refused:
        command = kind(
            validate.optional_text("key", key, most=validate.MAX_KEY),
            validate.fingerprint(kind, rest),
            validate.optional_text("by", by, most=validate.MAX_NAME),
            validate.optional_text("notes", notes, most=validate.MAX_NOTES),
            *rest,
        )
        answer = await self._writer.submit(validate.uuid("tenantId", tenant_id), command)
        return cast("A | Refused", answer)

    # -- tenants and products ---------------------------------------------------------------

    async def create_tenant(self, tenant: NewTenant) -> TenantView:
        """Make a tenant. Raises InvalidInputError when its id is taken."""
        await catalog.insert_tenant(self._operator, tenant)
        return await self.tenant(tenant.id)

    async def tenant(self, tenant_id: UUID) -> TenantView:
        """Look a tenant up. Raises NotFoundError."""
        found = await reads.tenant(self._operator, validate.uuid("tenantId", tenant_id))
        if found is None:
            raise NotFoundError(f"No tenant {tenant_id}")
        return found

    async def tenants(self) -> tuple[TenantView, ...]:
        """List all tenants."""
        return await reads.tenants(self._operator)

    async def import_products(self, tenant_id: UUID, products: Sequence[NewProduct]) -> int:
        """Insert or update products by SKU, all or none; returns how many are new.

        Raises InvalidInputError when a unit is to change although stock was moved in the old one.
        """
        await self.tenant(tenant_id)
        return await catalog.upsert_products(
            self._app, validate.uuid("tenantId", tenant_id), products
        )

    async def products(
        self,
        tenant_id: UUID,
        *,
        search: str | None = None,
        after_sku: str | None = None,
        limit: int = 100,
    ) -> tuple[ProductView, ...]:
        """List products by SKU with their figures over all warehouses."""
        return await reads.products(
            self._app,
            validate.uuid("tenantId", tenant_id),
            search=search,
            after_sku=after_sku,
            limit=limit,
        )

    # -- questions --------------------------------------------------------------------------

    async def availability(self, tenant_id: UUID, skus: Sequence[str]) -> dict[str, Availability]:
        """Say how much of each SKU can be promised now. Unknown SKUs are left out.

        Exact at the instant of the answer; concurrent questions share one query.
        """
        return await self._availability.get(validate.uuid("tenantId", tenant_id), skus)

    async def levels(
        self,
        tenant_id: UUID,
        *,
        skus: Sequence[str] | None = None,
        search: str | None = None,
        after_sku: str | None = None,
        limit: int = 100,
    ) -> tuple[LevelView, ...]:
        """List stock by SKU and warehouse."""
        return await reads.levels(
            self._app,
            validate.uuid("tenantId", tenant_id),
            skus=skus,
            search=search,
            after_sku=after_sku,
            limit=limit,
        )

    async def explain(self, tenant_id: UUID, sku: str) -> Explanation:
        """Say why so much of a SKU is available. Raises NotFoundError."""
        found = await reads.explain(self._app, validate.uuid("tenantId", tenant_id), sku)
        if found is None:
            raise NotFoundError(f"Product with SKU {sku} not found")
        return found

    async def reservation(self, tenant_id: UUID, reservation_id: str) -> ReservationView:
        """Look a reservation up with its lines. Raises NotFoundError."""
        found = await reads.reservation(
            self._app, validate.uuid("tenantId", tenant_id), reservation_id
        )
        if found is None:
            raise NotFoundError(f"Reservation {reservation_id} not found")
        return found

    async def reservations(
        self,
        tenant_id: UUID,
        *,
        negotiation_id: UUID | None = None,
        status: str | None = None,
        sku: str | None = None,
        after_id: str | None = None,
        limit: int = 50,
    ) -> tuple[ReservationView, ...]:
        """List reservations, the newest first."""
        return await reads.reservations(
            self._app,
            validate.uuid("tenantId", tenant_id),
            negotiation_id=negotiation_id,
            status=status,
            sku=sku,
            after_id=after_id,
            limit=limit,
        )

    async def movements(
        self,
        tenant_id: UUID,
        *,
        sku: str | None = None,
        warehouse: str | None = None,
        reference_id: str | None = None,
        type: str | None = None,  # noqa: A002 - the column's name
        since: datetime | None = None,
        until: datetime | None = None,
        before_id: str | None = None,
        limit: int = 50,
    ) -> tuple[MovementView, ...]:
        """List movements, the newest first."""
        return await reads.movements(
            self._app,
            validate.uuid("tenantId", tenant_id),
            sku=sku,
            warehouse=warehouse,
            reference_id=reference_id,
            type=type,
            since=since,
            until=until,
            before_id=before_id,
            limit=limit,
        )

    async def notifications(
        self, tenant_id: UUID, *, before_id: str | None = None, limit: int = 50
    ) -> tuple[NotificationView, ...]:
        """List messages for the tenant's people, the newest first."""
        return await reads.notifications(
            self._app, validate.uuid("tenantId", tenant_id), before_id=before_id, limit=limit
        )

    async def verify(
        self,
        tenant_id: UUID | None = None,
        *,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Report:
        """Rebuild everything from its movements and lines and compare. Read-only, online."""
        return await verify(self.dsn, tenant_id=tenant_id, progress=progress)


def _reference(reference: str | None) -> str | None:
    return validate.optional_text("reference", reference, most=50)
