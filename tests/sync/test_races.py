"""Syncs among reservations, and runs that die: nothing is promised twice, nothing applied twice."""

import asyncio
import random
from decimal import Decimal

import pytest

from cerniq_stock.domain import align
from cerniq_stock.domain.commands import Item
from cerniq_stock.domain.sync import Strategy
from cerniq_stock.erp.rows import Parsed
from cerniq_stock.store.transaction import Transaction
from tests.sync.conftest import Told, row


@pytest.mark.parametrize("strategy", ["ERP_WINS", "MERGE", "LOWER_WINS"])
async def test_reservations_go_on_while_figures_come_in(shop, strategy):
    """No oversell whatever comes in between, and every level is the sum of its movements."""
    chance = random.Random(7)
    await shop.sync("A=40", "B=40", "C=40")
    syncing = shop.by(Strategy(strategy))
    done = asyncio.Event()

    async def sell_on() -> None:
        kinds = "SOFT", "HARD"
        while not done.is_set():
            sku, kind = chance.choice("ABC"), chance.choice(kinds)
            held = await shop.stock.reserve(
                shop.tenant, shop.negotiation, [Item(sku, chance.randint(1, 4))], type=kind
            )
            if held.reservation_id is not None and chance.random() < 0.8:
                why = chance.choice(["CONSUMED", "CANCELLED"])
                await shop.stock.release(
                    shop.tenant, reservation_id=held.reservation_id, reason=why
                )

    async def tell() -> None:
        for _ in range(25):
            figures = [f"{sku}={chance.randint(5, 60)}" for sku in "ABC"]
            await syncing.sync(*figures)
        done.set()

    await asyncio.gather(tell(), *(sell_on() for _ in range(6)))
    verdict = await shop.stock.verify()
    assert verdict.ok, verdict


async def test_the_promise_is_what_the_race_would_break(shop, monkeypatch):
    """Negative control: were firm promises not looked at, the figures would not add up."""
    await shop.sync("A=10")
    await shop.stock.reserve(shop.tenant, shop.negotiation, [Item("A", 8)], type="HARD")
    decided = align.decided

    def blind(command, level, *, soft):
        return decided(command, level._replace(reserved=Decimal(0)), soft=Decimal(0))

    monkeypatch.setattr(align, "decided", blind)
    with pytest.raises(AssertionError):
        await shop.sync("A=5")


async def test_a_run_that_dies_in_the_middle_goes_on_where_it_was(shop, monkeypatch):
    """What it had applied is remembered and found unchanged; the rest follows."""
    await shop.sync("A=10", "B=10", "C=10")
    monkeypatch.setattr("cerniq_stock.sync.run.CHUNK", 1)
    run, left = Transaction.run, [2]

    async def dies(self, connection):
        if not left[0]:
            raise asyncio.CancelledError
        left[0] -= 1
        return await run(self, connection)

    monkeypatch.setattr(Transaction, "run", dies)
    source = Told([Parsed((row("A=5"), row("B=6"), row("C=7")))])
    with pytest.raises(asyncio.CancelledError):
        await shop.by(Strategy.MERGE).sync(source=source)
    left[0] = -1
    half = await shop.levels()
    assert set(half.values()) & {"10 0 0"}, "it died in the middle"
    result = await shop.by(Strategy.MERGE).sync(source=source)
    assert await shop.levels() == {"A@MAIN": "5 0 0", "B@MAIN": "6 0 0", "C@MAIN": "7 0 0"}
    assert result.conflicts == ()
    moved = "SELECT count(*) FROM stock_movements WHERE type = 'SYNC'"
    assert await shop.operator.fetchval(moved) == 6
    assert (await shop.stock.verify()).ok
