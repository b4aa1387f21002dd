"""PostgreSQL: the batching writer, named SQL, migrations, reads, the embedded server."""
