"""What Alembic runs around the revisions of a service. `mulligan.stores.migrate` opens the transaction and the lock."""

from alembic import context

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    version_table="schema_version",
    version_table_schema=attributes["schema"],
    include_schemas=True,
)
context.run_migrations()
