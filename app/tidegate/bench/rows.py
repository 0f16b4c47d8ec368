"""Rows into Postgres as its binary COPY takes them: a million vectors in a minute."""

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import numpy as np
from psycopg import sql

from tidegate.bench.report import BenchFailed
from tidegate.database import Connection
from tidegate.index.embedding.embedder import Vectors

_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
_END = struct.pack("!h", -1)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_LSN = 3220
_BUFFER = 1 << 20
_ELEMENTS = {"vector": ">f4", "halfvec": ">f2"}


def copy(
    connection: Connection, table: sql.Composable, columns: Sequence[str], rows: Iterable[Sequence[bytes]]
) -> None:
    """COPY of rows whose fields are in Postgres's binary form already.

    Raises:
        BenchFailed: the login is bound by the table's row-level security, which takes no COPY.
    """
    count = struct.pack("!h", len(columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
        table, sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    allowed = connection.execute(
        "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = session_user"
    ).fetchone()
    if allowed is None or not allowed[0]:
        raise BenchFailed(
            f'login "{connection.info.user}" cannot fill chunk tables by COPY; this benchmark needs a superuser, or '
            "leave --dsn out"
        )
    with connection.cursor().copy(statement) as into:
        gathered = bytearray(_HEADER)
        for row in rows:
            gathered += count
            for field in row:
                gathered += struct.pack("!i", len(field))
                gathered += field
            if len(gathered) >= _BUFFER:
                into.write(bytes(gathered))
                gathered.clear()
        into.write(bytes(gathered) + _END)


def bigint(value: int) -> bytes:
    return struct.pack("!q", value)


def integer(value: int) -> bytes:
    return struct.pack("!i", value)


def moment(value: datetime) -> bytes:
    """timestamptz."""
    return bigint(round((value - _EPOCH).total_seconds() * 1_000_000))


def lsns(values: Sequence[int]) -> bytes:
    """pg_lsn[]."""
    return struct.pack("!iiIii", 1, 0, _LSN, len(values), 1) + b"".join(
        struct.pack("!iQ", 8, value) for value in values
    )


def vectors(type_name: str, values: Vectors) -> list[bytes]:
    """pgvector's `vector` or `halfvec`."""
    head = struct.pack("!hh", values.shape[1], 0)
    return [head + row.tobytes() for row in np.ascontiguousarray(values.astype(_ELEMENTS[type_name]))]
