"""See ../0005_row_security.sql."""

from cerniq_stock.store.migrations import run_sql_file

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_sql_file("0005_row_security.sql")
