"""See ../0007_partitions_stand_alone.sql."""

from cerniq_stock.store.migrations import run_sql_file

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_sql_file("0007_partitions_stand_alone.sql")
