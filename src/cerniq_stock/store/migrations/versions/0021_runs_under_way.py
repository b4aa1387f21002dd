"""See ../0021_runs_under_way.sql."""

from cerniq_stock.store.migrations import run_sql_file

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    run_sql_file("0021_runs_under_way.sql")
