"""Filters as the command line writes them: `region=EU`, `price<100`, `region in EU,US`, `closed_at is null`, JSON."""

import json
import re
from collections.abc import Sequence
from typing import Any

from tidegate.errors import UsageError

_COMPARED = re.compile(r"\s*([A-Za-z_]\w*)\s*(>=|<=|!=|=|<|>)\s*(.*?)\s*", re.DOTALL)
_LISTED = re.compile(r"\s*([A-Za-z_]\w*)\s+in\s+(.*?)\s*", re.DOTALL | re.IGNORECASE)
_EMPTY = re.compile(r"\s*([A-Za-z_]\w*)\s+is\s+(not\s+)?null\s*", re.IGNORECASE)
_WORDS = {">=": "gte", "<=": "lte", "<": "lt", ">": "gt", "!=": "ne"}


def parse_where(texts: Sequence[str]) -> dict[str, Any] | None:
    """All these filters as one; values stay text, which the database reads as the column's type.

    Raises:
        UsageError: a text that is none, or two for one column that do not go together.
    """
    together: dict[str, Any] = {}
    for text in texts:
        for column, test in _parsed(text).items():
            before = together.get(column)
            if column not in together:
                together[column] = test
            elif isinstance(before, dict) and isinstance(test, dict) and not before.keys() & test.keys():
                together[column] = before | test
            else:
                raise UsageError(f'--where says two things of "{column}"; for one of several values: {column} in a,b')
    return together or None


def _parsed(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        try:
            read = json.loads(text)
        except ValueError as error:
            raise UsageError(f"--where is no JSON: {error}") from None
        assert isinstance(read, dict)
        return read
    if found := _EMPTY.fullmatch(text):
        return {found[1]: {"ne": None} if found[2] else None}
    if found := _LISTED.fullmatch(text):
        return {found[1]: [part.strip() for part in found[2].split(",")]}
    if found := _COMPARED.fullmatch(text):
        return {found[1]: found[3] if found[2] == "=" else {_WORDS[found[2]]: found[3]}}
    raise UsageError(
        f'--where "{text}" is no filter; write region=EU, price<100, "region in EU,US", "closed_at is null", or JSON'
    )
