"""The demo, on a day's trade of a few products: what it shows of their ERPs is so."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from cerniq_stock import logs
from cerniq_stock.demo import demo_on
from cerniq_stock.demo.erps import CAKE_STAND, EGG_HOUSE, FIGURES, HEART, RECEIVED
from cerniq_stock.demo.replay import TENANT_ID
from cerniq_stock.demo.trade import Invoice, Trade, TradeLine, data_file, opening_stock, read_trade
from tests.entrances.conftest import logs_as_before

SKUS = {EGG_HOUSE, HEART, CAKE_STAND, *FIGURES}
TOTALS = """
SELECT p.sku, l.total FROM stock_levels AS l
JOIN products AS p ON p.tenant_id = l.tenant_id AND p.id = l.product_id
WHERE l.tenant_id = $1 AND l.total <> 0
"""
REVIEWED = "SELECT resolution, resolved_by, resolved_because FROM sync_conflicts"


@pytest.fixture
def trade() -> Trade:
    """The first of the five days, and of what was traded the lines of a few products."""
    whole = read_trade(data_file())
    invoices = tuple(_of_few(x) for x in whole.invoices if x.day == whole.days[0])
    kept = tuple(x for x in invoices if x.sold or x.returned or x.written_off)
    return replace(whole, invoices=kept)


def _of_few(invoice: Invoice) -> Invoice:
    def few(lines: tuple[TradeLine, ...]) -> tuple[TradeLine, ...]:
        return tuple(line for line in lines if line.sku in SKUS)

    return replace(
        invoice,
        sold=few(invoice.sold),
        returned=few(invoice.returned),
        written_off=few(invoice.written_off),
    )


async def test_the_erps_are_those_of_the_trade(database, superuser, trade, capsys):
    with logs_as_before():
        logs.configure("text", "WARNING", lasting=False)
        assert await demo_on(database, trade, as_json=True) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["replay"]["verify"] == "clean"
    steps = [step for step in shown["tour"] if step["call"].startswith("erp ")]
    before, no_conflict, came_in, both, decided, dry, applied = (x["answer"] for x in steps)

    opening, sold = opening_stock(trade), _sold(trade)
    quiet = {"checked": 3, "changes": [], "conflicts": 0, "errors": []}
    assert before == no_conflict == quiet
    left = opening[HEART] - sold[HEART]
    assert f"{HEART}: {left} here, {opening[HEART]} in Oblio" in steps[1]["step"]

    assert opening[EGG_HOUSE] == 0
    changed = [f"{EGG_HOUSE}: stock_total 0 -> 24", f"{EGG_HOUSE}: stock_available 0 -> 24"]
    assert came_in == {**quiet, "changes": changed}

    (conflict,) = both
    here = opening[CAKE_STAND] - sold[CAKE_STAND]
    there = opening[CAKE_STAND] + RECEIVED
    assert (conflict["sku"], conflict["resolution"]) == (CAKE_STAND, "MANUAL_REVIEW")
    assert (conflict["localValue"], conflict["erpValue"]) == (here, there)
    assert decided["lastAgreed"] == opening[CAKE_STAND]
    assert decided["resolvedValue"] == here + RECEIVED
    assert decided["id"] in steps[4]["call"]
    review = [tuple(row) for row in await superuser.fetch(REVIEWED)]
    assert review == [("SET_VALUE", "gestionar", "numărat la raft")]

    (in_error,) = dry["errors"]
    assert in_error.startswith("22910 UNPARSEABLE_NUMBER")
    assert "22633: stock_total 0 -> 1200" in dry["changes"]
    assert applied == {**dry, "errors": []}

    totals = {row["sku"]: row["total"] for row in await superuser.fetch(TOTALS, TENANT_ID)}
    assert totals == {
        HEART: left,
        CAKE_STAND: here + RECEIVED,
        EGG_HOUSE: Decimal(24),
        "22633": Decimal(1200),
        "22469": Decimal(60),
    }


async def test_people_read_the_same_steps(database, trade, capsys):
    with logs_as_before():
        logs.configure("text", "WARNING", lasting=False)
        assert await demo_on(database, trade, as_json=False) == 0
    shown = capsys.readouterr().out
    for call in (
        "erp sync OBLIO --full\n",
        "erp sync OBLIO --full --strategy manual\n",
        "--because 'numărat la raft'\n",
        "erp sync CSV_IMPORT --full --dry-run\n",
        "erp apply ",
    ):
        assert call in shown
    assert "│ verify" in shown
    assert "clean" in shown


def _sold(trade: Trade) -> dict[str, int]:
    """What was asked for, which is what was sold where there is enough."""
    return {
        sku: sum(x.quantity for i in trade.invoices for x in i.sold if x.sku == sku) for sku in SKUS
    }
