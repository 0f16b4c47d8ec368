"""How long to wait before what did not work for the moment is tried again."""

import threading


def pause_after(failures: int, first: float, most: float) -> float:
    """Seconds after so many failures that went before: `first`, twice that, and so on, `most` at most."""
    return float(min(first * 2 ** min(failures, 64), most))


class Backoff:
    """Pauses that double from `first` up to `most` seconds, until what was tried works. Of one thread."""

    def __init__(self, first: float, most: float):
        self._first, self._most = first, most
        self._failures = 0

    @property
    def seconds(self) -> float:
        """The next pause."""
        return pause_after(self._failures, self._first, self._most)

    def next(self) -> float:
        """The next pause, which is taken: the one after it is longer."""
        seconds = self.seconds
        self._failures += 1
        return seconds

    def wait(self, stopping: threading.Event) -> bool:
        """Takes the next pause; returns at once, and True, when it is to be stopped."""
        return stopping.wait(self.next())

    def reset(self) -> None:
        """It worked: the next pause is the first again."""
        self._failures = 0
