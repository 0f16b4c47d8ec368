"""What of a row leaves the source under a contract, and must not."""

from typing import Any

from tidegate.contract.columns import is_restricted, never_embedded
from tidegate.contract.contract import RESERVED_COLUMNS, Contract
from tidegate.contract.embedding import Embedding
from tidegate.contract.findings import Findings
from tidegate.contract.page import Path
from tidegate.contract.rule import rule_columns


def check_secrecy(contract: Contract, table: dict[str, Any], path: Path, findings: Findings) -> None:
    """Finds columns that must not leave the source and do, and columns that have no place outside it.

    Args:
        table: the schema object that the columns come from.
        path: of the embedding.
    """
    by_name = {column.name: column for column in contract.columns}
    for name in contract.embedding.document_columns:
        if name not in by_name:
            findings.error(_place(name, contract.embedding, path), f"there is no column {name}", by_name)
        elif reason := never_embedded(by_name[name]):
            public = [column.name for column in contract.columns if not never_embedded(column)]
            place = _place(name, contract.embedding, path)
            findings.error(place, f"column {name} is {reason} and must not be embedded", public)
    properties = table.get("properties")
    for index, item in enumerate(properties if isinstance(properties, list) else ()):
        column = by_name.get(str(item.get("name"))) if isinstance(item, dict) else None
        if column is None or column not in contract.carried_columns:
            continue
        here: Path = ("schema", 0, "properties", index)
        use = (
            "key"
            if column.key_position
            else "rule"
            if column.name in rule_columns(contract.rules)
            else "filter"
            if column.filterable
            else "masked column"
        )
        if column.mask and use != "masked column":
            message = f"column {column.name} is masked, only its mask leaves the source, but is used as {use}"
            findings.error(here, message)
        elif is_restricted(column) and not column.mask:
            message = f"column {column.name} is restricted and must not leave the source, but is used as {use}"
            findings.error(here, message)
        if column.name in RESERVED_COLUMNS:
            findings.error(
                (*here, "name"),
                f"column {column.name} is used as {use}, but every chunk table has its own {column.name}",
            )


def _place(name: str, embedding: Embedding, path: Path) -> Path:
    """Where in the contract the embedding names this column."""
    if embedding.template is None:
        return (*path, "columns", embedding.columns.index(name))
    return (*path, "template")
