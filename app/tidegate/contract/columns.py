"""A contract's columns: names, types, key, and what must not leave the source."""

from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from tidegate.contract.contract import Column
from tidegate.contract.family import KNOWN_TYPES, Family, base, family, physical_type, unknown_type
from tidegate.contract.finding import did_you_mean
from tidegate.contract.findings import Findings
from tidegate.contract.identifier import PLAIN_NAME, is_identifier
from tidegate.contract.mask_property import PROPERTIES, check_mask, read_embed, read_mask, read_reveal
from tidegate.contract.page import Path
from tidegate.contract.vendor import properties

RESTRICTED = "restricted"
FILTER = "filter"
"""The one tag that means something to tidegate; all others are the domain's own."""
_NEAR = 0.75
KEY_TYPES = ("smallint", "integer", "bigint", "uuid", "text", "varchar")


def read_columns(table: dict[str, Any], roles: tuple[str, ...], findings: Findings) -> tuple[Column, ...]:
    """The columns of a schema object, in the contract's order; reports all that is wrong with them."""
    items = table.get("properties")
    found: dict[str, Column] = {}
    keys: list[tuple[str, Any, Path]] = []
    for index, item in enumerate(items if isinstance(items, list) else ()):
        path: Path = ("schema", 0, "properties", index)
        if not isinstance(item, dict):
            continue
        column = _column(item, path, roles, findings)
        if column is None:
            continue
        if column.name in found:
            findings.error((*path, "name"), f"column {column.name} is there twice")
        found[column.name] = column
        if item.get("primaryKey") is True:
            keys.append((column.name, item.get("primaryKeyPosition", -1), path))
            _check_key_type(column, path, findings)
    if not keys and not findings.is_known(("schema", 0, "properties")):
        findings.error(
            ("schema", 0),
            f"no primary key: changes of a row cannot be told apart. Give {table.get('name')} one in the "
            "database and mark its columns",
            ("primaryKey: true", "primaryKeyPosition: 1"),
        )
    for name, position in _positions(keys, findings).items():
        found[name] = replace(found[name], key_position=position)
    return tuple(found.values())


def _column(item: dict[str, Any], path: Path, roles: tuple[str, ...], findings: Findings) -> Column | None:
    ours = properties(item, path, PROPERTIES, findings)
    mask = read_mask(*ours["mask"], findings) if "mask" in ours else None
    name = findings.text(item.get("name"), (*path, "name"))
    if name is not None and not is_identifier(name):
        findings.error((*path, "name"), f"{name!r} cannot be a column", (PLAIN_NAME,))
    if name is not None and item.get("physicalName", name) != name:
        findings.error((*path, "physicalName"), "a column has one name, the table's own", (name,))
    written = findings.text(item.get("physicalType"), (*path, "physicalType"))
    if name is None or written is None:
        return None
    try:
        type_ = physical_type(written)
    except ValueError as error:
        findings.error((*path, "physicalType"), str(error))
        return None
    if unknown_type(type_):
        findings.warn(
            (*path, "physicalType"),
            f'Postgres has no type "{type_}"{did_you_mean(type_, KNOWN_TYPES)}; one of your own is written with its '
            "schema, as in support.mood",
        )
    tags = item.get("tags")
    _warn_of_near_tags(tags, (*path, "tags"), findings)
    classification, description = item.get("classification"), item.get("description")
    column = Column(
        name=name,
        physical_type=type_,
        key_position=None,
        required=item.get("required") is True or item.get("primaryKey") is True,
        classification=classification if isinstance(classification, str) else None,
        filterable=isinstance(tags, list) and FILTER in tags,
        description=description if isinstance(description, str) else None,
        mask=mask,
        reveal=read_reveal(ours, findings),
        embed=read_embed(ours, findings),
    )
    check_mask(column, ours, roles, findings)
    return column


def _warn_of_near_tags(tags: Any, path: Path, findings: Findings) -> None:
    given = tags if isinstance(tags, list) and FILTER not in tags else []
    for index, tag in enumerate(given):
        if isinstance(tag, str) and get_close_matches(tag.lower(), [FILTER], 1, _NEAR):
            findings.warn((*path, index), f'tag "{tag}" means nothing to tidegate; did you mean "{FILTER}"?')


def is_key_type(physical_type: str) -> bool:
    """Whether a column of the type can be a key: its values as text are the same in every session."""
    known = family(physical_type)
    plain = base(physical_type) in ("text", "varchar", "character varying")
    return known in (Family.INTEGER, Family.UUID) or (known is Family.TEXT and plain)


def _check_key_type(column: Column, path: Path, findings: Findings) -> None:
    if not is_key_type(column.physical_type):
        findings.error((*path, "physicalType"), f"{column.physical_type} cannot be a key", KEY_TYPES)


def _positions(keys: list[tuple[str, Any, Path]], findings: Findings) -> dict[str, int]:
    if len(keys) == 1 and keys[0][1] in (-1, 1):
        return {keys[0][0]: 1}
    given = [position for _, position, _ in keys]
    for name, position, path in keys:
        place = (*path, "primaryKeyPosition")
        if not isinstance(position, int) or not 1 <= position <= len(keys):
            findings.error(place, f"key column {name} needs its place in the key", map(str, range(1, len(keys) + 1)))
        elif given.count(position) > 1:
            findings.error(place, f"two key columns at place {position}")
    return {name: position for name, position, _ in keys if isinstance(position, int)}


def is_restricted(column: Column) -> bool:
    """Whether the clear value must not leave its source."""
    return (column.classification or "").strip().lower() == RESTRICTED


def never_embedded(column: Column) -> str | None:
    """Why the column must not be embedded, or None where it may."""
    if is_restricted(column):
        return "restricted"
    return "masked" if column.mask else None if column.embed else "marked `embed: never`"
