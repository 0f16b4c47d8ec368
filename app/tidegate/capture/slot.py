"""The replication slot that the stream comes from."""

import logging
import re
import time

import psycopg

from tidegate.capture.stream import HOME
from tidegate.errors import TidegateError

log = logging.getLogger(__name__)

_BUSY_PATIENCE_S = 15.0


class SlotMissing(TidegateError):
    """The replication slot is gone; the changes since are lost to it."""


class SlotBusy(TidegateError):
    """The replication slot is in use by another process."""


def default_slot(database: str) -> str:
    """`tidegate_<database>`, in the characters that a slot's name may have (63 at most)."""
    return f"tidegate_{re.sub('[^a-z0-9_]', '_', database.lower())}"[:63]


def ensure_slot(connection: psycopg.Connection, slot: str, way_out: str = "tidegate recover-slot") -> None:
    """The slot exists, is this database's and is free. A new one is made only where none was used before.

    One that is in use is waited for, since who had it may have just been killed; the log says for whom, at once.

    Args:
        way_out: the command that mends a lost slot.

    Raises:
        SlotMissing: offsets say that it was used, but it is not there: a new one would hide a gap.
        SlotBusy: it stays in use by another process, or is another database's.
    """
    deadline, told = time.monotonic() + _BUSY_PATIENCE_S, False
    while True:
        row = connection.execute(
            "SELECT s.database, s.active_pid, s.wal_status, host(a.client_addr), a.backend_start "
            "FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid WHERE s.slot_name = %s",
            [slot],
        ).fetchone()
        if row is None:
            _create(connection, slot)
            return
        database, pid, wal_status, address, since = row
        if database != connection.info.dbname:
            raise SlotBusy(
                f'replication slot "{slot}" belongs to database "{database}"; choose another name with --slot'
            )
        if wal_status == "lost":
            raise SlotMissing(
                f'replication slot "{slot}" was invalidated: the server removed WAL that it needed. '
                f'Run "{way_out}" to start a new one and read all products again.'
            )
        if pid is None:
            return
        # Of another login's sessions only the process is shown.
        by = f"server process {pid}" + (
            f", from {address or 'a socket'} since {since:%Y-%m-%d %H:%M:%S}Z" if since else ""
        )
        if not told:
            log.warning(
                'waits for the replication slot, which another "tidegate run" on this database has',
                extra={"slot": slot, "used_by": by, "at_most_s": _BUSY_PATIENCE_S},
            )
            told = True
        if time.monotonic() > deadline:
            raise SlotBusy(
                f'replication slot "{slot}" is in use by {by}: another "tidegate run" on this '
                "database is alive. Stop it, or leave the work to it."
            )
        time.sleep(0.1)


def _create(connection: psycopg.Connection, slot: str) -> None:
    # A source on another server has no such table: no embedded engine reads it.
    embedded = connection.execute("SELECT to_regclass('tidegate.debezium_offset') IS NOT NULL").fetchone() == (True,)
    offset = embedded and connection.execute("SELECT offset_val FROM tidegate.debezium_offset LIMIT 1").fetchone()
    if offset:
        raise SlotMissing(
            f'replication slot "{slot}" is gone; the changes since {offset[0]} are lost to it. '
            'Run "tidegate recover-slot" to start a new one and read all products again.'
        )
    connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])


def recover_slot(
    connection: psycopg.Connection, slot: str, source: str = HOME, there: psycopg.Connection | None = None
) -> None:
    """Drops what is left of the slot and its offsets, and asks for a backfill of every product of the source.

    Rows that were deleted meanwhile are found by the worker when the backfill ends (index/sweep.py).

    Args:
        there: the source, where that is another database than the index's.
    """
    try:
        with connection.transaction():
            _forget_positions(connection, source)
            (there or connection).execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s",
                [slot],
            )
    except psycopg.errors.ObjectInUse:
        raise SlotBusy(
            f'replication slot "{slot}" is in use: stop "tidegate run", or "tidegate connect delete" first'
        ) from None


def _forget_positions(connection: psycopg.Connection, source: str) -> None:
    if source == HOME:
        connection.execute("DELETE FROM tidegate.debezium_offset")
    # Those that were suspended for the slot's sake (index/source_check.py) are so no more.
    connection.execute(
        "UPDATE tidegate.product SET state = 'pending', state_reason = NULL, built_from = 'source', "
        "truncated_at = NULL, purged_to = NULL WHERE source_server = %s "
        "AND (state <> 'suspended' OR position('tidegate recover-slot' IN state_reason) > 0)",
        [source],
    )
    # The new stream may count from lower positions (a restored dump); nothing of the old one comes any more.
    connection.execute("DELETE FROM tidegate.watermark WHERE source = %s", [source])
    connection.execute("UPDATE tidegate.stream_partition SET finished_lsn = NULL WHERE source = %s", [source])
    connection.execute(
        "UPDATE tidegate.ledger l SET position = '{0/0,0/0}' FROM tidegate.product p "
        "WHERE p.product_id = l.product_id AND p.source_server = %s",
        [source],
    )
