"""See ../0001_tenants.sql."""

from cerniq_stock.store.migrations import run_sql_file

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_sql_file("0001_tenants.sql")
