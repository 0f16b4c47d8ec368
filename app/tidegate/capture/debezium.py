"""Debezium's PostgreSQL connector: the settings that hold wherever it runs (engine.py, connector.py)."""

from collections.abc import Sequence

from psycopg.conninfo import conninfo_to_dict

from tidegate.errors import UsageError

MESSAGE_PREFIX = "tidegate"


def source_properties(
    dsn: str, *, slot: str, poll_ms: int, heartbeat_ms: int, heartbeat: str, excluded_columns: Sequence[str]
) -> dict[str, str]:
    """Debezium's properties (PostgreSQL connector 3.6) for one source database.

    Args:
        poll_ms: how long Debezium rests between two looks at its queue.
        heartbeat_ms, heartbeat: how often it moves the watermark of an idle database, and with what statement.
        excluded_columns: `schema.table.column` of what must not even enter Debezium.

    Raises:
        UsageError: the DSN names a socket, or a database that Debezium cannot connect to.
    """
    parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    host = parts.get("host", "127.0.0.1")
    if host.startswith("/"):
        raise UsageError(f'the DSN names the Unix socket "{host}"; Debezium speaks TCP: use a host name in --dsn')
    database = parts["dbname"]
    if set(database) & set("%?&/#"):
        raise UsageError(
            f'the database "{database}" has a character that Debezium cannot connect with: one of % ? & / #'
        )
    properties = {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": host,
        "database.port": parts.get("port", "5432"),
        "database.user": parts.get("user", "postgres"),
        # Debezium insists on a password, also where the server asks for none.
        "database.password": parts.get("password") or "none",
        "database.dbname": database,
        "database.sslmode": parts.get("sslmode", "prefer"),
        "plugin.name": "pgoutput",
        "slot.name": slot,
        "publication.name": "tidegate",
        "publication.autocreate.mode": "disabled",
        "snapshot.mode": "no_data",
        # Nobody reads these events; and that of a table which was made since the start cannot be written (without a
        # database's name), for which the backfill is skipped.
        "include.schema.changes": "false",
        "poll.interval.ms": str(poll_ms),
        # TRUNCATE is skipped by default; its rows would stay as ghosts.
        "skipped.operations": "none",
        "signal.data.collection": "tidegate.signal",
        "signal.enabled.channels": "source",
        "incremental.snapshot.chunk.size": "512",
        "incremental.snapshot.watermarking.strategy": "insert_delete",
        "max.queue.size.in.bytes": str(64 * 1024 * 1024),
        "notification.enabled.channels": "sink",
        "heartbeat.interval.ms": str(heartbeat_ms),
        "heartbeat.action.query": heartbeat,
        "decimal.handling.mode": "string",
        "interval.handling.mode": "string",
        "time.precision.mode": "isostring",
        "binary.handling.mode": "hex",
        "hstore.handling.mode": "json",
        "include.unknown.datatypes": "true",
        "key.converter.schemas.enable": "false",
        "value.converter.schemas.enable": "false",
        # Connect's converter writes a column's DEFAULT where the row has NULL, if it is not told otherwise.
        "value.converter.replace.null.with.default": "false",
        "errors.retry.delay.initial.ms": "300",
        "retriable.restart.connector.wait.ms": "1000",
        "errors.retry.delay.max.ms": "5000",
    }
    if excluded_columns:
        properties["column.exclude.list"] = ",".join(column.replace(".", r"\.") for column in excluded_columns)
    return properties
