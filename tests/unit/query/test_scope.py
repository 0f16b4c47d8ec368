"""Callers' arguments: what is taken, and what is said of the rest."""

from datetime import timedelta

import pytest

from tidegate.errors import UsageError
from tidegate.query.duration import duration, spoken
from tidegate.query.scope import Scope


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("500ms", 0.5), ("1s", 1), ("2.5 min", 150), ("3m", 180), ("1h", 3600), ("7d", 604800), (2, 2), (0.25, 0.25)],
)
def test_spans(written: str | float, seconds: float):
    assert duration(written, "wait") == timedelta(seconds=seconds)
    assert duration(timedelta(seconds=seconds), "wait") == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "written", ["", "soon", "1", "1 s 2", "-1s", -1, float("nan"), float("inf"), True, 1e300, "9" * 400 + "d"]
)
def test_what_is_no_span(written: object):
    with pytest.raises(UsageError, match="wait is "):
        duration(written, "wait")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.43, "430 ms"), (2.5, "2.5 s"), (300, "5 min"), (11520, "3 h 12 min"), (180000, "2 d 2 h")]
)
def test_spans_in_messages(seconds: float, text: str):
    assert spoken(timedelta(seconds=seconds)) == text


def test_a_position_is_a_text_or_a_number():
    assert Scope.of(1, None, "strict", after="0/3A2F1B8").after == "0/3A2F1B8"
    assert Scope.of(1, None, "strict", after=(7 << 32) + 10).after == "7/A"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 10_001}, "1 to 10,000"),
        ({"k": True}, "k is True"),
        ({"k": 2.0}, "k is 2.0"),
        ({"products": "team.note"}, r'pass a list: \["team.note"\]'),
        ({"consistency": "casual"}, "strict, eventual"),
        ({"min_score": "high"}, "min_score is 'high'"),
        ({"min_score": float("nan")}, "min_score"),
        ({"after": "yesterday"}, "LSN"),
        ({"after": "-1/2"}, "LSN"),
        ({"after": -1}, "LSN"),
        ({"fresh_within": "soon"}, "fresh_within is 'soon'"),
        ({"wait": []}, "wait is"),
    ],
)
def test_what_is_refused(arguments: dict[str, object], said: str):
    with pytest.raises(UsageError, match=said):
        Scope.of(**{"k": 1, "products": None, "consistency": "strict"} | arguments)  # type: ignore[arg-type]
