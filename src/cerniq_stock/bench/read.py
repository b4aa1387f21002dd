"""`bench read`: how many availability questions are answered per second."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import cycle
from typing import Any
from uuid import UUID

from cerniq_stock.bench.closed_loop import Ask, measure
from cerniq_stock.bench.engine import opened, settle
from cerniq_stock.bench.fill import fill
from cerniq_stock.bench.scratch import say, scratch
from cerniq_stock.bench.workload import Plan, Town, requests
from cerniq_stock.service import Stock
from cerniq_stock.settings import Settings

WARM_UP_S_MAX = 1.0
QUESTIONS = 10_000


async def bench_read(
    plan: Plan, *, server: str, settings: Settings, seconds: float = 5.0
) -> dict[str, Any]:
    """Ask for the availability of `plan.lines` SKUs per call in a closed loop."""
    async with scratch(server) as dsn:
        say(f"filling: {plan.tenants} tenants, {plan.products_per_tenant} products each")
        town = await fill(dsn, plan)
        async with opened(dsn, settings) as stock:
            callers = _make_callers(town, stock)
            settle()
            await measure(callers, min(seconds, WARM_UP_S_MAX))
            window = await measure(callers, seconds)
    skus_per_second = round(window.per_second * plan.lines, 1)
    return {**asdict(plan), "skus_per_second": skus_per_second, **asdict(window)}


def _make_callers(town: Town, stock: Stock) -> list[Ask]:
    made = requests(town.plan, count=QUESTIONS)
    wanted = cycle([[item.sku for item in next(made)] for _ in range(QUESTIONS)])
    return [_caller(stock, [seat.tenant_id for seat in seats], wanted) for seats in town.seats]


def _caller(stock: Stock, tenants: list[UUID], wanted: Iterator[list[str]]) -> Ask:
    places = cycle(tenants)

    async def ask() -> str:
        skus = next(wanted)
        answers = await stock.availability(next(places), skus)
        return "answered" if len(answers) == len(skus) else "incomplete"

    return ask
