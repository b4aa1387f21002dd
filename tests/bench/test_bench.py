"""Every benchmark runs, on tiny sizes, and says what is documented. No figure is asserted."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import asyncpg
import pytest
from typer.testing import CliRunner

from cerniq_stock.bench import cli
from cerniq_stock.bench.classic import Classic, open_pool
from cerniq_stock.bench.closed_loop import BUCKETS, Histogram, measure
from cerniq_stock.bench.engine import judge, opened
from cerniq_stock.bench.expire import bench_expire
from cerniq_stock.bench.fill import fill
from cerniq_stock.bench.read import bench_read
from cerniq_stock.bench.reserve import Against, bench_reserve
from cerniq_stock.bench.scratch import scratch
from cerniq_stock.bench.sync import bench_sync
from cerniq_stock.bench.verify_load import bench_verify
from cerniq_stock.bench.workload import Load, Plan, make_town, requests, sku
from cerniq_stock.domain.commands import Item
from cerniq_stock.errors import OverloadedError
from cerniq_stock.settings import Settings
from cerniq_stock.store.database import with_database

SIDE = {
    "per_second",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "cpu_us_per_answer",
    "reserved",
    "partial",
    "refused",
    "errors",
    "first_error",
    "rss_start_mb",
    "rss_end_mb",
    "windows",
}
VERDICT = {"oversold", "verified", "differences", "verify_s"}


@pytest.fixture
def settings(server: str) -> Settings:
    return Settings(database_url=server)


@pytest.fixture(autouse=True)
async def no_scratch_is_left(server: str) -> AsyncIterator[None]:
    yield
    assert await scratch_databases(server) == []


async def scratch_databases(server: str) -> list[str]:
    connection = await asyncpg.connect(with_database(server, "postgres"))
    rows = await connection.fetch(
        "SELECT datname FROM pg_database WHERE datname LIKE $1", "%bench%"
    )
    await connection.close()
    return [row["datname"] for row in rows]


# -- the load -------------------------------------------------------------------------------


@pytest.mark.parametrize("load", Load)
@pytest.mark.parametrize("lines", [1, 3])
def test_requests_have_different_products_that_exist(load, lines):
    made = requests(Plan(load, lines=lines, products=50), count=500)
    known = {sku(number) for number in range(1, 51)}
    for _ in range(500):
        names = [item.sku for item in next(made)]
        assert len(set(names)) == lines
        assert set(names) <= known


def test_hot_is_product_one_in_every_request():
    made = requests(Plan(Load.HOT, lines=2, products=50), count=100)
    assert all(next(made)[0].sku == sku(1) for _ in range(100))


def test_zipf_asks_for_few_products_often():
    made = requests(Plan(Load.ZIPF), count=10_000)
    first = sum(next(made)[0].sku == sku(1) for _ in range(10_000))
    assert 1_200 < first < 1_800


@pytest.mark.parametrize(("callers", "tenants"), [(10, 3), (3, 10), (4, 4)])
def test_every_tenant_is_served_and_every_caller_sits_somewhere(callers, tenants):
    town = make_town(Plan(callers=callers, tenants=tenants))
    assert len(town.seats) == callers
    assert {seat.tenant_id for seats in town.seats for seat in seats} == set(town.tenants)
    negotiations = [seat.negotiation_id for seats in town.seats for seat in seats]
    assert len(set(negotiations)) == len(negotiations) == max(callers, tenants)


# -- the loop -------------------------------------------------------------------------------


def test_quantiles_are_exact_to_a_bucket():
    latencies = Histogram()
    assert latencies.quantiles_ms(0.5, 0.99) == [None, None]
    for milliseconds in range(1, 101):
        latencies.add(milliseconds / 1000)
    assert latencies.quantiles_ms(0.5, 0.95, 0.99) == pytest.approx([50, 95, 99], abs=0.02)
    latencies.add(1e6)
    assert latencies.quantiles_ms(1.0) == pytest.approx([BUCKETS / 100], abs=0.02)


async def test_errors_are_counted_and_told_not_answered():
    async def ask() -> str:
        await asyncio.sleep(0.001)
        raise OverloadedError(5, 0.1)

    window = await measure([ask], 0.1)
    assert window.errors > 0
    assert window.per_second == 0
    assert window.p50_ms is None
    assert window.first_error == "OverloadedError: 5 commands are waiting; try again in 0.1 s"


async def test_a_bug_in_a_caller_ends_the_loop():
    async def ask() -> str:
        await asyncio.sleep(0)
        raise AssertionError

    with pytest.raises(ExceptionGroup):
        await measure([ask], 60)


# -- the baseline ---------------------------------------------------------------------------

SMALL = Plan(Load.SPREAD, callers=1, products=10)


@asynccontextmanager
async def filled(server: str, units: int):
    async with scratch(server) as dsn:
        town = await fill(dsn, SMALL)
        connection = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
        await connection.execute("UPDATE stock_levels SET total = $1", Decimal(units))
        await connection.close()
        yield dsn, town


async def rows(dsn: str) -> dict[str, list[dict[str, object]]]:
    """Everything that was written, without ids and times, which differ."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
    found = {}
    for table, order in (
        ("stock_levels", "product_id"),
        ("stock_reservations", "reservation_key"),
        ("stock_reservation_lines", "product_id, line_no, reserved, held, ctid"),
        ("stock_movements", "product_id, sequence"),
        ("notifications", "message"),
        ("stock_commands", "key"),
    ):
        records = await connection.fetch(f"SELECT * FROM {table} ORDER BY {order}")
        found[table] = [
            {
                name: value
                for name, value in record.items()
                if not name.endswith("_at") and name not in {"id", "reservation_id", "reference_id"}
            }
            for record in records
        ]
    lasts = await connection.fetch("SELECT expires_at - created_at AS h FROM stock_reservations")
    found["lasts"] = [{"h": {row["h"] for row in lasts}}]
    await connection.close()
    return found


