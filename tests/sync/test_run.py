"""What a sync makes of figures: READING 20 to 30, case by case."""

from dataclasses import replace
from decimal import Decimal

import pytest

from cerniq_stock.domain.commands import Item
from cerniq_stock.domain.model import ProductStatus
from cerniq_stock.domain.sync import Strategy
from cerniq_stock.erp.rows import ErrorCode, Parsed, Remark
from cerniq_stock.erp.trouble import ErpError
from cerniq_stock.store.staging import staging
from cerniq_stock.store.syncing import BusyError
from cerniq_stock.sync.run import SnapshotRefusedError
from tests.sync.conftest import Told, row


async def sell(shop, sku: str, quantity: int) -> None:
    """Reserve and sell: the ERP does not know of it."""
    held = await shop.stock.reserve(shop.tenant, shop.negotiation, [Item(sku, quantity)])
    await shop.stock.release(shop.tenant, reservation_id=held.reservation_id, reason="CONSUMED")


async def test_a_first_sync_takes_the_erps_figures_per_warehouse(shop):
    result = await shop.sync("A=5", "A@DEPOT=2", "B=7", "C=2.5")
    assert await shop.levels() == {
        "A@MAIN": "5 0 0",
        "A@DEPOT": "2 0 0",
        "B@MAIN": "7 0 0",
        "C@MAIN": "2.5 0 0",
    }
    assert (result.success, result.statistics.products_updated) == (True, 4)
    changes = {(x.sku, x.warehouse, x.field, x.previous_value, x.new_value) for x in result.changes}
    assert ("A", "DEPOT", "stock_total", 0, 2) in changes
    again = await shop.sync("A=5", "A@DEPOT=2", "B=7", "C=2.5")
    assert (again.statistics.products_updated, again.changes) == (0, ())
    assert again.statistics.products_skipped == 4
    assert (await shop.stock.verify()).ok


async def test_an_erp_that_has_not_caught_up_is_no_conflict(shop):
    await shop.sync("A=10")
    await sell(shop, "A", 3)
    result = await shop.sync("A=10")
    assert (await shop.levels(), result.conflicts) == ({"A@MAIN": "7 0 0"}, ())
    result = await shop.sync("A=7")  # now it has
    assert (await shop.levels(), result.conflicts) == ({"A@MAIN": "7 0 0"}, ())
    await shop.sync("A=20")
    assert await shop.levels() == {"A@MAIN": "20 0 0"}


@pytest.mark.parametrize(
    ("strategy", "total"),
    [("ERP_WINS", 12), ("LOCAL_WINS", 7), ("HIGHER_WINS", 12), ("LOWER_WINS", 7), ("MERGE", 9)],
)
async def test_where_both_have_changed_the_strategy_decides(shop, strategy, total):
    await shop.sync("A=10")
    await sell(shop, "A", 3)
    result = await shop.by(Strategy(strategy)).sync("A=12")
    assert await shop.levels() == {"A@MAIN": f"{total} 0 0"}
    (conflict,) = result.conflicts
    assert (conflict.resolution, conflict.requires_manual_review) == (strategy, False)
    again = await shop.by(Strategy(strategy)).sync("A=12")
    assert (await shop.levels(), again.changes) == ({"A@MAIN": f"{total} 0 0"}, ())
    assert (await shop.stock.verify()).ok


async def test_a_conflict_for_a_person_is_kept_once_and_gone_when_they_agree(shop):
    await shop.sync("A=10")
    await sell(shop, "A", 3)
    by_hand = shop.by(Strategy.MANUAL)
    for _ in range(2):
        result = await by_hand.sync("A=12")
        assert result.conflicts[0].requires_manual_review
    assert await shop.levels() == {"A@MAIN": "7 0 0"}
    rows = await shop.operator.fetch("SELECT * FROM sync_conflicts")
    assert [(x["reason"], x["local_value"], x["erp_value"], x["resolution"]) for x in rows] == [
        ("REVIEW", 7, 12, None)
    ]
    await by_hand.sync("A=7")
    assert await shop.operator.fetchval("SELECT resolution FROM sync_conflicts") == "GONE"


