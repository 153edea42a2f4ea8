"""Run by Alembic: applies the scripts in versions/ over the connection that it is handed."""

from alembic import context

from embedllm_router.records.writer.postgres import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSION_TABLE
)
with context.begin_transaction():
    context.run_migrations()
