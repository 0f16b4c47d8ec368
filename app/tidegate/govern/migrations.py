"""The control schema's migrations, as Alembic runs them. Import it only to run them: Alembic takes its time."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from tidegate.folder import folder


def migrate(connection: psycopg.Connection) -> None:
    """Brings the tables of this database to the newest version."""
    config = _config()
    with _sqlalchemy(connection) as engine_connection:
        config.attributes["connection"] = engine_connection
        command.upgrade(config, "head")


def migration_script() -> str:
    """The SQL that `migrate` would run on an empty database."""
    buffer = io.StringIO()
    config = _config()
    config.attributes["output"] = buffer
    command.upgrade(config, "head", sql=True)
    return buffer.getvalue()


def newest() -> str | None:
    """The newest version, as Alembic finds it by the order of the migrations."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def _sqlalchemy(connection: psycopg.Connection) -> Iterator[object]:
    """The same server and login for Alembic, through SQLAlchemy."""
    conninfo = psycopg.conninfo.make_conninfo(connection.info.dsn, password=connection.info.password or None)
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), poolclass=NullPool)
    with engine.begin() as opened:
        yield opened
    engine.dispose()
