"""Pauses double up to a bound, begin anew when it worked, and hold up no stop."""

import threading

from tidegate.backoff import Backoff, pause_after


def test_pauses_double_up_to_a_bound_and_begin_anew() -> None:
    pauses = Backoff(0.5, 3.0)
    assert [pauses.next() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert pauses.seconds == 3.0
    pauses.reset()
    assert (pauses.seconds, pauses.next(), pauses.next()) == (0.5, 0.5, 1.0)
    assert pause_after(10_000, 0.25, 15.0) == 15.0


def test_a_stop_is_not_held_up() -> None:
    pauses, stopping = Backoff(3600, 7200), threading.Event()
    threading.Timer(0.05, stopping.set).start()
    assert pauses.wait(stopping)
    assert pauses.seconds == 7200
    assert not Backoff(0.0, 0.0).wait(threading.Event())
