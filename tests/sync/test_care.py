"""Where a sync could do harm quietly: drifts, guards that look away, decisions on old figures."""

from dataclasses import replace
from decimal import Decimal

import asyncpg
import pytest

from cerniq_stock.domain.model import ProductStatus
from cerniq_stock.domain.sync import Strategy
from cerniq_stock.erp.rows import ErrorCode, Parsed, PayloadError, Remark
from cerniq_stock.erp.text import sku_key
from cerniq_stock.errors import InvalidInputError, UnavailableError
from cerniq_stock.store import syncing
from cerniq_stock.store.catalog import NewProduct
from cerniq_stock.store.database import create_pool
from cerniq_stock.sync.result import MOST_TOLD
from cerniq_stock.sync.review import Resolution, Review
from cerniq_stock.sync.run import SnapshotRefusedError
from cerniq_stock.wire import dumps
from tests.sync.conftest import Told, row
from tests.sync.test_run import sell


@pytest.fixture
async def review(shop):
    async with create_pool(shop.stock.dsn, "cerniq_app", max_size=2) as pool:
        yield Review(shop.stock.dsn, pool)


@pytest.mark.parametrize("strategy", Strategy)
async def test_an_erp_that_books_a_round_later_drifts_nowhere(shop, strategy):
    merging = shop.by(strategy)
    await merging.sync("A=20", "B=9", "C=9")
    for round_ in range(6):
        await sell(shop, "A", 1)
        result = await merging.sync(f"A={20 - round_}", "B=9", "C=9")
        assert result.conflicts == ()
        assert (await shop.levels())["A@MAIN"] == f"{19 - round_} 0 0"


async def test_two_of_the_erps_warehouses_that_are_one_here_are_summed(shop):
    both = shop.having(warehouses={"W1": "MAIN", "W2": "MAIN"})
    await both.sync("A@W1=5", "A@W2=5", "B@W1=5", "B@W2=3")
    assert await shop.levels() == {"A@MAIN": "10 0 0", "B@MAIN": "8 0 0"}


async def test_the_first_snapshot_is_guarded_too(shop):
    for sku in "ABC":
        await shop.stock.receive(shop.tenant, sku, 5)
    with pytest.raises(SnapshotRefusedError, match="3 of 3"):
        await shop.sync("A=0", "B=0", "C=0")


async def test_a_whole_reading_is_guarded_whatever_it_is_called(shop):
    await shop.sync("A=1", "B=1", "C=1", kind="INCREMENTAL")
    with pytest.raises(SnapshotRefusedError, match="1 rows"):
        await shop.sync("A=1", kind="INCREMENTAL")


async def test_what_is_refused_makes_no_products(shop):
    await shop.sync("A=1", "B=1", "C=1")
    with pytest.raises(SnapshotRefusedError):
        await shop.having(create_unknown=True).sync("NEW=1")
    assert not await shop.operator.fetchval("SELECT count(*) FROM products WHERE sku = 'NEW'")


async def test_a_row_without_a_sku_is_no_failed_run(shop):
    nameless = Remark("data[0]", "cod", ErrorCode.MISSING_SKU, None, None)
    await shop.sync(source=Told([Parsed((row("A=1"),), (nameless,))]))
    assert await shop.operator.fetchval("SELECT status FROM stock_sync_logs") == "PARTIAL"


async def test_a_conflict_is_over_when_the_erp_takes_its_figure_back(shop, review):
    await shop.sync("A=10")
    await sell(shop, "A", 3)
    await shop.by(Strategy.MANUAL).sync("A=12")
    await shop.by(Strategy.MANUAL).sync("A=10")
    assert await review.conflicts(shop.tenant) == ()


async def test_nobody_decides_about_figures_that_have_moved(shop, review):
    await shop.sync("A=10")
    await sell(shop, "A", 3)
    await shop.by(Strategy.MANUAL).sync("A=12")
    (conflict,) = await review.conflicts(shop.tenant)
    await sell(shop, "A", 4)
    with pytest.raises(InvalidInputError, match="there are 3 here"):
        await review.resolve(shop.tenant, conflict.id, Resolution.SET_VALUE, value=9, by="clerk")
    (again,) = await review.conflicts(shop.tenant)
    assert again.local_value == 3
    with pytest.raises(InvalidInputError):
        await review.resolve(
            shop.tenant, conflict.id, Resolution.SET_VALUE, value="2.5", by="clerk"
        )
    await review.resolve(shop.tenant, conflict.id, Resolution.SET_VALUE, value=5, by="clerk")
    assert await shop.levels() == {"A@MAIN": "5 0 0"}


