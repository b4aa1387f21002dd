"""Alembic revisions. Each is one plain SQL file; forward only."""

from pathlib import Path

from alembic import op

_HERE = Path(__file__).parent


def read_sql(name: str) -> str:
    """Text of a file in this folder."""
    return (_HERE / name).read_text(encoding="utf-8")


def run_sql_file(name: str) -> None:
    """Run a file of several statements as the schema's owner.

    asyncpg takes several statements at once only without arguments, past SQLAlchemy.
    """
    sql = f"SET ROLE cerniq_owner; {read_sql(name)} RESET ROLE;"
    adapted = op.get_bind().connection.dbapi_connection
    assert adapted is not None
    adapted.run_async(lambda connection: connection.execute(sql))
