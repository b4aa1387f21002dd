"""Orders: taken down, reserved, released, deducted on delivery, returned (jobs 29-31).

`service.Stock` inherits these calls, so a caller sees one handle.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import TypeVar, cast
from uuid import UUID

import asyncpg

from cerniq_stock import validate
from cerniq_stock.domain.commands import (
    CreateOrder,
    DeductOrder,
    Item,
    KeyedCommand,
    OrderPart,
    ReleaseOrder,
    ReserveOrder,
    ReturnOrder,
)
from cerniq_stock.domain.outcomes import OrderResult, Refused
from cerniq_stock.questions import Questions
from cerniq_stock.store.availability import AvailabilityReader
from cerniq_stock.store.ids import new_id
from cerniq_stock.store.writer import Writer

A = TypeVar("A")
Number = Decimal | int | str
Parts = Mapping[str, Number] | Iterable[OrderPart]
"""Quantity by SKU, or parts that name the line."""


class Ordering(Questions):
    """What changes orders. All of a command is done, or nothing: then `errors` names every line.

    Each quantity of a line is reserved, released, deducted and returned at most once, so a call
    that names no parts may be repeated at will: it does what is left to do. One that names parts
    needs a `key` to be repeatable.
    """

    def __init__(
        self,
        dsn: str,
        writer: Writer,
        availability: AvailabilityReader,
        app: asyncpg.Pool,
        operator: asyncpg.Pool,
    ) -> None:
        super().__init__(dsn, availability, app, operator)
        self._writer = writer

    @property
    def waiting(self) -> int:
        """Commands that wait for a batch or are in one, in this process."""
        return self._writer.waiting

    async def create_order(
        self,
        tenant_id: UUID,
        order_id: UUID,
        items: Iterable[Item],
        *,
        negotiation_id: UUID | None = None,
        key: str | None = None,
        by: str | None = None,
        notes: str | None = None,
    ) -> OrderResult | Refused:
        """Take an order of 1 to 5,000 lines down; nothing is held by that.

        Quantities are above zero, in the product's unit. The same order again changes nothing;
        another one under its id is refused with ORDER_EXISTS. `negotiation_id` names the
        negotiation it comes from: what that holds becomes the order's when it is reserved.
        """
        origin = None
        if negotiation_id is not None:
            origin = validate.uuid("negotiationId", negotiation_id)
        lines = validate.items(
            items, most=validate.MAX_ORDER_LINES, most_quantity=validate.MAX_ORDERED
        )
        return await self._order(tenant_id, CreateOrder, key, by, notes, order_id, origin, lines)

    async def reserve_order(
        self,
        tenant_id: UUID,
        order_id: UUID,
        *,
        key: str | None = None,
        by: str | None = None,
        notes: str | None = None,
    ) -> OrderResult | Refused:
        """Hold all that is open of an order, or nothing (job 29; READING 15, 16).

        The reservation is HARD and does not expire. What the order's negotiation holds becomes
        the order's, only the difference is taken or given back. Without success every short line
        is named, and the negotiation keeps what it holds.
        """
        return await self._order(
            tenant_id, ReserveOrder, key, by, notes, order_id, new_id(), silent=1
        )

    async def release_order(
        self,
        tenant_id: UUID,
        order_id: UUID,
        parts: Parts | None = None,
        *,
        key: str | None = None,
        by: str | None = None,
        notes: str | None = None,
    ) -> OrderResult | Refused:
        """Cancel what is outstanding of an order, or these parts, and give it back (job 30)."""
        wanted = validate.order_parts(cast("Mapping[str, Decimal] | None", parts))
        return await self._order(tenant_id, ReleaseOrder, key, by, notes, order_id, wanted)

    async def deduct_order(
        self,
        tenant_id: UUID,
        order_id: UUID,
        parts: Parts | None = None,
        *,
        key: str | None = None,
        by: str | None = None,
        notes: str | None = None,
    ) -> OrderResult | Refused:
        """Sell what is outstanding of an order, or these parts: it was delivered (job 31).

        What is not reserved comes from free stock; where that is short, nothing is sold and every
        short line is named (READING 18, 19).
        """
        wanted = validate.order_parts(cast("Mapping[str, Decimal] | None", parts))
        return await self._order(tenant_id, DeductOrder, key, by, notes, order_id, wanted)

    async def return_order(
        self,
        tenant_id: UUID,
        order_id: UUID,
        parts: Parts | None = None,
        *,
        warehouse: str | None = None,
        key: str | None = None,
        by: str | None = None,
        notes: str | None = None,
    ) -> OrderResult | Refused:
        """Put delivered goods, all or these parts, back on the shelf (movement RETURN).

        `warehouse` defaults to the tenant's first.
        """
        wanted = validate.order_parts(cast("Mapping[str, Decimal] | None", parts))
        where = validate.optional_text("warehouse", warehouse, most=50)
        return await self._order(tenant_id, ReturnOrder, key, by, notes, order_id, wanted, where)

    async def _order(
        self,
        tenant_id: UUID,
        kind: Callable[..., KeyedCommand],
        key: str | None,
        by: str | None,
        notes: str | None,
        order_id: UUID,
        *rest: object,
        silent: int = 0,
    ) -> OrderResult | Refused:
        id_ = validate.uuid("orderId", order_id)
        # without a key, a change whose answer was lost could not be told from one never made
        key = f"ord_{new_id()}" if key is None else key
        return await self._ask(
            OrderResult, tenant_id, kind, key, by, notes, id_, *rest, silent=silent
        )

    async def _ask(
        self,
        _: type[A],
        tenant_id: UUID,
        kind: Callable[..., KeyedCommand],
        key: str | None,
        by: str | None,
        notes: str | None,
        *rest: object,
        silent: int = 0,
    ) -> A | Refused:
        """Submit a command. The last `silent` arguments are our own: no part of the question."""
        command = kind(
            validate.optional_text("key", key, most=validate.MAX_KEY),
            validate.fingerprint(kind.__name__, rest[: len(rest) - silent]),
            validate.optional_text("by", by, most=validate.MAX_NAME),
            validate.optional_text("notes", notes, most=validate.MAX_NOTES),
            *rest,
        )
        answer = await self._writer.submit(validate.uuid("tenantId", tenant_id), command)
        return cast("A | Refused", answer)