async def test_what_breaks_a_run_off_is_logged(shop):
    source = Told([Parsed((row("A=1"),))], fails=ValueError("strange"))
    with pytest.raises(ValueError, match="strange"):
        await shop.sync(source=source)
    assert await shop.operator.fetchval("SELECT status FROM stock_sync_logs") == "FAILED"


async def test_a_conflict_shows_where_both_stood_last(shop, review):
    await shop.sync("A=10")
    await sell(shop, "A", 2)
    await shop.sync("A=8")
    await sell(shop, "A", 1)
    await shop.by(Strategy.MANUAL).sync("A=13")
    (conflict,) = await review.conflicts(shop.tenant)
    assert (conflict.local_value, conflict.erp_value, conflict.last_agreed) == (7, 13, 8)


async def test_skus_are_compared_as_text_not_as_bytes(shop):
    caffe, decomposed = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"
    made = shop.having(create_unknown=True)
    await made.sync(f"{caffe}=1", "A=1", "B=1")
    await made.sync(f"{decomposed}=2", "A=1", "B=1")
    assert (await shop.levels())[f"{caffe}@MAIN"] == "2 0 0"


@pytest.mark.parametrize(
    "options", [{"default_warehouse": "NOPE"}, {"warehouses": {"W": "NOPE"}}], ids=str
)
async def test_no_stock_comes_into_warehouses_that_are_none(shop, options):
    with pytest.raises(InvalidInputError, match="no warehouse NOPE"):
        await shop.having(**options).sync("A=100")
    assert await shop.levels() == {}


async def test_a_snapshot_that_is_right_is_accepted_and_sales_are_remembered(shop):
    """Unlike force, which forgets what the ERP has not booked."""
    await shop.sync("A=10", "B=1", "C=1")
    await sell(shop, "A", 3)
    with pytest.raises(SnapshotRefusedError, match="--accept-snapshot"):
        await shop.sync("A=10")
    await shop.sync("A=10", accept=True)
    assert (await shop.levels())["A@MAIN"] == "7 0 0"


async def test_a_snapshot_of_which_no_row_can_be_used_is_refused(shop):
    errors = tuple(
        Remark(f"data[{n}]", "stock", ErrorCode.UNPARSEABLE_NUMBER, "x", sku)
        for n, sku in enumerate("ABC")
    )
    source = Told([Parsed((), errors=errors)], mark={"day": 1})
    with pytest.raises(SnapshotRefusedError, match=r"UNPARSEABLE_NUMBER \(3\), such as A"):
        await shop.sync(source=source)
    assert await shop.operator.fetchval("SELECT watermark FROM erp_integrations") is None


async def test_a_level_that_somebody_holds_for_too_long_is_said(shop, monkeypatch):
    await shop.sync("A=50")
    impatient = {**syncing.SETTINGS, "lock_timeout": "50ms"}
    monkeypatch.setattr(syncing, "SETTINGS", impatient)
    other = await asyncpg.connect(shop.stock.dsn, server_settings={"search_path": "cerniq"})
    await other.execute("BEGIN; SELECT FROM stock_levels FOR UPDATE")
    with pytest.raises(UnavailableError, match="too long"):
        await shop.sync("A=60")
    await other.execute("ROLLBACK")
    await other.close()
    await shop.sync("A=60")
    assert await shop.levels() == {"A@MAIN": "60 0 0"}


async def test_a_product_is_made_with_the_state_that_the_erp_says(shop):
    making = shop.having(create_unknown=True)
    result = await making.sync(row("NEW=1", status=ProductStatus.INACTIVE))
    (made,) = [x for x in result.changes if x.change_type == "CREATE"]
    assert (made.field, made.new_value) == ("status", "INACTIVE")


