"""Spans of time as callers write them."""

import math
import re
from datetime import timedelta

from tidegate.errors import UsageError

Duration = timedelta | float | str
"""A timedelta, seconds, or a text: `500ms`, `1s`, `2.5 min`, `1h`, `7d`."""

_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)")
_UNITS = {"ms": "milliseconds", "s": "seconds", "min": "minutes", "m": "minutes", "h": "hours", "d": "days"}


def duration(value: Duration, name: str) -> timedelta:
    """The span; `name` is what the caller calls it.

    Raises:
        UsageError: no span of time, or a negative one.
    """
    span: timedelta | None = None
    try:
        if isinstance(value, timedelta):
            span = value
        elif isinstance(value, str):
            if found := _TEXT.fullmatch(value.strip()):
                span = timedelta(**{_UNITS[found[2]]: float(found[1])})
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            span = timedelta(seconds=value)
    except OverflowError:
        pass
    if span is None or span < timedelta(0):
        raise UsageError(f'{name} is {value!r}; write "500ms", "1s", "2min", a timedelta, or seconds')
    return span


def spoken(span: timedelta) -> str:
    """A span in words of a message: `430 ms`, `2.5 s`, `3 h 12 min`, `2 d 1 h`."""
    seconds = span.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if minutes < 60:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"
