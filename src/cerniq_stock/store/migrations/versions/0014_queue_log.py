"""See ../0014_queue_log.sql."""

from cerniq_stock.store.migrations import run_sql_file

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    run_sql_file("0014_queue_log.sql")
