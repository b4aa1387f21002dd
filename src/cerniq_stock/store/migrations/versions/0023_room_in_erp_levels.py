"""See ../0023_room_in_erp_levels.sql."""

from cerniq_stock.store.migrations import run_sql_file

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    run_sql_file("0023_room_in_erp_levels.sql")
