"""See ../0006_undecided_negotiations.sql."""

from cerniq_stock.store.migrations import run_sql_file

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_sql_file("0006_undecided_negotiations.sql")
