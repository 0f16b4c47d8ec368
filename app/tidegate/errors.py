"""Errors that a user may meet. Each says what happened, to what, and what to do next."""


class TidegateError(Exception):
    """Something went wrong in tidegate."""

    def __init__(self, message: str | None = None):
        super().__init__(message or self.__doc__)


class UsageError(TidegateError):
    """The command or call was used wrongly; nothing was done."""


class UnknownName(UsageError):
    """A name was given that does not exist: of a role, product, file, version, …; nothing was done.

    Raised for what the caller names. What exists and is wrong inside is another TidegateError.
    """


class TransientError(TidegateError):
    """It may work when tried again."""


class TerminalError(TidegateError):
    """Trying again will not help; the row is parked."""
