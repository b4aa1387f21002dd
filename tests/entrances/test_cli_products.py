"""Products from CSV: what is read, and what becomes of it."""

from dataclasses import asdict

from cerniq_stock.store.catalog import NewProduct
from tests.entrances.conftest import PRODUCTS, digest, sql


def test_import_creates_then_updates(ok, shop, tmp_path):
    path = tmp_path / "products.csv"
    text = PRODUCTS.replace("650", "599.5") + "NEW,Nou,SET,,,,,,\n"
    path.write_text(text, encoding="utf-8-sig")
    dry = ok("product", "import", str(path), "--dry-run", "--json")
    assert dry.document == {"products": 5, "created": 1, "updated": 4, "dryRun": True}
    assert len(ok("product", "list", "--json").document) == 4
    assert ok("product", "import", str(path)).stdout == "1 created, 4 updated\n"
    found = {each["sku"]: each for each in ok("product", "list", "--json").document}
    assert found["CHAIR"]["price"] == 599.5
    assert found["FLOUR-000"]["name"] == "Făină albă 000"
    assert found["NEW"]["unit"] == "SET"
    assert found["NEW"]["currency"] == "RON"
    assert found["LAPTOP-14"]["expectedRestockDate"] == "2026-12-31"


def test_a_column_left_out_is_set_back_to_its_default(ok, dsn, shop):
    """As the command's help says, which names the defaults."""
    others = "SELECT p::text FROM products AS p WHERE sku <> 'LAPTOP-14' ORDER BY sku"
    levels = "SELECT s::text FROM stock_levels AS s ORDER BY 1"
    before = sql(dsn, others), sql(dsn, levels)
    ok("product", "import", "-", stdin="sku,name\nLAPTOP-14,Laptop\n")
    default = asdict(NewProduct("LAPTOP-14", "Laptop"))
    del default["id"]
    (row,) = sql(dsn, f"SELECT {','.join(default)} FROM products WHERE sku = 'LAPTOP-14'")
    assert dict(row) == default
    assert (sql(dsn, others), sql(dsn, levels)) == before
    *told, price, currency, point, amount, _ = list(default.values())[2:]
    said = ", ".join([*told, "no price", currency, str(point), f"{amount} and no date"])
    assert price is None
    assert f"The defaults are {said}." in " ".join(ok("product", "import", "--help").stdout.split())


def test_columns_may_come_in_any_order_and_case(ok, shop):
    ok("product", "import", "-", stdin="Name , SKU,unit\r\nCablu,CABLE-1,m\r\n\r\n")
    (found,) = ok("product", "list", "--search", "CABLE-1", "--json").document
    assert (found["name"], found["unit"]) == ("Cablu", "M")


def test_a_unit_stays_once_stock_was_moved_in_it(cli, ok, dsn, shop):
    text = "sku,name,unit\nLAPTOP-14,Laptop,KG\nX,Y,BUC\n"
    before = digest(dsn)
    for more in ((), ("--dry-run",)):
        result = cli("product", "import", "-", *more, stdin=text)
        assert result.exit_code == 5
        assert result.stderr.splitlines()[-1] == (
            "Error: The unit of LAPTOP-14 stays BUC: its stock was moved in it"
        )
    assert digest(dsn) == before
    ok("product", "import", "-", stdin="sku,name,unit\nCHAIR,Scaun,SET\n")


def test_an_empty_list_is_fine(ok, shop):
    assert ok("product", "import", "-", stdin="sku,name\n").stdout == "0 created, 0 updated\n"
