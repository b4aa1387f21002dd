"""See ../0008_levels_keep_their_key.sql."""

from cerniq_stock.store.migrations import run_sql_file

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    run_sql_file("0008_levels_keep_their_key.sql")
