"""How long nothing has come from Kafka, and why."""

import logging
import time
from datetime import UTC, datetime

log = logging.getLogger(__name__)

_SILENCE_S = 5.0
_LOOK_S = 2.0


class Silence:
    """Since the last record, or since the start. Heartbeats come every second: a long silence has a reason."""

    def __init__(self) -> None:
        self._last_record = time.monotonic()
        self._last_look = 0.0
        self._trouble: tuple[str, datetime] | None = None

    @property
    def trouble(self) -> tuple[str, datetime] | None:
        """What keeps changes from coming, and since when; None: nothing does."""
        return self._trouble

    def broken(self) -> None:
        """A record has come."""
        self._last_record = time.monotonic()
        self._trouble = None

    def to_be_looked_at(self) -> bool:
        """Whether it has lasted long enough to ask why, and was not asked just before."""
        now = time.monotonic()
        if now < max(self._last_record + _SILENCE_S, self._last_look + _LOOK_S):
            return False
        self._last_look = now
        return True

    def because(self, trouble: str) -> None:
        """Notes, and at first logs, why."""
        if self._trouble is None:
            age = time.monotonic() - self._last_record
            self._trouble = (trouble, datetime.fromtimestamp(time.time() - age, UTC))
            log.warning("no changes come", extra={"reason": trouble})
        else:
            self._trouble = (trouble, self._trouble[1])
