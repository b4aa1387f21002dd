"""See ../0022_pulled_integrations.sql."""

from cerniq_stock.store.migrations import run_sql_file

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    run_sql_file("0022_pulled_integrations.sql")
