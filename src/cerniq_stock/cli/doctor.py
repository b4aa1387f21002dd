"""`cerniq-stock doctor`: can what the engine stands on be trusted? Looks, changes nothing."""

import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cerniq_stock.cli.call import Call, command, top_level
from cerniq_stock.cli.database import embedded_facts
from cerniq_stock.cli.output import Shown, Table
from cerniq_stock.cli.problems import ERROR, OK, problem_of

if TYPE_CHECKING:
    from asyncpg import Connection

    from cerniq_stock.settings import Settings
    from cerniq_stock.views import StoredCredentials

commands = top_level()

PYTHON_MIN = (3, 11)
SERVER_MIN = 150000
CLOCK_WARN_S = 2.0
DISK_FAIL_BYTES = 512 * 1024**2
DISK_WARN_BYTES = 5 * 1024**3
MONTHS_AHEAD = 3


class Health(StrEnum):
    """What a check ends with; `fail` is what must not be worked with."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    status: Health
    message: str


Probe = Callable[["Connection"], Awaitable[tuple[Health, str]]]


@command(commands, "doctor", "doctor", "doctor --json")
async def doctor(call: Call) -> Shown:
    """Check what the engine stands on.

    Python, server, schema, roles and row-level security, durability, clock, disk, partitions;
    whether the stored credentials of ERPs open, and the folders of their files are there.
    Starts and changes nothing. Exit code 1 if anything fails; warnings do not count.
    """
    checks = [check async for check in _checks(call)]
    ok = all(check.status is not Health.FAIL for check in checks)
    document = {
        "ok": ok,
        "checks": [
            {"name": each.name, "status": each.status.value, "message": each.message}
            for each in checks
        ],
    }
    rows = [(each.status.value, each.name, each.message) for each in checks]
    loud = tuple(each.message for each in checks if each.status is Health.WARN)
    return Shown(document, (Table(("", "check", ""), rows),), loud, OK if ok else ERROR)


async def _checks(call: Call) -> AsyncIterator[Check]:
    yield _python()
    settings = call.settings
    dsn = settings.database_url
    if dsn is None:
        from cerniq_stock.wiring import data_dir  # noqa: PLC0415 - it brings everything

        folder = data_dir(settings)
        yield _disk(folder)
        yield _programs()
        facts = await embedded_facts(folder)
        dsn = facts["url"]
        if dsn is None:
            text = f"not running; the next command starts it in {folder}"
            yield Check("database", Health.WARN, text)
            return
    async for check in _database_checks(dsn, settings):
        yield check


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = sys.version_info >= PYTHON_MIN
    return Check("python", Health.OK if fits else Health.FAIL, version)


def _programs() -> Check:
    from cerniq_stock.store import binaries  # noqa: PLC0415 - slow to import

    try:
        folder = binaries.find_binaries()
        return Check("programs", Health.OK, f"PostgreSQL {binaries.version(folder)}")
    except binaries.EmbeddedServerError as error:
        return Check("programs", Health.FAIL, error.message)


def _disk(folder: Path) -> Check:
    """Look at the first folder on the way up that exists and may be entered."""
    for place in (folder, *folder.parents):
        try:
            free = shutil.disk_usage(place).free
        except OSError:
            continue
        health = Health.OK
        if free < DISK_WARN_BYTES:
            health = Health.WARN if free >= DISK_FAIL_BYTES else Health.FAIL
        return Check("disk", health, f"{free / 1024**3:.1f} GiB free for {folder}")
    return Check("disk", Health.WARN, f"cannot tell how much is free for {folder}")


async def _database_checks(dsn: str, settings: "Settings") -> AsyncIterator[Check]:
    import asyncpg  # noqa: PLC0415 - slow to import

    try:
        connection = await asyncpg.connect(dsn, timeout=10)
    except Exception as error:  # noqa: BLE001 - whatever keeps us out is the finding
        yield Check("database", Health.FAIL, problem_of(error).sentence)
        return
    try:
        yield await _probe("database", _version, connection)
        schema = await _probe("schema", lambda _: _schema(dsn), connection)
        yield schema
        yield await _probe("durability", _durability, connection)
        yield await _probe("clock", _clock, connection)
        if schema.status is Health.OK:  # the rest asks about tables
            yield await _probe("roles", lambda _: _roles(dsn), connection)
            yield await _probe("row security", _row_security, connection)
            yield await _probe("partitions", _partitions, connection)
            async for check in _erp_checks(dsn, settings):
                yield check
    finally:
        await connection.close()


async def _probe(name: str, probe: Probe, connection: "Connection") -> Check:
    try:
        return Check(name, *await probe(connection))
    except Exception as error:  # noqa: BLE001 - one check that breaks must not hide the others
        return Check(name, Health.FAIL, problem_of(error).sentence)


async def _version(connection: "Connection") -> tuple[Health, str]:
    number = int(await connection.fetchval("SHOW server_version_num"))
    version = await connection.fetchval("SHOW server_version")
    if number < SERVER_MIN:
        return Health.FAIL, f"PostgreSQL {version}; 15 or later is needed"
    return Health.OK, f"PostgreSQL {version}"


async def _schema(dsn: str) -> tuple[Health, str]:
    from cerniq_stock.store.migrate import revisions  # noqa: PLC0415 - slow to import

    found = await revisions(dsn)
    if found.up_to_date:
        return Health.OK, f"revision {found.current}"
    return (
        Health.FAIL,
        f"revision {found.current or 'none'}, not {found.head}: cerniq-stock database migrate",
    )


async def _durability(connection: "Connection") -> tuple[Health, str]:
    """A server that acknowledges before the disk has it loses what it promised."""
    names = ("fsync", "synchronous_commit", "full_page_writes")
    values = {name: await connection.fetchval(f"SHOW {name}") for name in names}
    off = [name for name, value in values.items() if value == "off"]
    if off:
        return (
            Health.WARN,
            f"{', '.join(off)} OFF: A CRASH CAN LOSE OR CORRUPT WHAT WAS CONFIRMED",
        )
    return Health.OK, ", ".join(f"{name} {value}" for name, value in values.items())


async def _clock(connection: "Connection") -> tuple[Health, str]:
    """Expiry goes by the database's clock; a client that differs misreads what it is told."""
    asked = time.monotonic()
    theirs: datetime = await connection.fetchval("SELECT clock_timestamp()")
    ours = datetime.now(UTC)
    on_the_way_s = (time.monotonic() - asked) / 2
    difference_s = (theirs - ours).total_seconds() + on_the_way_s
    health = Health.OK if abs(difference_s) < CLOCK_WARN_S else Health.WARN
    return health, f"the database is {difference_s:+.3f} s from this machine"


