"""Files that a job names: below the tenant's own folder, whole catalogues, and only once news."""

from types import SimpleNamespace

import pytest

from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.secrets import new_key, read_keys
from cerniq_stock.erp.trouble import ErpError
from cerniq_stock.errors import InvalidInputError
from cerniq_stock.integrations import Integrations
from cerniq_stock.jobs.payloads import SyncErp
from cerniq_stock.store.catalog import NewProduct
from cerniq_stock.store.database import create_pool
from cerniq_stock.sync.result import Asked, SyncType
from cerniq_stock.sync.run import SnapshotRefusedError
from cerniq_stock.sync.syncs import Syncs

KEYS = read_keys(new_key("k1"))


@pytest.fixture
async def desk(shop, tmp_path):
    """The shop with an integration of files; `run` is what a job's payload asks for."""
    own = tmp_path / str(shop.tenant)
    own.mkdir()
    dsn = shop.stock.dsn
    async with (
        create_pool(dsn, "cerniq_app", max_size=4) as app,
        create_pool(dsn, "cerniq_operator", max_size=1) as operator,
    ):
        integrations = Integrations(
            app, operator, keys=lambda: KEYS, policy=Policy(), files=tmp_path
        )
        syncs = Syncs(dsn, app, integrations)
        config = {"connection": {"file": "stock.csv", "settleS": 0}}
        await integrations.add(shop.tenant, "CSV_IMPORT", name="Files", config=config)

        async def run(**more):
            payload = {"tenantId": str(shop.tenant), "erpSystem": "CSV_IMPORT", **more}
            asked = SyncErp.model_validate(payload)
            return await syncs.run(shop.tenant, asked.erp_system, asked.asked())

        yield SimpleNamespace(
            run=run, syncs=syncs, own=own, root=tmp_path, integrations=integrations
        )


def put(path, *lines):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["Cod;Stoc", *lines, ""]))


async def test_a_job_names_a_file(shop, desk):
    put(desk.own / "stock.csv", "A;1", "B;1")
    await desk.run()
    put(desk.own / "in" / "today.csv", "A;7", "B;2")
    result = await desk.run(file="in/today.csv")
    assert (result.sync_type, result.statistics.products_updated) == ("FULL", 2)
    # the usual file is older, and was read before
    assert (await desk.run()).statistics.products_checked == 0
    assert await shop.levels() == {"A@MAIN": "7 0 0", "B@MAIN": "2 0 0"}


# what our product is called, and how another code page writes it
SPELLINGS = [("ȘURUB", "ŞURUB"), ("ŞURUB", "ȘURUB"), ("țeavă", "ţeavă"), ("ȘȚ", "S\u0326Ț")]


@pytest.mark.parametrize(("ours", "theirs"), SPELLINGS)
async def test_old_letters_are_those_of_our_products(shop, desk, ours, theirs):
    await shop.stock.import_products(shop.tenant, [NewProduct(ours, ours)])
    put(desk.own / "stock.csv", f"{theirs};7")
    result = await desk.run()
    assert (result.unknown, await shop.levels()) == ((), {f"{ours}@MAIN": "7 0 0"})
    put(desk.own / "stock.csv", f"{theirs};x", "A;2")
    result = await desk.run()
    assert (await shop.levels())[f"{ours}@MAIN"] == "7 0 0"
    assert result.missing == ()
    put(desk.own / "stock.csv", f"{theirs};9", "A;3")
    await desk.run(syncType="SELECTIVE", skus=[ours])
    assert await shop.levels() == {f"{ours}@MAIN": "9 0 0", "A@MAIN": "2 0 0"}


