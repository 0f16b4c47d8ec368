"""The Open Data Contract Standard's own JSON schema."""

import copy
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft201909Validator
from jsonschema.exceptions import ValidationError, best_match

from tidegate.contract.finding import did_you_mean
from tidegate.contract.findings import Findings
from tidegate.contract.page import Path

VERSIONS = ("v3.0.0", "v3.0.1", "v3.0.2", "v3.1.0", "v3.2.0")
"""`apiVersion`s whose documents have the shape that tidegate reads."""


@cache
def schema() -> Mapping[str, Any]:
    """The schema that the package `open-data-contract-standard` ships."""
    text = files("open_data_contract_standard").joinpath("schema.json").read_text(encoding="utf-8")
    found: Mapping[str, Any] = json.loads(text)
    return found


def validate(document: Any, findings: Findings) -> None:
    """Report everything in which `document` differs from the standard."""
    validator = Draft201909Validator(schema())
    faults = sorted(
        validator.iter_errors(_with_logical_types(document)),
        key=lambda fault: [str(step) for step in fault.absolute_path],
    )
    # A fault below an object makes all of the object's keys "unevaluated": report causes before them.
    for fault in sorted(faults, key=_is_unevaluated):
        _report(fault, findings)
    version = document.get("apiVersion") if isinstance(document, dict) else None
    if isinstance(version, str) and version not in VERSIONS and not findings.is_known(("apiVersion",)):
        findings.error(("apiVersion",), f"{version} is of an older shape", VERSIONS)


def _with_logical_types(document: Any) -> Any:
    """The document with a `logicalType` for every column: without one, the schema takes it for a map.

    The standard does not ask for it, and tidegate goes by `physicalType`.
    """
    objects = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(objects, list):
        return document
    filled = copy.deepcopy(document)
    for item in filled["schema"]:
        properties = item.get("properties") if isinstance(item, dict) else None
        for column in properties if isinstance(properties, list) else ():
            if isinstance(column, dict):
                column.setdefault("logicalType", "string")
    return filled


def _is_unevaluated(fault: ValidationError) -> bool:
    return fault.validator == "unevaluatedProperties"


def _report(fault: ValidationError, findings: Findings) -> None:
    if fault.context:
        fault = best_match([fault])
    path: Path = tuple(fault.absolute_path)
    wanted: Any = fault.validator_value
    instance: Any = fault.instance
    match fault.validator:
        case "additionalProperties" | "unevaluatedProperties" if isinstance(instance, dict):
            allowed = sorted(set(_properties(fault.schema)))
            for key in instance:
                if key not in allowed and not findings.is_known((*path, key)):
                    findings.error((*path, key), f'unknown key "{key}"{did_you_mean(key, allowed)}', allowed)
        case "required":
            missing = [key for key in wanted if key not in instance]
            key = next((key for key in missing if fault.message.startswith(repr(key))), missing[0])
            findings.error((*path, key), f'"{key}" is missing')
        case "enum":
            findings.error(path, f"{_short(instance)} is not allowed", map(str, wanted))
        case "type":
            allowed = wanted if isinstance(wanted, list) else [wanted]
            findings.error(path, f"{_short(instance)} has the wrong type", allowed)
        case _:
            findings.error(path, fault.message[:300])


def _short(value: Any) -> str:
    return f"a {type(value).__name__}" if isinstance(value, dict | list) else repr(value)[:80]


def _properties(part: Any) -> Iterator[str]:
    if not isinstance(part, dict):
        return
    yield from part.get("properties", ())
    if reference := part.get("$ref"):
        target: Any = schema()
        for step in str(reference).removeprefix("#/").split("/"):
            target = target[step]
        yield from _properties(target)
    for word in ("allOf", "anyOf", "oneOf"):
        for branch in part.get(word, ()):
            yield from _properties(branch)
    for word in ("if", "then", "else"):
        yield from _properties(part.get(word))
