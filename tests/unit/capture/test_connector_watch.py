"""Which failed connectors are started again, how often, and what is said meanwhile."""

import pytest

from tidegate.capture.connect import Connect, ConnectAway, ConnectorState
from tidegate.capture.connector_watch import ConnectorWatch

RUNNING = ConnectorState("c", "RUNNING", ("RUNNING",), "w", None)
UNCONVERTED = ConnectorState("c", "RUNNING", ("FAILED",), "w", "RestClientException", unconverted=True)
NO_SLOT = ConnectorState("c", "RUNNING", ("FAILED",), "w", "replication slot is gone")


class Answers(Connect):
    """A Connect whose connector is as a test says."""

    def __init__(self) -> None:
        self.now: ConnectorState | Exception | None = RUNNING
        self.restarts = 0

    def state(self, name: str) -> ConnectorState | None:
        if isinstance(self.now, Exception):
            raise self.now
        return self.now

    def restart(self, name: str) -> bool:
        self.restarts += 1
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("tidegate.capture.connector_watch.time.monotonic", lambda: now[0])
    return now


def test_a_failed_conversion_is_tried_again_with_growing_pauses(clock: list[float]) -> None:
    connect = Answers()
    watch = ConnectorWatch(connect, ["c"], lambda: True)
    watch.look()
    assert (connect.restarts, watch.trouble) == (0, None)
    connect.now = UNCONVERTED
    restarted = []
    for _ in range(240):
        before = connect.restarts
        watch.look()
        if connect.restarts > before:
            restarted.append(clock[0] - 1000)
        clock[0] += 1
    assert restarted == [0, 5, 15, 35, 75, 155]
    assert watch.trouble is not None
    said, since = watch.trouble
    assert said == 'connector "c" cannot convert values (RestClientException); is the schema registry there?'

    # Just restarted, it runs for a moment in any case.
    clock[0] = 1000 + 156
    connect.now = RUNNING
    watch.look()
    assert watch.trouble == (said, since)
    clock[0] += 8
    watch.look()
    assert watch.trouble is None


@pytest.mark.parametrize("state", [NO_SLOT, None, ConnectAway("away")])
def test_all_else_is_left_alone(clock: list[float], state: ConnectorState | Exception | None) -> None:
    """A connector without its slot would make a new one, behind changes that nobody has read."""
    connect = Answers()
    connect.now = state
    watch = ConnectorWatch(connect, ["c"], lambda: True)
    watch.look()
    assert (connect.restarts, watch.trouble) == (0, None)
