"""`cerniq-stock demo`: real trade, then a walk through every operation."""

import asyncio
import json
import sys
import time
from typing import Any
from uuid import uuid4

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from cerniq_stock import logs
from cerniq_stock.demo.erps import erps
from cerniq_stock.demo.replay import Tally, replay, stock_up
from cerniq_stock.demo.tour import as_text, tour
from cerniq_stock.demo.trade import Trade, data_file, opening_stock, read_trade
from cerniq_stock.settings import Settings
from cerniq_stock.store.database import create_database, drop_database
from cerniq_stock.store.migrate import migrate
from cerniq_stock.store.writer import Limits
from cerniq_stock.views import Report
from cerniq_stock.wiring import database_dsn, open_stock

PREFIX = "cerniq_demo_"


def demo_command(*, as_json: bool = False) -> int:
    """Run the demo on a database of its own, dropped at the end; returns the exit code."""
    logs.configure("text", "WARNING")
    return asyncio.run(_demo(as_json=as_json))


async def _demo(*, as_json: bool) -> int:
    server = await asyncio.to_thread(database_dsn, Settings())
    name = f"{PREFIX}{uuid4().hex[:12]}"
    try:
        dsn = await create_database(server, name)
        await migrate(dsn)
        return await demo_on(dsn, read_trade(data_file()), as_json=as_json)
    finally:
        await drop_database(server, name)


async def demo_on(dsn: str, trade: Trade, *, as_json: bool) -> int:
    """Run the demo on an empty database of the newest schema; returns the exit code."""
    started = time.perf_counter()
    # One lane: first come, first served to the letter, so every run ends with the same figures.
    async with open_stock(dsn, limits=Limits(lanes_per_tenant=1)) as stock:
        steps: list[tuple[str, str, Any]] = []
        await stock_up(stock, trade)
        async with erps(stock) as merchants:
            before = await merchants.agree(opening_stock(trade))
            tally = await _replayed(stock, trade)
            await tour(stock, lambda *step: steps.append(step))
            await merchants.walk(lambda *step: steps.append(step), before)
        report = await stock.verify()
    if as_json:
        print(json.dumps(_document(trade, tally, report, steps), ensure_ascii=False))
    else:
        _print(trade, tally, report, steps, time.perf_counter() - started)
    return 0 if report.ok else 1


async def _replayed(stock: Any, trade: Trade) -> Tally:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    lines = sum(
        len(invoice.sold) + len(invoice.returned) + len(invoice.written_off)
        for invoice in trade.invoices
    )
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("Five days of trade", total=lines)
        return await replay(stock, trade, lambda done: progress.advance(task, done))


def _figures(trade: Trade, tally: Tally, report: Report) -> dict[str, Any]:
    return {
        "invoices": tally.invoices,
        "lines asked": sum(tally.lines.values()),
        "lines reserved": tally.lines["RESERVED"],
        "lines in part": tally.lines["PARTIAL"],
        "lines refused": tally.lines["UNAVAILABLE"],
        "units sold": int(tally.sold),
        "units returned": tally.returned,
        "units written off": tally.written_off,
        "lines left out (no goods)": sum(trade.no_goods.values()),
        "offers (SOFT reservations)": tally.reservations,
        "orders (HARD, converted)": tally.orders,
        "deliveries": tally.deliveries,
        "offers and orders per second": round(tally.reservations_per_s),
        "verify": "clean" if report.ok else f"{len(report.differences)} differences",
    }


def _document(
    trade: Trade, tally: Tally, report: Report, steps: list[tuple[str, str, Any]]
) -> dict[str, Any]:
    return {
        "replay": _figures(trade, tally, report),
        "noGoods": trade.no_goods,
        "tour": [
            {"step": title, "call": call, "answer": json.loads(f"[{_json(answer)}]")[0]}
            for title, call, answer in steps
        ],
    }


def _json(answer: Any) -> str:
    return json.dumps(answer) if isinstance(answer, str) else as_text(answer)


def _print(
    trade: Trade,
    tally: Tally,
    report: Report,
    steps: list[tuple[str, str, Any]],
    duration_s: float,
) -> None:
    console = Console(highlight=False)
    table = Table("", "", title="Five days of a wholesaler's trade", show_header=False)
    for name, figure in _figures(trade, tally, report).items():
        table.add_row(name, f"{figure:,}" if isinstance(figure, int) else str(figure))
    console.print(table)
    codes = ", ".join(f"{code} ({count})" for code, count in sorted(trade.no_goods.items()))
    console.print(f"Codes that are no goods, left out: {codes}\n")
    for number, (title, call, answer) in enumerate(steps, 1):
        console.print(f"[bold]{number}. {title}[/bold]\n   [dim]{call}[/dim]")
        console.print(f"   {as_text(answer)}", markup=False, soft_wrap=True)
    for difference in report.differences:
        console.print(str(difference), markup=False)
    console.print(
        f"\nDone in {duration_s:.1f} s; one caller, one call after another. The demo's database is"
        " gone; the embedded server goes on running until: cerniq-stock database stop"
        "\nNext: cerniq-stock --help"
    )
