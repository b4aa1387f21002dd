"""See ../0018_plans_know_what_was.sql."""

from cerniq_stock.store.migrations import run_sql_file

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    run_sql_file("0018_plans_know_what_was.sql")
