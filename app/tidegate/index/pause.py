"""How long the lanes wait before they try again what did not work for the moment."""

from tidegate.backoff import Backoff, pause_after

FIRST_S = 0.25
MOST_S = 15.0


def pauses() -> Backoff:
    """The pauses of what is tried until it works."""
    return Backoff(FIRST_S, MOST_S)


def after(attempts: int) -> float:
    """Seconds before a row is tried again that was tried so often."""
    return pause_after(attempts, FIRST_S, MOST_S)
