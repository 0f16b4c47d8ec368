"""Connectors that could not convert a value, started again: Connect itself leaves a failed task as it is."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tidegate.backoff import Backoff
from tidegate.capture.connect import Connect, ConnectAway, ConnectorState, ConnectRefused

log = logging.getLogger(__name__)

_LOOK_S = 5.0
_SETTLED_S = 8.0
_FIRST_S, _MOST_S = 5.0, 120.0


@dataclass
class _Failing:
    reason: str
    since: datetime
    again: float
    pauses: Backoff = field(default_factory=lambda: Backoff(_FIRST_S, _MOST_S))
    restarted: float = 0.0


@dataclass
class ConnectorWatch:
    """Looks at connectors from a thread of its own, and restarts those of which a schema registry that was away made a
    task fail. A value that was not converted was not sent, and the slot keeps its place: nothing is lost. What failed
    for another reason waits for a human, who may have to recover a slot first.

    Args:
        names: the connectors.
        leads: whether this worker is the one that sees to them.
    """

    connect: Connect
    names: Sequence[str]
    leads: Callable[[], bool]
    _failing: dict[str, _Failing] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def trouble(self) -> tuple[str, datetime] | None:
        """One of those that fail, and since when; None: none does."""
        for name, failing in sorted(self._failing.items()):
            return (
                f'connector "{name}" cannot convert values ({failing.reason}); is the schema registry there?',
                failing.since,
            )
        return None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="connectors", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(2.0)

    def look(self) -> None:
        """Once at each of them."""
        for name in self.names:
            try:
                state = self.connect.state(name)
                if state is not None and state.failed and state.unconverted:
                    self._failed(state)
                elif name in self._failing and time.monotonic() > self._failing[name].restarted + _SETTLED_S:
                    log.info("connector runs again", extra={"connector": name})
                    del self._failing[name]
            except (ConnectAway, ConnectRefused) as error:
                log.debug("connector not seen", extra={"connector": name, "reason": str(error)})

    def _failed(self, state: ConnectorState) -> None:
        now = time.monotonic()
        failing = self._failing.setdefault(state.name, _Failing("", datetime.now(UTC), now))
        failing.reason = state.reason or "no reason given"
        if now < failing.again:
            return
        log.warning("connector restarted", extra={"connector": state.name, "reason": failing.reason})
        self.connect.restart(state.name)
        failing.restarted, failing.again = now, now + failing.pauses.next()

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            if self.leads():
                self.look()
            else:
                self._failing.clear()
