"""See ../0016_sync.sql."""

from cerniq_stock.store.migrations import run_sql_file

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    run_sql_file("0016_sync.sql")
