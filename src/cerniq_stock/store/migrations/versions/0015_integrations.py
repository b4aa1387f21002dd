"""See ../0015_integrations.sql."""

from cerniq_stock.store.migrations import run_sql_file

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    run_sql_file("0015_integrations.sql")
