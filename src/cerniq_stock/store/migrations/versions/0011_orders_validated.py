"""See ../0011_orders_validated.sql."""

from cerniq_stock.store.migrations import run_sql_file

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    run_sql_file("0011_orders_validated.sql")
