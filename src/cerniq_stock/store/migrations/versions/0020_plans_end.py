"""See ../0020_plans_end.sql."""

from cerniq_stock.store.migrations import run_sql_file

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    run_sql_file("0020_plans_end.sql")
