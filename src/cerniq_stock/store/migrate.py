"""Bring a database to the newest schema: `await migrate(dsn)`."""

from pathlib import Path
from typing import NamedTuple

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from cerniq_stock.store.migrations import read_sql

SCHEMA = "cerniq"
_LOCK = 0x6365726E6971  # "cerniq": one migration at a time


_PREPARE = f"{read_sql('roles.sql')} SET search_path = {SCHEMA}; SET lock_timeout = '5s';"


class Revisions(NamedTuple):
    """Where a database is (None: no schema yet), and where this code wants it."""

    current: str | None
    head: str

    @property
    def up_to_date(self) -> bool:
        """Whether nothing is left to migrate."""
        return self.current == self.head


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def head() -> str:
    """Newest revision that this code knows."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def _upgrade(connection: Connection, target: str) -> tuple[str | None, str | None]:
    """Under a lock, because several processes start at once."""
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
    try:
        adapted = connection.connection.dbapi_connection
        assert adapted is not None
        adapted.run_async(lambda driver: driver.execute(_PREPARE))
        connection.commit()
        config = _config()
        config.attributes["connection"] = connection
        before = _current(connection)
        command.upgrade(config, target)
        connection.commit()
        return before, _current(connection)
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
        connection.commit()


def _current(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
    revision: str | None = context.get_current_revision()
    return revision


def _sqlalchemy_url(dsn: str) -> str:
    return "postgresql+asyncpg://" + dsn.split("://", 1)[1]


async def migrate(dsn: str, *, target: str = "head") -> tuple[str | None, str | None]:
    """Upgrade the database at `dsn`. Returns the revisions before and after.

    Raises what the server says when the login may not create the schema or the roles.
    """
    engine = create_async_engine(_sqlalchemy_url(dsn), poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_upgrade, target)
    finally:
        await engine.dispose()


async def revisions(dsn: str) -> Revisions:
    """Look, change nothing."""
    engine = create_async_engine(_sqlalchemy_url(dsn), poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            return Revisions(await connection.run_sync(_current), head())
    finally:
        await engine.dispose()
