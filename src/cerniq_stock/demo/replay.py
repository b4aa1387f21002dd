"""Replay real trade: offers become SOFT reservations, orders HARD ones, deliveries sales."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar
from uuid import UUID, uuid5

from cerniq_stock.demo.trade import Invoice, Trade, TradeLine, opening_stock
from cerniq_stock.domain.commands import Item
from cerniq_stock.domain.outcomes import Refused, ReserveResult
from cerniq_stock.service import Stock
from cerniq_stock.store.catalog import NewProduct, NewTenant

TENANT_ID = UUID("0ec2b1f4-6a3e-4e0e-9a57-5c9f4b8f1a01")

T = TypeVar("T")
Progress = Callable[[int], None]


@dataclass
class Tally:
    """What the replay did. Lines are counted as the offers (SOFT) were answered."""

    lines: Counter[str] = field(default_factory=Counter)
    invoices: int = 0
    reservations: int = 0
    reserving_s: float = 0.0
    sold: Decimal = Decimal(0)
    returned: int = 0
    written_off: int = 0

    @property
    def reservations_per_s(self) -> float:
        """Reservations decided per second of reserving, many lines each."""
        return self.reservations / self.reserving_s if self.reserving_s else 0.0


async def stock_up(stock: Stock, trade: Trade) -> None:
    """Make the merchant, its products and the opening stock."""
    await stock.create_tenant(NewTenant("Angrosist demonstrativ", id=TENANT_ID))
    products = [
        NewProduct(sku, name or f"(fără nume) {sku}", price=trade.prices[sku])
        for sku, name in trade.names.items()
    ]
    await stock.import_products(TENANT_ID, products)
    await asyncio.gather(
        *(
            stock.receive(TENANT_ID, sku, quantity, reference="opening stock")
            for sku, quantity in opening_stock(trade).items()
            if quantity
        )
    )


async def replay(stock: Stock, trade: Trade, progress: Progress) -> Tally:
    """Run every day: offers in the order of the invoices, then orders, deliveries, returns."""
    tally = Tally()
    for day in trade.days:
        invoices = [invoice for invoice in trade.invoices if invoice.day == day]
        await _trade_day(stock, invoices, tally, progress)
    return tally


async def _trade_day(
    stock: Stock, invoices: list[Invoice], tally: Tally, progress: Progress
) -> None:
    sales = [invoice for invoice in invoices if invoice.sold]
    tally.invoices += len(invoices)
    await _all(
        stock.set_negotiation(TENANT_ID, _negotiation(invoice), "PROPOSAL") for invoice in sales
    )
    parts = [(invoice, number, part) for invoice in sales for number, part in _numbered(invoice)]
    offers = await _reserve_all(stock, parts, tally, "SOFT", [None] * len(parts))
    for offer in offers:
        tally.lines.update(item.status for item in offer.items)
    kept = [(part, offer) for part, offer in zip(parts, offers, strict=True) if offer.success]
    orders = await _reserve_all(
        stock,
        [part for part, _ in kept],
        tally,
        "HARD",
        [offer.reservation_id for _, offer in kept],
    )
    sold = await _all(stock.consume(TENANT_ID, order.reservation_id or "") for order in orders)
    for sale in sold:
        assert not isinstance(sale, Refused), sale
        tally.sold += sale.total_released
    await _take_back_and_write_off(stock, invoices, tally)
    progress(sum(len(i.sold) + len(i.returned) + len(i.written_off) for i in invoices))


def _numbered(invoice: Invoice) -> Iterable[tuple[int, tuple[TradeLine, ...]]]:
    return enumerate(invoice.parts(), 1)


def _negotiation(invoice: Invoice) -> UUID:
    return uuid5(TENANT_ID, invoice.number)


async def _reserve_all(
    stock: Stock,
    parts: list[tuple[Invoice, int, tuple[TradeLine, ...]]],
    tally: Tally,
    kind: str,
    replaces: list[str | None],
) -> list[ReserveResult]:
    started = time.perf_counter()
    answers = await _all(
        stock.reserve(
            TENANT_ID,
            _negotiation(invoice),
            [Item(line.sku, Decimal(line.quantity)) for line in part],
            type=kind,
            replaces=old,
            key=f"{invoice.number}-{number}-{kind}",
        )
        for (invoice, number, part), old in zip(parts, replaces, strict=True)
    )
    tally.reserving_s += time.perf_counter() - started
    tally.reservations += len(answers)
    return answers


async def _take_back_and_write_off(stock: Stock, invoices: list[Invoice], tally: Tally) -> None:
    for invoice in invoices:
        for line in invoice.returned:
            await stock.take_back(TENANT_ID, line.sku, line.quantity, reference=invoice.number)
            tally.returned += line.quantity
        for line in invoice.written_off:
            # what is not there any more cannot be written off: the data knows no stock levels
            answer = await stock.adjust(TENANT_ID, line.sku, total=-line.quantity)
            tally.written_off += 0 if isinstance(answer, Refused) else line.quantity


async def _all(calls: Iterable[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*calls))
