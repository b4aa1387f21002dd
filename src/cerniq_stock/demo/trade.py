"""Five days of a real wholesaler's trade, read as what happened to the stock."""

import csv
import gzip
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

FILE = "online-retail-2010-12-01_05.csv.gz"
LINES_A_RESERVATION = 100
OPENING_STOCK_SEED = 20101201


class TradeLine(NamedTuple):
    """So many of one product; what came back or was written off is positive here, too."""

    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice with what was sold, brought back (a cancellation), or written off."""

    number: str
    day: str
    customer: str
    sold: tuple[TradeLine, ...]
    returned: tuple[TradeLine, ...]
    written_off: tuple[TradeLine, ...]

    def parts(self) -> Iterator[tuple[TradeLine, ...]]:
        """Yield the sold lines in reservations of at most a hundred."""
        for start in range(0, len(self.sold), LINES_A_RESERVATION):
            yield self.sold[start : start + LINES_A_RESERVATION]


@dataclass(frozen=True, slots=True)
class Trade:
    """All invoices in their order, the products by code, and the codes that are no goods."""

    invoices: tuple[Invoice, ...]
    names: dict[str, str]
    prices: dict[str, Decimal]
    no_goods: dict[str, int]

    @property
    def days(self) -> list[str]:
        """Trading days in their order."""
        return sorted({invoice.day for invoice in self.invoices})


def data_file() -> Path:
    """Where the trade is: in the checkout, or within the installed package."""
    for folder in (Path(__file__).parents[3] / "examples", Path(str(files("cerniq_stock")))):
        if (folder / FILE).exists():
            return folder / FILE
    raise FileNotFoundError(f"{FILE} is missing; it comes with the project under examples/")


def read_trade(path: Path) -> Trade:
    """Read the file. Goods have codes that begin with a digit; postage and the like have not."""
    by_invoice: dict[str, list[dict[str, str]]] = defaultdict(list)
    names: dict[str, str] = {}
    prices: dict[str, Decimal] = {}
    no_goods: dict[str, int] = defaultdict(int)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            code = row["StockCode"]
            if not code[0].isdigit():
                no_goods[code] += 1
                continue
            names[code] = names.get(code) or row["Description"].strip()
            prices[code] = Decimal(row["UnitPrice"])
            by_invoice[row["InvoiceNo"]].append(row)
    invoices = tuple(_invoice(number, rows) for number, rows in by_invoice.items())
    return Trade(invoices, names, prices, dict(no_goods))


def _invoice(number: str, rows: list[dict[str, str]]) -> Invoice:
    lines = [TradeLine(row["StockCode"], int(row["Quantity"])) for row in rows]
    back = tuple(TradeLine(line.sku, -line.quantity) for line in lines if line.quantity < 0)
    cancels = number.startswith("C")
    return Invoice(
        number,
        rows[0]["InvoiceDate"][:10],
        rows[0]["CustomerID"],
        sold=tuple(line for line in lines if line.quantity > 0),
        returned=back if cancels else (),
        written_off=() if cancels else back,
    )


def opening_stock(trade: Trade) -> dict[str, int]:
    """Choose how much of each product there is: from less than was asked for to plenty.

    The data does not say. The seed is fixed, so every run has the same shortages.
    """
    asked: dict[str, int] = defaultdict(int)
    for invoice in trade.invoices:
        for line in (*invoice.sold, *invoice.written_off):
            asked[line.sku] += line.quantity
    rng = random.Random(OPENING_STOCK_SEED)  # noqa: S311 - wants repetition, not secrecy
    return {sku: int(asked[sku] * rng.uniform(0.5, 2.5)) for sku in sorted(trade.names)}
