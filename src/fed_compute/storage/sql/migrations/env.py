"""Run by alembic: apply the migrations in the transaction that `Database.migrate` hands over."""

from alembic import context

from fed_compute.storage.sql.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
