"""The use cases: the only door to the engine for every entrance.

Each call checks its input, hands one command to the writer or one question to the reads, and
returns the answer. Refusals come back as values; trouble is raised (`cerniq_stock.errors`).
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import cast
from uuid import UUID

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
from cerniq_stock.errors import InvalidInputError
from cerniq_stock.ordering import Number, Ordering
from cerniq_stock.store.ids import new_id
from cerniq_stock.store.sweep import sweep_all

Amounts = Mapping[str, Number] | Iterable[Quantity]


class Stock(Ordering):
    """A handle on the engine; `cerniq_stock.open_stock()` makes one.

    Every call names the tenant first. `key` makes a call repeatable: the same key with the same
    payload changes nothing and returns the first answer; with another payload the call is refused
    with RESERVATION_EXISTS. Keys of reservations and keys of all other calls are apart: the same
    word may stand in both. Quantities are exact: int, Decimal or text, never float.

    Every call may raise InvalidInputError (nothing changed), OverloadedError (not taken, try
    later) or UnavailableError (outcome unknown: repeat with the same key).
    """

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
                "reservationId", "Name a reservation or a negotiation, and only one of them"
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
        tenant = None if tenant_id is None else validate.uuid("tenantId", tenant_id)
        return await sweep_all(self.dsn, tenant_id=tenant)

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
        # as with extend: a lost change without a key could not be told from one never made
        key = f"neg_{new_id()}" if key is None else key
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
        kind: type[KeyedCommand],
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


def _reference(reference: str | None) -> str | None:
    return validate.optional_text("reference", reference, most=50)