async def ask_for_more_than_there_is(reserve, town) -> list[str]:
    (seat,) = town.seats[0]
    answers = []
    for number in range(20):
        items = [Item(sku(1), Decimal(4)), Item(sku(2 + number % 3), Decimal(2))]
        made = await reserve(seat.tenant_id, seat.negotiation_id, items, key=f"k{number:02}")
        answers.append((made.status, made.items, made.errors, made.warnings, made.total_reserved))
    return answers


async def test_the_baseline_writes_what_the_engine_writes(server, settings):
    async with filled(server, 10) as (base, town):
        async with scratch(server, clone_of=base) as dsn:
            async with opened(dsn, settings, sweep=False) as stock:
                engine = await ask_for_more_than_there_is(stock.reserve, town)
            by_engine = await rows(dsn)
        async with scratch(server, clone_of=base) as dsn:
            async with open_pool(dsn) as pool:
                classic = await ask_for_more_than_there_is(Classic(pool).reserve, town)
            by_classic = await rows(dsn)
            verdict = await judge(dsn)
    assert {status for status, *_ in engine} == {"ACTIVE", "PARTIAL", "FAILED"}
    assert classic == engine
    for table, written in by_engine.items():
        assert len(by_classic[table]) == len(written), table
        for mine, theirs in zip(by_classic[table], written, strict=True):
            assert {name: mine[name] for name in mine if mine[name] != theirs[name]} == {}, theirs
    assert by_engine["notifications"]
    assert (verdict.verified, verdict.oversold, verdict.differences) == (True, 0, ())


async def test_the_baseline_is_right_under_concurrency(server):
    plan = Plan(Load.SCARCE, callers=20, products=10)
    async with scratch(server) as dsn:
        town = await fill(dsn, plan)
        async with open_pool(dsn) as pool:
            baseline = Classic(pool)
            answers = await asyncio.gather(
                *(
                    baseline.reserve(
                        seats[0].tenant_id,
                        seats[0].negotiation_id,
                        [Item(sku(1), Decimal(3))],
                        key=f"key {number}",
                    )
                    for number, seats in enumerate(town.seats)
                )
            )
        verdict = await judge(dsn)
    assert sum(answer.total_reserved for answer in answers) == 30
    assert (verdict.verified, verdict.oversold) == (True, 0)


# -- the benchmarks -------------------------------------------------------------------------


@pytest.mark.parametrize("load", Load)
async def test_reserve(load, server, settings):
    plan = Plan(load, callers=5, lines=2, tenants=2, products=40)
    found = await bench_reserve(plan, server=server, settings=settings, seconds=0.3)
    json.dumps(found)
    assert found["load"] == load
    assert set(found["engine"]) == SIDE | VERDICT
    engine = found["engine"]
    assert engine["reserved"] + engine["partial"] + engine["refused"] > 0
    assert (engine["errors"], engine["oversold"], engine["verified"]) == (0, 0, True)
    assert "ratio" not in found


