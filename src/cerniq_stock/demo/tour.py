"""A walk through every operation, once, with what the engine really answers."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from cerniq_stock import wire
from cerniq_stock.domain.commands import Item
from cerniq_stock.service import Stock
from cerniq_stock.store.catalog import NewProduct, NewTenant

Show = Callable[[str, str, Any], None]
"""Shows a step: its title, the call, the answer."""

COFFEE, TEA, SUGAR = "CAFEA-1KG", "CEAI-VERDE", "ZAHAR-VRAC"


async def tour(stock: Stock, show: Show) -> None:
    """Walk through the operations on a small merchant of their own."""
    tenant = await stock.create_tenant(NewTenant("Turul demonstrativ", warehouses=("BUC", "CLJ")))
    await stock.import_products(tenant.id, _products())
    for sku, warehouse, quantity in (
        (COFFEE, "BUC", "20"),
        (COFFEE, "CLJ", "5"),
        (TEA, "BUC", "8"),
        (SUGAR, "BUC", "120.5"),
    ):
        answer = await stock.receive(tenant.id, sku, quantity, warehouse=warehouse)
        show("Receive", f"receive {sku} {quantity} --warehouse {warehouse}", answer)
    negotiation = uuid4()
    await stock.set_negotiation(tenant.id, negotiation, "PROPOSAL")
    await _reserving(stock, show, tenant.id, negotiation)
    await _ordering(stock, show, tenant.id, negotiation)
    await _ending(stock, show, tenant.id, negotiation)
    for message in await stock.notifications(tenant.id):
        show("Notification", message.type, message.message)


def _products() -> list[NewProduct]:
    restock = date(2030, 1, 15)
    return [
        NewProduct(COFFEE, "Cafea boabe 1 kg", reorder_point=Decimal(4)),
        NewProduct(TEA, "Ceai verde", expected_restock_date=restock, reorder_point=Decimal(0)),
        NewProduct(SUGAR, "Zahăr vrac", unit="KG", reorder_point=Decimal(10)),
    ]


async def _reserving(stock: Stock, show: Show, tenant_id: UUID, negotiation: UUID) -> None:
    lines = [Item(COFFEE, Decimal(12)), Item(SUGAR, Decimal("2.250"))]
    first = await stock.reserve(tenant_id, negotiation, lines, key="oferta-1")
    show("Reserve", f"SOFT {COFFEE}=12, {SUGAR}=2.25, key oferta-1", first)
    again = await stock.reserve(tenant_id, negotiation, lines, key="oferta-1")
    show("Repeat with the same key: nothing changes", "the same call", again)
    partial = await stock.reserve(tenant_id, negotiation, [Item(TEA, Decimal(10))], key="oferta-2")
    show("Partial: 8 of 10, and when more is expected", f"SOFT {TEA}=10", partial)
    rival = uuid4()
    await stock.set_negotiation(tenant_id, rival, "CLOSING")
    firm = await stock.reserve(
        tenant_id, rival, [Item(TEA, Decimal(3))], type="HARD", key="comanda-7"
    )
    show("Preemption: HARD takes what it lacks from SOFT", f"HARD {TEA}=3", firm)
    victim = await stock.reservation(tenant_id, partial.reservation_id or "")
    show("… and the victim stays visible", "reservation show", victim.lines)
    order = await stock.reserve(
        tenant_id,
        negotiation,
        [Item(COFFEE, Decimal(15))],
        type="HARD",
        replaces=first.reservation_id,
        key="comanda-1",
    )
    show("Replace: the order takes over the offer's goods", f"HARD {COFFEE}=15", order)
    id_ = order.reservation_id or ""
    released = await stock.release(
        tenant_id, reservation_id=id_, items={COFFEE: 3}, key="comanda-1-minus"
    )
    show("Partial release", f"release {COFFEE}=3", released)
    sold = await stock.consume(tenant_id, id_, key="livrare-1")
    show("Consume: total and reserved fall, available stays", "consume", sold)


async def _ordering(stock: Stock, show: Show, tenant_id: UUID, negotiation: UUID) -> None:
    id_ = uuid4()
    offer = await stock.reserve(tenant_id, negotiation, [Item(SUGAR, Decimal(20))], key="oferta-4")
    show("An offer that becomes an order", f"SOFT {SUGAR}=20", offer)
    lines = [Item(SUGAR, Decimal("30.5")), Item(COFFEE, Decimal(100)), Item(TEA, Decimal(100))]
    await stock.create_order(tenant_id, uuid4(), lines)
    big = (await stock.orders(tenant_id, limit=1))[0]
    short = await stock.reserve_order(tenant_id, big.id)
    show("Order: all lines or none, and every short line is named", "order reserve", short)
    await stock.create_order(tenant_id, id_, lines[:1], negotiation_id=negotiation)
    held = await stock.reserve_order(tenant_id, id_)
    show("The offer's goods become the order's, the rest is taken", "order reserve", held)
    part = await stock.deduct_order(tenant_id, id_, {SUGAR: "12.25"}, key="aviz-1")
    show("A delivery in part", f"order deduct {SUGAR}=12.25", part)
    rest = await stock.release_order(tenant_id, id_)
    show("The rest is cancelled", "order release", rest)
    back = await stock.return_order(tenant_id, id_, {SUGAR: 2}, key="retur-1")
    show("Some of it comes back", f"order return {SUGAR}=2", back)
    again = await stock.release_order(tenant_id, id_)
    show("Once more: nothing changes", "order release", again)


async def _ending(stock: Stock, show: Show, tenant_id: UUID, negotiation: UUID) -> None:
    late = await stock.reserve(
        tenant_id, negotiation, [Item(COFFEE, Decimal(10))], expires_in_h=1, key="oferta-3"
    )
    show("Low stock: available falls to the reorder point", f"SOFT {COFFEE}=10", late)
    await _let_an_hour_pass(stock.dsn, tenant_id, late.reservation_id or "")
    shown = await stock.availability(tenant_id, [COFFEE])
    show(
        "Expiry is exact at read, before any sweep (the demo moves this expiry two hours back)",
        f"availability {COFFEE}",
        shown[COFFEE],
    )
    show("… and the sweep writes it down", "expire", await stock.expire(tenant_id))
    over = await stock.set_negotiation(tenant_id, negotiation, "DEAD")
    show("A negotiation that dies gives back all it holds", "negotiation set DEAD", over)
    why = await stock.explain(tenant_id, TEA)
    show("Explain: who holds what", f"explain {TEA}", why.holders)


async def _let_an_hour_pass(dsn: str, tenant_id: UUID, reservation_id: str) -> None:
    """Move one reservation's expiry into the past, by SQL, instead of waiting."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
    try:
        for table, column in (
            ("stock_reservations", "id"),
            ("stock_reservation_lines", "reservation_id"),
        ):
            await connection.execute(
                f"UPDATE {table} SET expires_at = expires_at - interval '2 hours'"  # noqa: S608 - two literals
                f" WHERE tenant_id = $1 AND {column} = $2",
                tenant_id,
                reservation_id,
            )
    finally:
        await connection.close()


def as_text(answer: Any) -> str:
    """One line of JSON, as programs get it."""
    return answer if isinstance(answer, str) else wire.dumps(answer)
