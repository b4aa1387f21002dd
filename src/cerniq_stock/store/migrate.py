"""Bring a database to the newest schema: `await migrate(dsn)`."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

if TYPE_CHECKING:
    from sqlalchemy import Connection

SCHEMA = "cerniq"
_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x6365726E6971  # "cerniq": one migration at a time


class Revisions(NamedTuple):
    """Where a database is (None: no schema yet), and where this code wants it."""

    current: str | None
    head: str

    @property
    def up_to_date(self) -> bool:
        """Whether nothing is left to migrate."""
        return self.current == self.head


def head() -> str:
    """Newest revision that this code knows: the files are numbered."""
    return max(path.name[:4] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


async def revisions(dsn: str) -> Revisions:
    """Look, change nothing. Needs no Alembic, which takes longer to load than this to answer."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        known = await connection.fetchval(f"SELECT to_regclass('{SCHEMA}.alembic_version')")
        current = None
        if known is not None:
            current = await connection.fetchval(f"SELECT version_num FROM {known}")  # noqa: S608 - its own name
        return Revisions(current, head())
    finally:
        await connection.close()


async def migrate(dsn: str, *, target: str = "head") -> tuple[str | None, str | None]:
    """Upgrade the database at `dsn`. Returns the revisions before and after.

    Raises what the server says when the login may not create the schema or the roles.
    """
    before = await revisions(dsn)
    if target == "head" and before.up_to_date:
        return before
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 - slow to load, rare
    from sqlalchemy.pool import NullPool  # noqa: PLC0415 - slow to load, rarely needed

    engine = create_async_engine(_sqlalchemy_url(dsn), poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade, target)
    finally:
        await engine.dispose()
    return before.current, (await revisions(dsn)).current


def _sqlalchemy_url(dsn: str) -> str:
    return "postgresql+asyncpg://" + dsn.split("://", 1)[1]


def _upgrade(connection: "Connection", target: str) -> None:
    """Under a lock, because several processes start at once."""
    from alembic import command  # noqa: PLC0415 - slow to load, rarely needed
    from alembic.config import Config  # noqa: PLC0415 - slow to load, rarely needed
    from sqlalchemy import text  # noqa: PLC0415 - slow to load, rarely needed

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    roles = (_MIGRATIONS / "roles.sql").read_text(encoding="utf-8")
    prepare = f"{roles} SET search_path = {SCHEMA}; SET lock_timeout = '5s';"
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
    try:
        adapted = connection.connection.dbapi_connection
        assert adapted is not None
        adapted.run_async(lambda driver: driver.execute(prepare))
        connection.commit()
        command.upgrade(config, target)
        connection.commit()
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
        connection.commit()
