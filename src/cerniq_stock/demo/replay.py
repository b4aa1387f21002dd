"""Replay real trade: offers become SOFT reservations, then orders, deliveries, returns."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID, uuid5

from cerniq_stock.demo.trade import Invoice, Trade, TradeLine, opening_stock
from cerniq_stock.domain.commands import Item, OrderPart
from cerniq_stock.domain.outcomes import Refused
from cerniq_stock.service import Stock
from cerniq_stock.store.catalog import NewProduct, NewTenant

TENANT_ID = UUID("0ec2b1f4-6a3e-4e0e-9a57-5c9f4b8f1a01")

LINES_A_DELIVERY = 100

T = TypeVar("T")
Delivered = defaultdict[tuple[str, str], list[list[Any]]]
"""By customer and SKU: the orders, the latest last, with how much of each has not come back."""
Progress = Callable[[int], None]


@dataclass
class Tally:
    """What the replay did. Lines are counted as the offers (SOFT) were answered."""

    lines: Counter[str] = field(default_factory=Counter)
    invoices: int = 0
    reservations: int = 0
    orders: int = 0
    deliveries: int = 0
    reserving_s: float = 0.0
    sold: Decimal = Decimal(0)
    returned: int = 0
    written_off: int = 0

    @property
    def reservations_per_s(self) -> float:
        """Reservations and orders decided per second of reserving, many lines each."""
        decided = self.reservations + self.orders
        return decided / self.reserving_s if self.reserving_s else 0.0


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
    delivered: Delivered = defaultdict(list)
    for day in trade.days:
        invoices = [invoice for invoice in trade.invoices if invoice.day == day]
        await _trade_day(stock, invoices, tally, delivered)
        progress(sum(len(i.sold) + len(i.returned) + len(i.written_off) for i in invoices))
    return tally


async def _trade_day(
    stock: Stock, invoices: list[Invoice], tally: Tally, delivered: Delivered
) -> None:
    sales = [invoice for invoice in invoices if invoice.sold]
    tally.invoices += len(invoices)
    await _all(stock.set_negotiation(TENANT_ID, _id(invoice), "PROPOSAL") for invoice in sales)
    offers = await _offer(stock, sales, tally)
    ordered = {number: lines for number, lines in offers.items() if lines}
    orders = [invoice for invoice in sales if invoice.number in ordered]
    await _order(stock, orders, ordered, tally)
    await _deliver(stock, orders, ordered, tally, delivered)
    await _take_back_and_write_off(stock, invoices, tally, delivered)


def _id(invoice: Invoice) -> UUID:
    """Of the negotiation, and of the order that comes from it."""
    return uuid5(TENANT_ID, invoice.number)


async def _offer(stock: Stock, sales: list[Invoice], tally: Tally) -> dict[str, list[Item]]:
    """Hold what each customer asks for, softly; returns what each of them could get."""
    parts = [(invoice, *part) for invoice in sales for part in enumerate(invoice.parts(), 1)]
    started = time.perf_counter()
    answers = await _all(
        stock.reserve(
            TENANT_ID,
            _id(invoice),
            [Item(line.sku, Decimal(line.quantity)) for line in part],
            key=f"{invoice.number}-{number}",
        )
        for invoice, number, part in parts
    )
    tally.reserving_s += time.perf_counter() - started
    tally.reservations += len(answers)
    got: dict[str, list[Item]] = defaultdict(list)
    for (invoice, _, _), answer in zip(parts, answers, strict=True):
        tally.lines.update(item.status for item in answer.items)
        got[invoice.number] += [
            Item(x.sku, x.reserved_quantity) for x in answer.items if x.reserved_quantity
        ]
    return got


async def _order(
    stock: Stock, orders: list[Invoice], ordered: dict[str, list[Item]], tally: Tally
) -> None:
    """Each customer orders what could be offered: the offer's goods become the order's."""
    await _all(
        stock.create_order(
            TENANT_ID, _id(invoice), ordered[invoice.number], negotiation_id=_id(invoice)
        )
        for invoice in orders
    )
    started = time.perf_counter()
    held = await _all(stock.reserve_order(TENANT_ID, _id(invoice)) for invoice in orders)
    tally.reserving_s += time.perf_counter() - started
    tally.orders += len(held)
    for answer in held:
        assert not isinstance(answer, Refused), answer
        assert answer.success, answer.errors


async def _deliver(
    stock: Stock,
    orders: list[Invoice],
    ordered: dict[str, list[Item]],
    tally: Tally,
    delivered: Delivered,
) -> None:
    """A delivery for every hundred lines of an order."""
    for invoice in orders:
        items = ordered[invoice.number]
        for number, start in enumerate(range(0, len(items), LINES_A_DELIVERY), 1):
            part = enumerate(items[start : start + LINES_A_DELIVERY], start + 1)
            answer = await stock.deduct_order(
                TENANT_ID,
                _id(invoice),
                [OrderPart(item.quantity, line_no=line_no) for line_no, item in part],
                key=f"delivery-{invoice.number}-{number}",
            )
            assert not isinstance(answer, Refused), answer
            tally.deliveries += 1
            tally.sold += answer.quantity
        for item in items:
            delivered[invoice.customer, item.sku].append([_id(invoice), int(item.quantity)])


async def _take_back_and_write_off(
    stock: Stock, invoices: list[Invoice], tally: Tally, delivered: Delivered
) -> None:
    for invoice in invoices:
        for line_no, line in enumerate(invoice.returned, 1):
            await _take_back(stock, invoice, line_no, line, delivered)
            tally.returned += line.quantity
        for line in invoice.written_off:
            # what is not there any more cannot be written off: the data knows no stock levels
            answer = await stock.adjust(TENANT_ID, line.sku, total=-line.quantity)
            tally.written_off += 0 if isinstance(answer, Refused) else line.quantity


async def _take_back(
    stock: Stock, invoice: Invoice, line_no: int, line: TradeLine, delivered: Delivered
) -> None:
    """A return to the customer's latest orders; the rest was sold before the data begins."""
    left = line.quantity
    for number, sale in enumerate(reversed(delivered[invoice.customer, line.sku])):
        order_id, sold = sale
        amount = min(left, sold)
        if amount:
            key = f"return-{invoice.number}-{line_no}-{number}"
            answer = await stock.return_order(TENANT_ID, order_id, {line.sku: amount}, key=key)
            assert not isinstance(answer, Refused), answer
            sale[1] -= amount
            left -= amount
    if left:
        await stock.take_back(TENANT_ID, line.sku, left, reference=invoice.number)


async def _all(calls: Iterable[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*calls))
