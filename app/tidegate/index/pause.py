"""How long the lanes wait before they try again what did not work for the moment."""

FIRST_S = 0.25
MOST_S = 15.0


def longer(pause: float) -> float:
    """The pause after the one of so many seconds."""
    return min(pause * 2, MOST_S)


def after(attempts: int) -> float:
    """Seconds before a row is tried again that was tried so often."""
    return min(FIRST_S * 2.0**attempts, MOST_S)
