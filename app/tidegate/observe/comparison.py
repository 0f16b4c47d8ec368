"""What is wrong with a row of the index, given its source."""

from dataclasses import dataclass
from enum import StrEnum

from tidegate.contract.contract import Contract
from tidegate.observe.index_rows import IndexRow
from tidegate.observe.source_rows import SourceRow


class Problem(StrEnum):
    """How a row of the index differs from its source."""

    MISSING = "missing"
    """It is in the source, and not in the index."""
    STALE = "stale"
    """Its chunks are of another version, of several, or not what was written."""
    GHOST = "ghost"
    """It has chunks, and no source row."""
    CARRIED = "carried"
    """Its chunks are right; what stands beside them, and decides who sees them, is not."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A wrong row. `columns`: the carried ones that are wrong, for CARRIED."""

    problem: Problem
    columns: tuple[str, ...] = ()


def compare(contract: Contract, source: SourceRow | None, index: IndexRow) -> Difference | None:
    """The difference; None where the index is as it should be, or a dead letter says why it is not."""
    if source is None:
        return Difference(Problem.GHOST) if index.chunks else None
    indexed = index.state == "indexed"
    if index.state == "waiting":
        # Chunks are left out until tomorrow; those that are there are the row's, and stand under its rules.
        return _carried(contract, source, index)
    if not indexed and index.chunks:
        return Difference(Problem.STALE)
    if not indexed:
        return None if index.parked or (source.blank and index.state is None) else Difference(Problem.MISSING)
    if index.counted and not index.chunks:
        return Difference(Problem.MISSING)
    if index.hash != source.hash or index.counted != index.chunks or not index.sound:
        return Difference(Problem.STALE)
    return _carried(contract, source, index)


def _carried(contract: Contract, source: SourceRow, index: IndexRow) -> Difference | None:
    if not index.chunks:
        return None
    columns = [
        column.name
        for columns, wanted, found in (
            (contract.carried_columns, source.carried, index.carried),
            (contract.revealed_columns, source.clear, index.clear),
        )
        for column, value, values in zip(columns, wanted, found, strict=True)
        if values != (value,)
    ]
    return Difference(Problem.CARRIED, tuple(dict.fromkeys(columns))) if columns else None
