"""The id of a signal that asks Debezium to read tables; its notifications of that backfill have the same."""

import re

_ID = re.compile(r"backfill-([0-9]{1,18})", re.ASCII)


def backfill_id(number: int) -> str:
    """The id for the backfill of this number."""
    return f"backfill-{number}"


def backfill_number(signal_id: str) -> int:
    """The number that an id was made of; 0: another hand made the signal, or Debezium does not know it any more."""
    found = _ID.fullmatch(signal_id)
    return 0 if found is None else int(found[1])