async def _erp_checks(dsn: str, settings: "Settings") -> AsyncIterator[Check]:
    """Look at what workers with this environment would have to open and to read."""
    from cerniq_stock.wiring import open_integrations  # noqa: PLC0415 - it brings everything

    try:
        async with open_integrations(settings, dsn) as integrations:
            found = await integrations.stored()
    except Exception as error:  # noqa: BLE001 - whatever it is is the finding
        yield Check("keys", Health.FAIL, problem_of(error).sentence)
        return
    given = settings.secret_keys is not None or settings.secret_keys_file is not None
    yield Check("keys", *_keys(found, given=given))
    if found.reading_files:
        yield Check("files", *_files(found, settings.erp_files_dir))


def _keys(found: "StoredCredentials", *, given: bool) -> tuple[Health, str]:
    if given and found.reason is not None and not found.stored:
        return Health.FAIL, found.reason
    if not found.closed:
        return Health.OK, f"credentials of {found.stored} ERPs open"
    # who looks need not be who works: without any key the workers may have theirs all the same
    health = Health.FAIL if given else Health.WARN
    return (
        health,
        f"credentials of {found.closed} of {found.stored} ERPs stay closed: {found.reason}",
    )


def _files(found: "StoredCredentials", root: Path | None) -> tuple[Health, str]:
    many = f"integrations that read files: {found.reading_files}"
    if root is None:
        return Health.WARN, f"{many}; CERNIQ_ERP_FILES_DIR is not set, so none of them can"
    if not root.is_dir():
        return Health.WARN, f"{many}; CERNIQ_ERP_FILES_DIR names no folder that is there: {root}"
    if found.without_folder:
        missing = f"{found.without_folder} have no folder with their tenant's id"
        return Health.WARN, f"{many}; in CERNIQ_ERP_FILES_DIR {missing}"
    return Health.OK, many


async def _roles(dsn: str) -> tuple[Health, str]:
    """Ask as the engine does; without a tenant it must see nothing at all."""
    from cerniq_stock.store.database import connect, unsafe_role  # noqa: PLC0415 - slow to import

    connection = await connect(dsn)
    try:
        unsafe = await unsafe_role(connection)
        if unsafe is not None:
            return Health.FAIL, unsafe
        if await connection.fetchval("SELECT EXISTS (SELECT FROM tenants)"):
            return Health.FAIL, "cerniq_app sees tenants without having named one"
    finally:
        await connection.close()
    operator = await connect(dsn, "cerniq_operator")
    await operator.close()
    return Health.OK, "cerniq_app sees one tenant at a time; cerniq_operator may be used"


async def _row_security(connection: "Connection") -> tuple[Health, str]:
    open_tables = await connection.fetch(_UNGUARDED)
    if open_tables:
        names = ", ".join(row["relname"] for row in open_tables)
        return Health.FAIL, f"not enforced on {names}"
    return Health.OK, "enforced on every table"


async def _partitions(connection: "Connection") -> tuple[Health, str]:
    rows: list[Any] = await connection.fetch(_MISSING_MONTHS, MONTHS_AHEAD)
    if rows:
        months = ", ".join(row["month"] for row in rows)
        return Health.WARN, f"none for {months} yet: cerniq-stock expire makes them"
    return Health.OK, f"made {MONTHS_AHEAD} months ahead"


_UNGUARDED = """
SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = 'cerniq' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND EXISTS (
    SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'
    UNION ALL SELECT WHERE c.relname = 'tenants'
  )
  AND NOT (
    c.relrowsecurity AND c.relforcerowsecurity
    AND EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND NOT p.polpermissive)
  )
ORDER BY c.relname
"""

_MISSING_MONTHS = """
SELECT to_char(month, 'YYYY-MM') AS month
FROM generate_series(0, $1::integer) AS n,
    LATERAL (SELECT (now() AT TIME ZONE 'UTC') + n * interval '1 month' AS month) AS ahead
WHERE to_regclass('cerniq.stock_movements_' || to_char(month, 'YYYY_MM')) IS NULL
ORDER BY 1
"""