async def test_soft_gives_way_and_hard_is_for_a_person(shop):
    await shop.sync("A=10", "B=10")
    for sku, kind in (("A", "SOFT"), ("B", "HARD")):
        await shop.stock.reserve(shop.tenant, shop.negotiation, [Item(sku, 8)], type=kind)
    result = await shop.sync("A=5", "B=5", force=True)
    assert await shop.levels() == {"A@MAIN": "5 5 0", "B@MAIN": "10 8 0"}
    assert [x.sku for x in result.conflicts if x.requires_manual_review] == ["B"]
    await shop.sync("A=5", "B=5")  # still so, and nobody is told twice
    told = [x for x in await shop.stock.notifications(shop.tenant) if x.type == "STOCK_CONFLICT"]
    assert [(x.severity, "(SKU: B)" in x.message) for x in told] == [("CRITICAL", True)]
    assert (await shop.stock.verify()).ok


async def test_what_the_erp_has_committed_is_blocked_and_our_own_blocks_stay(shop):
    await shop.sync("A=10/7")
    assert await shop.levels() == {"A@MAIN": "10 0 3"}
    await shop.stock.adjust(shop.tenant, "A", blocked=2)
    await shop.sync("A=10/9")
    assert await shop.levels() == {"A@MAIN": "10 0 3"}  # one of the ERP's, two of ours
    await shop.having(use_erp_available=False).sync("A=10/1")
    assert await shop.levels() == {"A@MAIN": "10 0 2"}  # what it had blocked is free again


async def test_rows_in_error_are_left_alone(shop):
    await shop.sync("A=10", "B=10")
    wrong = Remark("data[0]", "stoc", ErrorCode.UNPARSEABLE_NUMBER, "12 buc", "A", None, "L1")
    result = await shop.sync(
        row("A=3", lot="L2"),
        "B=4",
        "B=5",
        "A@NOWHERE=1",
        "A@DEPOT=1.5",
        more=Parsed(errors=(wrong,)),
    )
    assert await shop.levels() == {"A@MAIN": "10 0 0", "B@MAIN": "10 0 0"}
    assert sorted((x.sku, x.code) for x in result.errors) == [
        ("A", "QUANTITY_TOO_PRECISE"),
        ("A", "UNKNOWN_WAREHOUSE"),
        ("A", "UNPARSEABLE_NUMBER"),
        ("B", "CONFLICTING_DUPLICATE"),
    ]
    assert not result.success


async def test_lots_are_summed_and_equal_rows_are_one(shop):
    await shop.sync(row("A=3", lot="L1"), row("A=3", lot="L1"), row("A=4", lot="L2"), "B=2", "B=2")
    assert await shop.levels() == {"A@MAIN": "7 0 0", "B@MAIN": "2 0 0"}


async def test_a_negative_total_is_zero_and_told(shop):
    await shop.sync("A=5", "B=5", "C=5")
    result = await shop.sync("A=-3", "B=5", "C=5", kind="FULL", force=True)
    assert "A@MAIN" not in await shop.levels()
    assert "total -3 is applied as 0" in result.warnings[0].message


async def test_unknown_products_are_listed_or_made_and_missing_ones_listed(shop):
    result = await shop.sync("A=1", "B=1", "NEW=4")
    assert (result.unknown, "NEW@MAIN" in await shop.levels()) == (("NEW",), False)
    result = await shop.having(create_unknown=True).sync("A=1", "NEW=4")
    assert (await shop.levels())["NEW@MAIN"] == "4 0 0"
    assert (result.statistics.products_created, result.missing) == (1, ("B",))
    assert (await shop.levels())["B@MAIN"] == "1 0 0"