async def test_a_line_of_another_length_leaves_its_product_alone(shop, desk):
    header = "Cod;Lot;Stoc"
    (desk.own / "stock.csv").write_text(f"{header}\nA;L1;5\nA;L2;3\nB;;1\nC;;1\nD;;1\n")
    await desk.run()
    (desk.own / "stock.csv").write_text(f"{header}\nA;L1;5\nA;L2;2;x\nB;\nC;;2\nD;;2\n")
    result = await desk.run()
    assert [(x.sku, x.code) for x in result.errors] == [
        *(("A", "WRONG_FIELD_COUNT"), ("B", "WRONG_FIELD_COUNT"))
    ]
    assert result.missing == ()
    assert await shop.levels() == {"A@MAIN": "8 0 0", "B@MAIN": "1 0 0", "C@MAIN": "2 0 0"}


async def test_what_we_have_in_both_ways_is_two_products(shop, desk):
    both = [NewProduct(sku, sku) for sku in ("ŞA", "ȘA")]
    await shop.stock.import_products(shop.tenant, both)
    put(desk.own / "stock.csv", "ŞA;7")
    await desk.run()
    assert await shop.levels() == {"ŞA@MAIN": "7 0 0"}


async def test_a_file_that_is_missing_is_logged(shop, desk):
    put(desk.own / "stock.csv", "A;1")
    await desk.run()
    (desk.own / "stock.csv").unlink()
    with pytest.raises(ErpError):
        await desk.run()
    kept = await shop.operator.fetch("SELECT status FROM stock_sync_logs ORDER BY started_at")
    assert [row["status"] for row in kept] == ["SUCCESS", "FAILED"]


async def test_a_named_file_is_guarded_as_every_catalogue(shop, desk):
    put(desk.own / "stock.csv", "A;1", "B;1", "C;1")
    await desk.run()
    put(desk.own / "part.csv", "A;7")
    with pytest.raises(SnapshotRefusedError):
        await desk.run(file="part.csv")
    assert (await shop.levels())["A@MAIN"] == "1 0 0"


@pytest.mark.parametrize(
    "path",
    ["../stock.csv", "/etc/passwd", "in/../../x", "in//x", "./x", "in\\x", "x\ny", "x" * 501, ".."],
)
async def test_no_path_leads_out(desk, path):
    put(desk.root / "stock.csv", "A;9")
    with pytest.raises(InvalidInputError) as told:
        await desk.run(file=path)
    assert told.value.field == "file"
    assert path not in str(told.value)


async def test_no_link_leads_out(desk):
    put(desk.root / "other" / "stock.csv", "A;9")
    (desk.own / "in").symlink_to(desk.root / "other")
    (desk.own / "link.csv").symlink_to(desk.root / "other" / "stock.csv")
    for path in ("in/stock.csv", "link.csv", "none.csv"):
        with pytest.raises(ErpError):
            await desk.run(file=path)


async def test_who_is_asked_takes_no_files(shop, desk):
    connection = {"baseUrl": "https://saga.example", "apiKey": "k", "companyCode": "F1"}
    await desk.integrations.remove(shop.tenant, "SAGA")
    await desk.integrations.add(shop.tenant, "SAGA", name="SAGA", config={"connection": connection})
    with pytest.raises(InvalidInputError, match="takes no files"):
        await desk.run(erpSystem="SAGA", file="stock.csv")


async def test_single_products_are_not_taken_from_a_file_that_was_read_before(shop, desk):
    """What was handed over since may be newer."""
    put(desk.own / "stock.csv", "A;1")
    await desk.run()
    put(desk.own / "in" / "newer.csv", "A;9")
    await desk.run(file="in/newer.csv")
    with pytest.raises(InvalidInputError, match="read before"):
        await desk.run(syncType="SELECTIVE", skus=["A"])
    assert await shop.levels() == {"A@MAIN": "9 0 0"}


async def test_who_names_skus_wants_no_other(shop, desk):
    asked = Asked(kind=SyncType.FULL, skus=("A",))
    with pytest.raises(InvalidInputError) as refused:
        await desk.syncs.run(shop.tenant, "CSV_IMPORT", asked)
    assert refused.value.field == "skus"