async def test_why_no_row_can_be_used_is_said_by_the_commonest_error(shop):
    broken = Remark("line 6", "stock", ErrorCode.UNPARSEABLE_NUMBER, "12 buc", "A")
    page = Parsed((row("A@X=1"), row("B@X=2"), row("C@Y=3")), errors=(broken,))
    with pytest.raises(SnapshotRefusedError, match=r"UNKNOWN_WAREHOUSE \(3\), UNPARS.*such as A: "):
        await shop.sync(source=Told([page]))


async def test_what_is_told_of_another_place_is_not_missing(shop):
    await shop.sync("A=1", "B=2", "C=3")
    result = await shop.sync("A@ELSEWHERE=1", "A@ELSEWHERE=1", "B=2", accept=True)
    assert [x.code for x in result.errors] == ["UNKNOWN_WAREHOUSE"] * 2
    assert result.missing == ("C",)
    assert (result.statistics.total_products, result.statistics.products_checked) == (1, 1)


async def test_a_remark_about_an_empty_sku_is_told_and_stops_nobody(shop):
    broken = Remark("data[1]", "sku", ErrorCode.MISSING_SKU, "", "")
    result = await shop.sync(more=Parsed((row("A=1"),), errors=(broken,)))
    assert [x.code for x in result.errors] == ["MISSING_SKU"]
    assert await shop.levels() == {"A@MAIN": "1 0 0"}


async def test_a_catalogue_half_in_error_is_no_smaller_the_second_time(shop):
    """What is compared is what could be used, then and now."""
    bad = Parsed(
        errors=tuple(
            Remark(f"data[{n}]", "stock", ErrorCode.UNPARSEABLE_NUMBER, "x", sku)
            for n, sku in enumerate("BC")
        )
    )
    for _ in range(2):
        result = await shop.sync("A=5", more=bad)
        assert result.statistics.errors_count == 2


async def test_force_believes_the_erp_and_no_mistake(shop):
    await shop.sync("A=5", "B=5", "C=5")
    with pytest.raises(SnapshotRefusedError, match="3 of 3"):
        await shop.sync("A=0", "B=0", "C=0", force=True)
    await shop.sync("A=0", "B=0", "C=0", force=True, accept=True)
    assert await shop.levels() == {}


async def test_changes_may_empty_no_more_than_a_catalogue(shop):
    await shop.sync("A=5", "B=5", "C=5", "A@DEPOT=5")
    since = replace(shop, integration=replace(shop.integration, watermark={"day": 1}))
    with pytest.raises(SnapshotRefusedError, match="The changes would empty 3 of 4 levels"):
        await since.sync("A=0", "B=0", "C=0", kind="INCREMENTAL")
    await since.sync("A=0", kind="INCREMENTAL")
    assert await shop.levels() == {"B@MAIN": "5 0 0", "C@MAIN": "5 0 0", "A@DEPOT": "5 0 0"}
    # somebody has named them
    await shop.sync("B=0", "C=0", "A@DEPOT=0", kind="SELECTIVE", skus=("A", "B", "C"))
    assert await shop.levels() == {}


async def test_stock_that_is_there_and_all_committed_is_none(shop):
    await shop.sync("A=5/5", "B=5/5", "C=5/5")
    with pytest.raises(SnapshotRefusedError, match="3 of 3"):
        await shop.sync("A=5/0", "B=5/0", "C=5/0")
    await shop.having(use_erp_available=False).sync("A=5/0", "B=5/0", "C=5/0")
    assert (await shop.levels())["A@MAIN"] == "5 0 0"


async def test_where_nothing_may_be_emptied_one_is_too_many(shop):
    await shop.sync("A=5", "B=5", "C=5")
    with pytest.raises(SnapshotRefusedError, match="1 of 3"):
        await shop.having(max_zero_share=0.0).sync("A=0", "B=5", "C=5")
    await shop.sync("A=0", "B=5", "C=5")


async def test_a_dry_run_names_all_that_it_would_change(shop):
    skus = [f"P{n:03}" for n in range(300)]
    await shop.stock.import_products(shop.tenant, [NewProduct(sku, sku) for sku in skus])
    told = [f"{sku}=5" for sku in skus]
    would = await shop.sync(*told, dry=True)
    assert [(x.sku, x.field) for x in would.changes] == [
        (sku, field) for sku in skus for field in ("stock_total", "stock_available")
    ]
    done = await shop.sync(*told)
    assert len(done.changes) == MOST_TOLD
    assert set(done.changes) < set(would.changes)
    assert done.changes_count == would.changes_count == 600