@pytest.mark.parametrize(
    "figures", [(), ("A=1",), ("A=0", "B=0", "C=2")], ids=["empty", "shrunken", "zeroing"]
)
async def test_a_snapshot_that_looks_like_a_mistake_is_refused(shop, figures):
    await shop.sync("A=1", "B=1", "C=1")
    before = await shop.levels()
    with pytest.raises(SnapshotRefusedError):
        await shop.sync(*figures)
    assert await shop.levels() == before
    log = await shop.operator.fetchrow("SELECT * FROM stock_sync_logs ORDER BY id DESC")
    assert (log["status"], log["error_message"] is not None) == ("FAILED", True)


async def test_prices_and_states_follow(shop):
    more = {"price": Decimal("12.5"), "currency": "EUR", "status": ProductStatus.INACTIVE}
    result = await shop.sync(row("A=1", **more), "B=1")
    found = await shop.operator.fetchrow("SELECT * FROM products WHERE sku = 'A'")
    assert (found["price"], found["currency"], found["status"]) == (
        Decimal("12.5"),
        "EUR",
        "INACTIVE",
    )
    assert {(x.field, str(x.new_value)) for x in result.changes if x.sku == "A"} >= {
        ("price", "12.5000"),
        ("status", "INACTIVE"),
    }


async def test_a_source_that_fails_in_the_middle_changes_nothing(shop):
    source = Told([Parsed((row("A=5"),))], fails=ErpError("cut"))
    with pytest.raises(ErpError):
        await shop.sync(source=source)
    assert await shop.levels() == {}
    assert await shop.operator.fetchval("SELECT status FROM stock_sync_logs") == "FAILED"


async def test_the_watermark_moves_with_the_rows(shop):
    source = Told([Parsed((row("A=5"),))], mark={"day": "2026-11-20"})
    await shop.sync(source=source)
    found = await shop.operator.fetchrow("SELECT * FROM erp_integrations")
    assert (found["watermark"], found["last_sync_status"]) == ('{"day": "2026-11-20"}', "SUCCESS")
    source.mark = {"day": "2026-11-21"}
    await shop.sync(source=source, kind="SELECTIVE", skus=("A",))
    assert '"2026-11-20"' in await shop.operator.fetchval("SELECT watermark FROM erp_integrations")


async def test_changes_that_could_not_be_used_are_read_again(shop):
    marked = "SELECT watermark FROM erp_integrations"
    source = Told([Parsed((row("A=5"), row("B=0.5")))], mark={"day": 1})
    shop = replace(shop, integration=replace(shop.integration, watermark={"day": 0}))
    result = await shop.sync(source=source, kind="INCREMENTAL")
    assert [x.code for x in result.errors] == ["QUANTITY_TOO_PRECISE"]
    assert (await shop.levels(), source.asked) == ({"A@MAIN": "5 0 0"}, [{"day": 0}])
    assert await shop.operator.fetchval(marked) is None
    await shop.sync(source=source)  # of the whole catalogue it is known
    assert await shop.operator.fetchval(marked) == '{"day": 1}'


async def test_one_run_at_a_time(shop):
    async with staging(shop.stock.dsn, shop.tenant, shop.integration.id):
        with pytest.raises(BusyError):
            await shop.sync("A=5")
    await shop.sync("A=5")


async def test_a_dry_run_tells_the_same_and_changes_nothing(shop):
    await shop.sync("A=10", "B=10")
    await sell(shop, "A", 2)
    figures = ("A=12", "B=4", "C=1.25")
    merging = shop.by(Strategy.MERGE)
    dry = await merging.sync(*figures, dry=True)
    assert await shop.levels() == {"A@MAIN": "8 0 0", "B@MAIN": "10 0 0"}
    real = await merging.sync(*figures)
    assert dry.changes == real.changes
    assert dry.conflicts == real.conflicts
    assert await shop.operator.fetchval("SELECT count(*) FROM sync_plans") == 3
