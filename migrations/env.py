"""Alembic's entry: the control schema, on a connection that `tidegate init` hands over (or as SQL text)."""

from alembic import context
from sqlalchemy import text

CONTROL_SCHEMA = "tidegate"
VERSION_TABLE = "schema_version"


def run_offline() -> None:
    context.configure(
        dialect_name="postgresql",
        literal_binds=True,
        version_table=VERSION_TABLE,
        version_table_schema=CONTROL_SCHEMA,
        output_buffer=context.config.attributes.get("output"),
    )
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    connection = context.config.attributes["connection"]
    connection.execute(text("SET LOCAL ROLE tidegate_owner"))
    context.configure(connection=connection, version_table=VERSION_TABLE, version_table_schema=CONTROL_SCHEMA)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
