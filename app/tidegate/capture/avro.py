"""Avro, as Connect's converters write it: the same values as in Connect's JSON."""

import base64
import io
import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from tidegate.capture.change_event import UNAVAILABLE, UndecodableEvent
from tidegate.capture.names import written
from tidegate.errors import UsageError

Change = Callable[[Any], Any]
"""What makes a value of fastavro one of JSON; None stands for one that leaves it as it is."""
_SIMPLE = {"null", "boolean", "int", "long", "string", "enum"}


def avro_reader(text: str) -> Callable[[bytes], Any]:
    """What reads values of an Avro schema: as Python has them of Connect's JSON (schemas off), numbers with a fraction
    as texts.

    A nullable column with a DEFAULT whose value is that default is UNAVAILABLE: Apicurio's converter writes the default
    where the row has NULL, so that nobody can tell which it was. Such a row is read from its table.

    Raises:
        UsageError: fastavro is not installed.
        UndecodableEvent: it is no Avro schema; and by the reader, the bytes are none of this schema.
    """
    try:
        import fastavro
    except ImportError:
        raise UsageError("values are Avro, and fastavro is not installed: pip install 'tidegate[registry]'") from None
    from fastavro.schema import SchemaParseException, UnknownType

    named: dict[str, Any] = {}
    try:
        schema = fastavro.parse_schema(_plain(json.loads(text)), named_schemas=named)
        change = _Changes(named).of(schema)
    except (ValueError, KeyError, TypeError, RecursionError, SchemaParseException, UnknownType) as error:
        raise UndecodableEvent(f"the registered schema is no Avro schema: {type(error).__name__}") from None

    def read(payload: bytes) -> Any:
        stream = io.BytesIO(payload)
        try:
            value = fastavro.schemaless_reader(stream, schema, None)
            if stream.tell() != len(payload):
                raise ValueError("bytes are left over")
        except (
            EOFError,
            ValueError,
            IndexError,
            KeyError,
            TypeError,
            OverflowError,
            MemoryError,
            RecursionError,
        ) as error:
            # Not its text: that may hold what the row does.
            raise UndecodableEvent(f"the value is not of its Avro schema: {type(error).__name__}") from None
        return value if change is None else change(value)

    return read


def double_text(value: float) -> str:
    """As Java writes a double, and so Connect's JSON."""
    return _java(Decimal(repr(value)), value)


def float_text(value: float) -> str:
    """As Java writes a float: the shortest digits that only this one of all floats has."""
    return _java(Decimal(str(np.float32(value))), value)


def _java(number: Decimal, value: float) -> str:
    """Double.toString: plain from 1e-3 to below 1e7, else with one digit before the point and an exponent."""
    if not number.is_finite():
        return "NaN" if number.is_nan() else "Infinity" if value > 0 else "-Infinity"
    sign, places, _ = number.normalize().as_tuple()
    digits, exponent = "".join(map(str, places)), number.adjusted()
    minus = "-" if sign else ""
    if not number:
        return f"{minus}0.0"
    if not -3 <= exponent < 7:
        return f"{minus}{digits[0]}.{digits[1:] or '0'}E{exponent}"
    if exponent < 0:
        return f"{minus}0.{'0' * (-exponent - 1)}{digits}"
    whole = digits.ljust(exponent + 1, "0")
    return f"{minus}{whole[: exponent + 1]}.{whole[exponent + 1 :] or '0'}"


class _Changes:
    """What is to be changed in values of a schema, worked out once a schema."""

    def __init__(self, named: Mapping[str, Any]):
        self._named = named

    def of(self, schema: Any) -> Change | None:
        match schema:
            case str():
                return self.of(self._named[schema]) if schema in self._named else self._of_type(schema, {})
            case list():
                return self._of_union(schema)
        return self._of_type(schema["type"], schema)

    def _of_type(self, kind: Any, schema: Mapping[str, Any]) -> Change | None:
        match kind:
            case "float":
                return float_text
            case "double":
                return double_text
            case "bytes" | "fixed":
                return lambda value: base64.b64encode(value).decode()
            case "array":
                return self._of_array(schema["items"])
            case "map":
                of_value = self.of(schema["values"])
                return of_value and (lambda value: {name: of_value(each) for name, each in value.items()})
            case "record":
                return self._of_record(schema)
            case str() if kind in _SIMPLE:
                return None
        return self.of(kind)

    def _of_union(self, schema: list[Any]) -> Change | None:
        branches = [branch for branch in schema if branch != "null"]
        if len(branches) != 1:
            return None
        change = self.of(branches[0])
        return change and (lambda value: None if value is None else change(value))

    def _of_array(self, items: Any) -> Change | None:
        entry = self._record(items)
        if entry is not None and _is_entry(entry):
            # A map whose keys are no texts: pairs in JSON.
            pair = self._of_record(entry) or (lambda value: value)
            return lambda value: [list(pair(each).values()) for each in value]
        change = self.of(items)
        return change and (lambda value: [change(each) for each in value])

    def _of_record(self, schema: Mapping[str, Any]) -> Change | None:
        fields = {field["name"]: field for field in schema["fields"]}
        changes = {name: self.of(field["type"]) for name, field in fields.items()}
        if {"op", "after", "source"} <= fields.keys():
            # Of the row before nothing is read.
            changes |= {"after": self._of_row(fields["after"]["type"]), "before": lambda _: None}
        needed = {name: change for name, change in changes.items() if change is not None}
        if not needed:
            return None

        def changed(value: dict[str, Any]) -> dict[str, Any]:
            for name, change in needed.items():
                value[name] = change(value[name])
            return value

        return changed

    def _of_row(self, schema: Any) -> Change | None:
        """The row's own columns: their names, and the defaults that may stand for NULL."""
        row = next((found for found in map(self._record, schema) if found is not None), None)
        if row is None:
            return None
        columns = []
        for field in row["fields"]:
            default = field.get("default")
            nullable = isinstance(field["type"], list) and "null" in field["type"]
            doubtful = (default,) if nullable and default is not None else ()
            columns.append((field["name"], written(field["name"]), self.of(field["type"]), doubtful))

        def changed(value: dict[str, Any] | None) -> dict[str, Any] | None:
            if value is None:
                return None
            result = {}
            for name, column, change, doubtful in columns:
                found = value[name]
                if doubtful and _same(found, doubtful[0]):
                    result[column] = UNAVAILABLE
                else:
                    result[column] = found if change is None else change(found)
            return result

        return changed

    def _record(self, schema: Any) -> Mapping[str, Any] | None:
        found = self._named.get(schema) if isinstance(schema, str) else schema
        return found if isinstance(found, dict) and found.get("type") == "record" else None


def _is_entry(record: Mapping[str, Any]) -> bool:
    """Whether Connect's converter made the record of a map's entry: by its name, or by a mark if the map has one."""
    name = record["name"].rpartition(".")[2]
    return "MapEntry" in (name, record.get("connect.internal.type")) and [
        field["name"] for field in record["fields"]
    ] == ["key", "value"]


def _same(found: Any, default: Any) -> bool:
    """Whether a value is the default as the schema writes it (bytes as Latin-1 text, a `real` with all its digits)."""
    if isinstance(found, float) and isinstance(default, int | float):
        return found == default or abs(found - default) <= abs(default) * 1e-6
    return bool((found.decode("latin-1") if isinstance(found, bytes) else found) == default)


def _plain(schema: Any) -> Any:
    """The schema without logical types: Connect's JSON has the bare values, too."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _plain(each) if name in ("type", "items", "values", "fields") else each
        for name, each in schema.items()
        if name != "logicalType"
    }