async def test_reserve_against_classic(server, settings):
    plan = Plan(Load.SPREAD, callers=5, products=40)
    found = await bench_reserve(
        plan,
        server=server,
        settings=settings,
        against=Against.CLASSIC,
        seconds=0.3,
        rounds=2,
    )
    for side in ("engine", "classic"):
        assert set(found[side]) == SIDE | VERDICT
        assert len(found[side]["windows"]) == 2
        assert (found[side]["errors"], found[side]["verified"]) == (0, True)
    assert set(found["ratio"]) == {"per_second", "p50_ms", "p99_ms"}


@pytest.mark.parametrize("load", [Load.SPREAD, Load.HOT])
async def test_reserve_against_pgbench(load, server, settings):
    plan = Plan(load, callers=5, products=40)
    found = await bench_reserve(
        plan,
        server=server,
        settings=settings,
        against=Against.PGBENCH,
        seconds=0.3,
    )
    assert set(found["pgbench"]) == SIDE
    assert found["pgbench"]["reserved"] > 0
    assert set(found["ratio"]) == {"per_second", "p50_ms", "p99_ms"}


async def test_read(server, settings):
    plan = Plan(Load.SPREAD, callers=5, lines=3, products=40)
    found = await bench_read(plan, server=server, settings=settings, seconds=0.3)
    json.dumps(found)
    assert found["counts"].keys() == {"answered"}
    assert found["errors"] == 0
    assert found["skus_per_second"] == pytest.approx(found["per_second"] * 3)
    assert found["p99_ms"] >= found["p50_ms"]


async def test_expire(server, settings):
    plan = Plan(Load.SPREAD, callers=3, products=40)
    found = await bench_expire(
        plan, server=server, settings=settings, reservations=1_200, quiet_s=0.3
    )
    json.dumps(found)
    assert found["released"] == 1_200
    assert found["transactions"] >= 1
    assert found["longest_transaction_ms"] > 0
    assert found["released_per_second"] > 0
    assert found["meanwhile"]["errors"] == 0
    assert (found["verified"], found["oversold"]) == (True, 0)


async def test_sync(server, settings):
    plan = Plan(Load.SPREAD, 3, 1, 1, 50)
    found = await bench_sync(plan, server=server, settings=settings)
    assert (found["oversold"], found["verified"]) == (0, True)
    assert found["changed 100%"]["alone_s"] > 0


@pytest.mark.parametrize("tenants", [1, 3])
async def test_verify(tenants, server, settings):
    found = await bench_verify(
        server=server, settings=settings, movements=1_200, products=60, tenants=tenants
    )
    json.dumps(found)
    assert found["movements"] == 1_200
    assert found["verified"]
    assert found["differences"] == []
    assert (found["levels"], found["tenants"]) == (60, tenants)


# -- the commands ---------------------------------------------------------------------------


TINY = ["reserve", "--callers", "3", "--products", "20", "--seconds", "0.2"]


def test_the_command_prints_one_document(server):
    done = CliRunner().invoke(
        cli.app,
        [*TINY, "--json"],
        env={"CERNIQ_DATABASE_URL": server},
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["benchmark"] == "reserve"
    assert set(found["machine"]) >= {"cpus", "processor", "python", "postgresql", "load_average"}


def test_the_command_prints_tables(server):
    done = CliRunner().invoke(
        cli.app,
        [
            "reserve",
            "--callers",
            "3",
            "--products",
            "20",
            "--seconds",
            "0.2",
            "--rounds",
            "1",
            "--against",
            "classic",
        ],
        env={"CERNIQ_DATABASE_URL": server},
    )
    assert done.exit_code == 0, done.output
    for word in ("engine", "classic", "ratio", "per_second", "oversold"):
        assert word in done.stdout


def test_pgbench_knows_two_loads_only():
    done = CliRunner().invoke(cli.app, ["reserve", "--load", "zipf", "--against", "pgbench"])
    assert done.exit_code == 2


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_database_behind(server, signal_number):
    code = "from cerniq_stock.bench.cli import app; app()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "reserve", "--products", "20", "--seconds", "60"],
        env={**os.environ, "CERNIQ_DATABASE_URL": server},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            if "warming up" in line:
                break
        assert asyncio.run(scratch_databases(server))
        process.send_signal(signal_number)
        process.stderr.read()
    assert process.wait(timeout=30) != 0
    assert asyncio.run(scratch_databases(server)) == []
