"""A YAML file as plain data that remembers its lines."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

MAX_BYTES = 512 * 1024
MAX_DEPTH = 40
MAX_NODES = 50_000

Path = tuple[str | int, ...]

_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
"""YAML 1.2's core: `NO` is a country, `on` is a word, a date is a text."""


@dataclass(frozen=True, slots=True)
class Page:
    """`value` is the document, `lines` maps paths in it to lines of the file (from 1)."""

    value: Any
    lines: dict[Path, int]

    def line(self, path: Path) -> int:
        """The line of `path`, or of the nearest thing above it that exists."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


Complain = Callable[[Path, int, str], None]
"""Called with path, line and message."""


def show(path: Path) -> str:
    """`("schema", 0, "name")` as `schema[0].name`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def read_page(content: bytes, complain: Complain) -> Page | None:
    """The YAML document in `content`; None where there is none to go on with.

    Refused, each with its line: more than 512 KiB, aliases (so no alias can multiply), tags, deep nesting,
    duplicate keys, several documents.
    """
    if len(content) > MAX_BYTES:
        complain((), 1, f"the file has {len(content)} bytes; a contract has at most {MAX_BYTES}")
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        complain((), content[: error.start].count(b"\n") + 1, "the file is not UTF-8")
        return None
    try:
        if not _is_plain(text, complain):
            return None
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        complain((), mark.line + 1 if mark else 1, f"not YAML: {error.problem or error.context}")
        return None
    except yaml.YAMLError as error:
        complain((), 1, f"not YAML: {str(error).splitlines()[0]}")
        return None
    if node is None:
        complain((), 1, "the file is empty")
        return None
    lines: dict[Path, int] = {(): node.start_mark.line + 1}
    return Page(_value(node, (), lines, complain), lines)


def _is_plain(text: str, complain: Complain) -> bool:
    depth = documents = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        line = event.start_mark.line + 1 if event.start_mark else 1
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        trouble = None
        if isinstance(event, yaml.AliasEvent):
            trouble = f"alias *{event.anchor}: aliases are not allowed; write the value out"
        elif (tag := getattr(event, "tag", None)) is not None:
            trouble = f"tag {tag}: tags are not allowed"
        elif depth > MAX_DEPTH:
            trouble = f"nested more than {MAX_DEPTH} deep"
        elif count > MAX_NODES:
            trouble = f"more than {MAX_NODES} nodes"
        elif documents > 1:
            trouble = "a second document; one contract a file"
        if trouble:
            complain((), line, trouble)
            return False
    return True


def _value(node: yaml.Node, path: Path, lines: dict[Path, int], complain: Complain) -> Any:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
        return [_value(item, (*path, index), lines, complain) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                complain(path, line, "a key must be a plain name")
                continue
            key = str(key_node.value)
            if key in found:
                complain((*path, key), line, f'duplicate key "{key}", first on line {lines[(*path, key)]}')
                continue
            lines[(*path, key)] = line
            found[key] = _value(value_node, (*path, key), lines, complain)
        return found
    return _scalar(node) if isinstance(node, yaml.ScalarNode) else None


def _scalar(node: yaml.ScalarNode) -> Any:
    text = str(node.value)
    if node.style is not None:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text
