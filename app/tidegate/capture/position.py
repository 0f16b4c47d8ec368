"""Where a change stands in the order of changes."""

from typing import NamedTuple, NewType

Lsn = NewType("Lsn", int)


def lsn_text(lsn: Lsn) -> str:
    """An LSN as Postgres writes it, `0/18C77E0`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def lsn(text: str) -> Lsn:
    """The LSN that Postgres writes as `text`."""
    high, low = text.split("/")
    return Lsn((int(high, 16) << 32) + int(low, 16))


class Position(NamedTuple):
    """The place of a change in the order of changes of its row: total per key, the same at every delivery.

    The LSN of a change alone does not order them: a transaction that wrote early and committed late comes
    after a backfill's window that lies between, with a smaller LSN. The last commit before the change does,
    since the stream is in commit order; the LSN then orders the changes of one transaction. Both stand in
    `source.sequence` (Debezium PostgreSQL connector, "sequence").
    """

    after_commit: Lsn
    change: Lsn

    @classmethod
    def of(cls, text: str) -> "Position":
        """The position that Postgres writes as `text`, a pg_lsn[]."""
        after_commit, change = text.strip("{}").split(",")
        return cls(lsn(after_commit), lsn(change))

    def text(self) -> str:
        """As a literal of type pg_lsn[], which Postgres compares in the same order."""
        return f"{{{lsn_text(self.after_commit)},{lsn_text(self.change)}}}"


NOWHERE = Position(Lsn(0), Lsn(0))
