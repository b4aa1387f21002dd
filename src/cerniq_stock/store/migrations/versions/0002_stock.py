"""See ../0002_stock.sql."""

from cerniq_stock.store.migrations import run_sql_file

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_sql_file("0002_stock.sql")
