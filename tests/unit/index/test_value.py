"""Values as Debezium writes them (isostring, hex, decimals as strings) against Postgres' own text.

The right-hand sides are what `SELECT x::text` gives with TimeZone UTC and DateStyle ISO.
"""

from typing import Any

import pytest

from tidegate.capture.change_event import UNAVAILABLE
from tidegate.index.value import is_unavailable, value_text


@pytest.mark.parametrize(
    ("value", "type_", "text"),
    [
        # dates
        ("2026-01-31Z", "date", "2026-01-31"),
        ("2026-01-31", "date", "2026-01-31"),
        ("-0043-03-15Z", "date", "0044-03-15 BC"),
        ("0001-01-01Z", "date", "0001-01-01"),
        ("0000-01-01Z", "date", "0000-01-01"),
        ("infinity", "date", "infinity"),
        ("-infinity", "date", "-infinity"),
        ("12026-01-31Z", "date", "12026-01-31"),
        # timestamps
        ("2026-01-31T10:00:00Z", "timestamp", "2026-01-31 10:00:00"),
        ("2026-01-31T10:00:00.120000Z", "timestamp(6)", "2026-01-31 10:00:00.12"),
        ("2026-01-31T10:00:00.000001Z", "timestamp without time zone", "2026-01-31 10:00:00.000001"),
        ("2026-01-31T10:00:00Z", "timestamptz", "2026-01-31 10:00:00+00"),
        ("2026-01-31T10:00:00.500000Z", "timestamp with time zone", "2026-01-31 10:00:00.5+00"),
        ("-0043-03-15T12:00:00Z", "timestamptz", "0044-03-15 12:00:00+00 BC"),
        ("-0043-03-15T12:00:00.5Z", "timestamp", "0044-03-15 12:00:00.5 BC"),
        ("infinity", "timestamptz", "infinity"),
        # times
        ("10:00:00Z", "time", "10:00:00"),
        ("10:00:00.25Z", "time without time zone", "10:00:00.25"),
        # numbers
        (7, "bigint", "7"),
        (-9223372036854775808, "bigint", "-9223372036854775808"),
        ("19.90", "numeric(10,2)", "19.90"),
        ("NAN", "numeric", "NaN"),
        ("NAN", "text", "NAN"),
        ("0.1", "double precision", "0.1"),
        # booleans are written as casting them to text does, not as `t`
        (True, "boolean", "true"),
        (False, "bool", "false"),
        # the rest
        ("deadbeef", "bytea", "\\xdeadbeef"),
        ("", "bytea", "\\x"),
        ("", "text", ""),
        ("  keep blanks ", "text", "  keep blanks "),
        ("2026-01-31Z", "text", "2026-01-31Z"),
        ({"a": "é"}, "jsonb", '{"a": "é"}'),
        (None, "text", None),
        (None, "timestamptz", None),
        # arrays
        ([], "text[]", "{}"),
        (["a", "b"], "text[]", "{a,b}"),
        (["a b", "c,d", 'e"f', "g\\h", "", "NULL", "null", None, "{x}"], "text[]",
         '{"a b","c,d","e\\"f","g\\\\h","","NULL","null",NULL,"{x}"}'),
        ([1, None, 3], "int[]", "{1,NULL,3}"),
        ([True, False], "boolean[]", "{t,f}"),
        (["2026-01-31Z"], "date[]", "{2026-01-31}"),
        (["2026-01-31T10:00:00Z"], "timestamptz[]", '{"2026-01-31 10:00:00+00"}'),
        (["dead"], "bytea[]", '{"\\\\xdead"}'),
        (["NAN", "1.0"], "numeric[]", "{NaN,1.0}"),
        ([["a", "b"], ["c", None]], "text[]", "{{a,b},{c,NULL}}"),
    ],
)  # fmt: skip
def test_a_value_is_written_as_postgres_writes_it(value: Any, type_: str, text: str | None):
    assert value_text(value, type_) == text


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (UNAVAILABLE, "text"),
        (UNAVAILABLE, "varchar(20)"),
        (UNAVAILABLE, "jsonb"),
        (UNAVAILABLE.encode().hex(), "bytea"),
        ([UNAVAILABLE], "text[]"),
        (None, "numeric[]"),  # Debezium has no placeholder for it, so null is not believed
    ],
)
def test_an_unknown_value_is_known_as_such(value: Any, type_: str):
    assert is_unavailable(value, type_)


@pytest.mark.parametrize("value", ["", f"{UNAVAILABLE} ", 0, False, {"a": 1}, None])
def test_what_is_known(value: Any):
    assert not is_unavailable(value, "text")


@pytest.mark.parametrize("value", [[], [None], [1, 2], ["a"], [UNAVAILABLE, UNAVAILABLE]])
def test_what_is_known_of_arrays(value: Any):
    assert not is_unavailable(value, "text[]")
