"""Syncs among reservations, and runs that die: nothing is promised twice, nothing applied twice."""

import asyncio
import random
from decimal import Decimal

import pytest

from cerniq_stock.domain import align
from cerniq_stock.domain.commands import Item
from cerniq_stock.domain.sync import Strategy
from cerniq_stock.erp.rows import Parsed
from cerniq_stock.store.staging import Lane
from cerniq_stock.store.transaction import Transaction
from cerniq_stock.sync.run import Run
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


@pytest.mark.parametrize("place", ["plain", "one by one"])
async def test_a_run_that_dies_in_the_middle_goes_on_where_it_was(shop, monkeypatch, place):
    """What it had applied is remembered and found unchanged; the rest follows."""
    await shop.sync("A=100", "B=100", "C=100")
    monkeypatch.setattr("cerniq_stock.sync.applying.CHUNK", 1)
    if place != "plain":  # what a reservation is in the way of
        for sku in "ABC":
            await shop.stock.reserve(shop.tenant, shop.negotiation, [Item(sku, 90)])
    where, name = (Lane, "apply_plain") if place == "plain" else (Transaction, "run")
    step, left = getattr(where, name), [2]

    async def dies(*arguments, **more):
        if not left[0]:
            raise asyncio.CancelledError
        left[0] -= 1
        return await step(*arguments, **more)

    monkeypatch.setattr(where, name, dies)
    source = Told([Parsed((row("A=50"), row("B=60"), row("C=70")))])
    with pytest.raises(asyncio.CancelledError):
        await shop.by(Strategy.MERGE).sync(source=source)
    left[0] = -1
    half = await totals(shop)
    assert half not in ([100, 100, 100], [50, 60, 70]), "it died in the middle"
    result = await shop.by(Strategy.MERGE).sync(source=source)
    assert await totals(shop) == [50, 60, 70]
    assert result.conflicts == ()
    moved = "SELECT count(*) FROM stock_movements WHERE type = 'SYNC'"
    assert await shop.operator.fetchval(moved) == 6
    assert (await shop.stock.verify()).ok


async def totals(shop) -> list[int]:
    sql = (
        "SELECT l.total FROM stock_levels AS l JOIN products AS p"
        " ON p.tenant_id = l.tenant_id AND p.id = l.product_id"
        " WHERE l.warehouse = 'MAIN' ORDER BY p.sku"
    )
    return [x["total"] for x in await shop.operator.fetch(sql)]


async def test_a_run_that_was_killed_leaves_a_trace(shop, monkeypatch):
    """No process that is killed writes anything down; the next run does it for it."""

    async def killed(*_, **__):
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(Run, "_logged", killed)  # nor is its end written down
        with pytest.raises(asyncio.CancelledError):
            await shop.sync("A=5")
    statuses = "SELECT status FROM stock_sync_logs ORDER BY id"
    assert [x["status"] for x in await shop.operator.fetch(statuses)] == ["RUNNING"]
    await shop.sync("A=5")
    rows = await shop.operator.fetch("SELECT * FROM stock_sync_logs ORDER BY id")
    assert [(x["status"], x["error_message"]) for x in rows] == [
        ("FAILED", "The run was cut off"),
        ("SUCCESS", None),
    ]
