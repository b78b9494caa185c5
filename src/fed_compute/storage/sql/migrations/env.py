"""Run by alembic: apply the migrations on the engine that `Database.migrate` hands over."""

from alembic import context

from fed_compute.storage.sql.tables import metadata

with context.config.attributes["engine"].connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