async def test_a_dry_run_and_the_run_name_the_same_in_one_order(shop):
    """Whichever of the lanes is faster."""
    skus = [f"P{n:03}" for n in range(40)]
    await shop.stock.import_products(shop.tenant, [NewProduct(sku, sku) for sku in skus])
    for stock in range(1, 4):
        told = [f"{sku}={stock}" for sku in skus]
        would = await shop.sync(*told, dry=True)
        done = await shop.sync(*told)
        assert done.changes == would.changes


async def test_a_price_waits_for_all_of_its_product(shop):
    """One warehouse's price is not the product's where another one may say otherwise."""
    ten, twelve = {"price": Decimal(10)}, {"price": Decimal(12), "status": "INACTIVE"}

    async def price():
        return await shop.operator.fetchval(
            "SELECT (price, status)::text FROM products WHERE sku = 'A'"
        )

    await shop.sync(row("A=5", **ten), row("A@DEPOT=5", **twelve))
    before = await price()
    since = replace(shop, integration=replace(shop.integration, watermark={"day": 1}))
    for changed in (row("A=4", **ten), row("A@DEPOT=4", **twelve)):
        await since.sync(changed, kind="INCREMENTAL")
        assert await price() == before
    assert (await shop.levels())["A@DEPOT"] == "4 0 0"
    both = row("A=4", **twelve), row("A@DEPOT=4", **twelve)
    await since.sync(*both, kind="INCREMENTAL")
    assert await price() == "(12.0000,INACTIVE)"


async def test_a_price_of_no_currency_is_none_in_another_currency(shop):
    await shop.sync(row("A=5", price=Decimal(10), currency="EUR"))
    result = await shop.sync(row("A=5", price=Decimal(49)))
    assert [(x.sku, x.code) for x in result.warnings] == [("A", "PRICE_WITHOUT_CURRENCY")]
    assert result.changes == ()
    await shop.sync(row("A=5", price=Decimal(49), currency="RON"))
    result = await shop.sync(row("A=5", price=Decimal(50)))
    assert [(x.field, x.new_value) for x in result.changes] == [("price", 50)]
    assert result.warnings == ()


async def test_what_was_asked_for_is_found_however_it_is_written(shop):
    """An old letter with a cedilla, blanks around it, a warehouse that is none here."""
    screw, theirs = "\N{LATIN CAPITAL LETTER S WITH COMMA BELOW}URUB", "\u015eURUB"
    await shop.stock.import_products(shop.tenant, [NewProduct(screw, screw)])
    spelled = {sku_key(screw): screw}
    mine = replace(shop, integration=replace(shop.integration, spelled=spelled))
    bad = Remark("x", "stock", ErrorCode.UNPARSEABLE_NUMBER, "?", "B", "ELSEWHERE")
    result = await mine.sync(
        row(f"{theirs}=4"),
        more=Parsed(errors=(bad,)),
        kind="WEBHOOK",
        skus=(f" {theirs} ", "B", "C"),
    )
    assert (await shop.levels())[f"{screw}@MAIN"] == "4 0 0"
    assert result.missing == ("C",)


@pytest.mark.parametrize("hostile", ["1\0", "\udc00", "x\0\ud800y"])
async def test_no_text_of_an_erp_keeps_a_run_from_being_written_down(shop, hostile):
    """PostgreSQL takes neither NUL nor half a character."""
    bad = Remark("data[1]", "stock", ErrorCode.UNPARSEABLE_NUMBER, hostile, "B")
    elsewhere = replace(row("C=1"), warehouse=hostile)
    result = await shop.sync("A=5", elsewhere, more=Parsed(errors=(bad,)))
    assert [error.sku for error in result.errors] == ["C", "B"]
    dumps(result).encode()
    status = "SELECT status FROM stock_sync_logs ORDER BY id DESC LIMIT 1"
    assert await shop.operator.fetchval(status) == "PARTIAL"
    strange = Told([Parsed((row("A=1"),))], fails=PayloadError(hostile))
    with pytest.raises(PayloadError):
        await shop.sync(source=strange)
    assert await shop.operator.fetchval(status) == "FAILED"
