"""The bare limit: PostgreSQL's own pgbench, one UPDATE and two INSERTs in one statement.

No keys, no lines, no security, no refusals, no second index, and a client written in C: less
than any stock engine may do, so what is near it is near what the server can do at all.
"""

import asyncio
import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg

from cerniq_stock.bench.closed_loop import Histogram, Window
from cerniq_stock.bench.workload import Load, Plan
from cerniq_stock.store.binaries import TOOL_ENVIRONMENT, binary

CLIENTS_MAX = 50
THREADS = 2
LOG_SHARE = 0.1
PATIENCE_S = 60

_TABLES = """
CREATE TABLE bench_levels (product integer PRIMARY KEY, reserved bigint NOT NULL)
    WITH (fillfactor = 50);
CREATE TABLE bench_reservations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, product integer NOT NULL
);
CREATE TABLE bench_movements (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product integer NOT NULL,
    reserved bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
"""

_SCRIPT = """
\\set product {choice}
WITH level AS (
    UPDATE bench_levels SET reserved = reserved + 1 WHERE product = :product
    RETURNING product, reserved
), reservation AS (
    INSERT INTO bench_reservations (product) SELECT product FROM level
)
INSERT INTO bench_movements (product, reserved) SELECT product, reserved FROM level;
"""


async def prepare(dsn: str, plan: Plan) -> None:
    """Make the tables."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_TABLES)
        await connection.execute(
            "INSERT INTO bench_levels SELECT n, 0 FROM generate_series(1, $1::integer) AS n",
            plan.products,
        )
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def measure(dsn: str, plan: Plan, seconds: float) -> Window:
    """Run pgbench for so long (whole seconds) and read what it says."""
    with tempfile.TemporaryDirectory(prefix="cerniq-pgbench-") as folder:
        script = Path(folder) / "reserve.sql"
        script.write_text(_SCRIPT.format(choice=_choice(plan)))
        lasts_s = math.ceil(seconds)
        output = await _run(dsn, plan, script, lasts_s)
        p50, p95, p99 = _quantiles_ms(Path(folder))
    tps = re.search(r"^tps = ([\d.]+)", output, re.MULTILINE)
    done = re.search(r"^number of transactions actually processed: (\d+)", output, re.MULTILINE)
    if tps is None or done is None:
        raise RuntimeError(f"pgbench failed:\n{output}")
    counts = {"reserved": int(done[1])}
    return Window(lasts_s, round(float(tps[1]), 1), p50, p95, p99, counts)


def _choice(plan: Plan) -> str:
    match plan.load:
        case Load.HOT:
            return "1"
        case Load.SPREAD:
            return f"random(1, {plan.products})"
        case _:
            raise ValueError("pgbench is compared on the loads spread and hot")


async def _run(dsn: str, plan: Plan, script: Path, lasts_s: int) -> str:
    address, environment = _connection(dsn)
    clients = min(plan.callers, CLIENTS_MAX)
    process = await asyncio.create_subprocess_exec(
        binary("pgbench"),
        *("-n", "-M", "prepared", "-c", str(clients), "-j", str(min(THREADS, clients))),
        *("-T", str(lasts_s), "-f", script),
        *("-l", "--log-prefix", script.with_suffix(".log"), "--sampling-rate", str(LOG_SHARE)),
        address,
        cwd=script.parent,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), lasts_s + PATIENCE_S)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    return output.decode(errors="replace")


def _connection(dsn: str) -> tuple[str, dict[str, str]]:
    """The address without its password, which would show in the list of processes."""
    parts = urlsplit(dsn)
    environment = dict(TOOL_ENVIRONMENT)
    if parts.password is None:
        return dsn, environment
    environment["PGPASSWORD"] = unquote(parts.password)
    user, _, host = parts.netloc.rpartition("@")
    netloc = f"{user.partition(':')[0]}@{host}"
    return urlunsplit(parts._replace(netloc=netloc)), environment


def _quantiles_ms(folder: Path) -> list[float | None]:
    latencies = Histogram()
    for latency_s in _logged(folder):
        latencies.add(latency_s)
    return latencies.quantiles_ms(0.50, 0.95, 0.99)


def _logged(folder: Path) -> Iterator[float]:
    for path in folder.glob("reserve.log.*"):
        with path.open() as log:
            for line in log:
                yield int(line.split()[2]) / 1e6
