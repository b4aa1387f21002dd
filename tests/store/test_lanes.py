"""Which lane of a sync a SKU is in, said alike by Python, which sends it, and by the database."""

from cerniq_stock.store import staging
from cerniq_stock.store.staging import lane_of

SQL = (
    "SELECT (length(s) - length(translate(s, $2, ''))) % 2"
    " FROM unnest($1::text[]) WITH ORDINALITY AS x (s, n) ORDER BY n"
)


async def test_both_say_the_same(superuser):
    written = "(length(sku) - length(translate(sku, $3, ''))) % 2"
    assert written in staging.SQL["stage_plan"], "this is about what the statements say"
    screw = "\N{LATIN CAPITAL LETTER S WITH COMMA BELOW}URUB-1"
    skus = ["A", "SKU-000120", screw, "a b\N{SNOWMAN}", *map(chr, range(1, 256))]
    rows = await superuser.fetch(SQL, skus, staging._ODD)
    assert [row[0] for row in rows] == [lane_of(sku) for sku in skus]


def test_skus_that_begin_and_end_alike_are_not_all_in_one():
    lanes = [lane_of(f"SKU-{number:05}0-RO") for number in range(100)]
    assert sum(lanes) == 50
