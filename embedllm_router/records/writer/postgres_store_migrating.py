"""Brings a PostgreSQL database's tables up to date, whoever else is about to do the same."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from embedllm_router.records.writer.postgres_store_tables import VERSION_TABLE

__all__ = ["upgrade"]

_LOCK = 0x656D6265646C6C6D
"""Key of the advisory lock: "embedllm" in ASCII."""


def upgrade(connection: Connection) -> None:
    """Makes or changes the tables as this version needs them. Those of a later version are left as they are.

    Args:
        connection: Inside a transaction; others that want the same wait until it ends.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database refuses.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    present = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    if present is None or present in known:
        command.upgrade(config, "head")
