"""What Alembic runs: one transaction on the connection that `migrate.py` hands over."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, version_table_schema="cerniq", transaction_per_migration=True
)
with context.begin_transaction():
    context.run_migrations()
