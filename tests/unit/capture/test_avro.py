"""Avro values as Connect's JSON has them: numbers, bytes, maps, names, and what is not to be believed."""

import io
import json
import struct

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.capture.avro import _same, avro_reader, double_text, float_text
from tidegate.capture.change_event import UNAVAILABLE, UndecodableEvent
from tidegate.capture.names import escaped, written


def written_as(schema: object, value: object) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(json.loads(json.dumps(schema))), value)
    return stream.getvalue()


def read(schema: object, value: object) -> object:
    return avro_reader(json.dumps(schema))(written_as(schema, value))


def record(name: str, **fields: object) -> dict[str, object]:
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"), (-0.0, "-0.0"), (1.0, "1.0"), (100.0, "100.0"), (0.5, "0.5"), (-2.25, "-2.25"), (0.001, "0.001"),
        (0.00099, "9.9E-4"), (9999999.0, "9999999.0"), (1e7, "1.0E7"), (1.25e10, "1.25E10"), (1e-300, "1.0E-300"),
        (123456.789, "123456.789"), (float("nan"), "NaN"), (float("inf"), "Infinity"), (float("-inf"), "-Infinity"),
    ],
)  # fmt: skip
def test_doubles_are_written_as_java_does(value: float, text: str) -> None:
    assert double_text(value) == text


@given(st.floats(allow_nan=False, width=32))
def test_a_float_keeps_its_value_in_the_fewest_digits(value: float) -> None:
    text = float_text(value)
    assert struct.pack("f", float(text)) == struct.pack("f", value)
    assert len(text.split("E")[0].strip("-0.").replace(".", "")) <= 9
    assert float_text(struct.unpack("f", struct.pack("f", 0.1))[0]) == "0.1"


@given(st.floats(allow_nan=False))
def test_a_double_keeps_its_value(value: float) -> None:
    assert struct.pack("d", float(double_text(value))) == struct.pack("d", value)


@pytest.mark.parametrize("name", ["id", "item_id", "my Größe", "_", "a_u0041", "🌊", "1st", ""])
def test_escaped_names_come_back(name: str) -> None:
    units = name.encode("utf-16-le")
    debezium = "".join(
        chr(unit) if chr(unit).isascii() and chr(unit).isalnum() else f"_u{unit:04x}"
        for (unit,) in struct.iter_unpack("<H", units)
    )
    assert written(debezium) == name
    if name.isascii() and name.replace("_", "").isalnum():
        assert escaped(name) == debezium


@pytest.mark.parametrize("mark", [{"connect.internal.type": "MapEntry"}, {"namespace": "a.b", "name": "MapEntry"}])
def test_bytes_maps_and_nested_numbers(mark: dict[str, str]) -> None:
    entry = record("Entry", key="int", value=["null", "double"]) | mark
    schema = record(
        "Row",
        raw="bytes", fixed={"type": "fixed", "name": "Two", "size": 2}, pairs={"type": "array", "items": entry},
        texts={"type": "map", "values": "string"}, numbers=["null", {"type": "array", "items": ["null", "float"]}],
        day={"type": "int", "logicalType": "date"}, point=["null", record("Point", x="double", wkb=["null", "bytes"])],
    )  # fmt: skip
    value = {
        "raw": b"\x00\xff", "fixed": b"ab", "pairs": [{"key": 1, "value": 0.5}, {"key": 3, "value": None}],
        "texts": {"a": "b"}, "numbers": [1.5, None], "day": 7, "point": {"x": 2.0, "wkb": None},
    }  # fmt: skip
    assert read(schema, value) == {
        "raw": "AP8=", "fixed": "YWI=", "pairs": [[1, "0.5"], [3, None]], "texts": {"a": "b"},
        "numbers": ["1.5", None], "day": 7, "point": {"x": "2.0", "wkb": None},
    }  # fmt: skip


def envelope() -> dict[str, object]:
    row = record("Value", id="int", item_u005fname=["string", "null"], state=["string", "null"], size=["null", "int"])
    row["fields"][2]["default"] = "open"  # type: ignore[index]
    row["fields"][3]["default"] = None  # type: ignore[index]
    source = record("Source", snapshot=["string", "null"])
    source["fields"][0]["default"] = "false"  # type: ignore[index]
    return record("Envelope", before=["null", row], after=["null", "Value"], source=source, op="string")


def test_a_default_in_place_of_null_is_not_believed() -> None:
    """Apicurio's converter writes the column's DEFAULT for NULL: such a row must be read. What Debezium's own fields
    have for default is believed."""

    def after(state: str | None) -> object:
        row = {"id": 1, "item_u005fname": "n", "state": state, "size": None}
        found = read(envelope(), {"before": row, "after": row, "source": {"snapshot": "false"}, "op": "u"})
        assert isinstance(found, dict)
        assert found["before"] is None
        assert found["source"] == {"snapshot": "false"}
        return found["after"]

    assert after("open") == {"id": 1, "item_name": "n", "state": UNAVAILABLE, "size": None}
    assert after("done") == {"id": 1, "item_name": "n", "state": "done", "size": None}
    assert after(None) == {"id": 1, "item_name": "n", "state": None, "size": None}


def test_a_delete_has_no_row() -> None:
    value = {"before": None, "after": None, "source": {"snapshot": None}, "op": "d"}
    assert read(envelope(), value) == value


@pytest.mark.parametrize("payload", [b"", b"\x02", b"\x02\x02\x00\x00", b"\xff" * 30])
def test_bytes_of_another_schema_are_undecodable(payload: bytes) -> None:
    reader = avro_reader(json.dumps(record("Row", secret="string", number="int")))
    with pytest.raises(UndecodableEvent, match="not of its Avro schema"):
        reader(payload)


@pytest.mark.parametrize("text", ["{", "[]x", '{"type": "nothing"}', "7"])
def test_a_schema_that_is_none(text: str) -> None:
    with pytest.raises(UndecodableEvent, match="no Avro schema"):
        avro_reader(text)


def test_a_real_is_its_default_whatever_digits_it_has() -> None:
    assert _same(0.10000000149011612, 0.1)
    assert not _same(0.2, 0.1)
