"""What breaks a decoder is a dead letter, never the worker's end."""

import json

import pytest

from tidegate.capture.avro import _same
from tidegate.capture.change_event import UndecodableEvent, decode, event_of


@pytest.mark.parametrize("moment", [2**58, -(2**62)])
def test_a_moment_out_of_range_is_undecodable(moment: int) -> None:
    value = {"op": "c", "before": None, "after": {"id": 1},
             "source": {"ts_us": moment, "sequence": "[\"1\", \"2\"]", "schema": "a", "table": "b"}}  # fmt: skip
    with pytest.raises(UndecodableEvent, match="OverflowError"):
        event_of({"id": 1}, value)


def test_what_is_nested_too_deep_is_undecodable() -> None:
    deep = "[" * 200_000 + "]" * 200_000
    with pytest.raises(UndecodableEvent, match="RecursionError"):
        decode(json.dumps({"id": 1}), deep)


def test_a_real_is_its_default_whatever_digits_it_has() -> None:
    assert _same(0.10000000149011612, 0.1)
    assert not _same(0.2, 0.1)
