"""SIGINT and SIGTERM of `tidegate run`."""

import signal
from collections.abc import Iterator

import pytest

from tidegate.cli.options import stop_event


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signals_one_upon_the_other_never_block_and_set_the_event() -> None:
    stop = stop_event()
    for _ in range(200):
        signal.raise_signal(signal.SIGTERM)
        stop.wait(0)
    assert stop.wait(5)
