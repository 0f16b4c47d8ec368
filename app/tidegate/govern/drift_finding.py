"""What `tidegate drift` says of one thing that is not as it was published."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class DriftFinding:
    """`error`: somebody may see more than the contract allows, or a guard is off. `warning`: something is not as
    published. `info`: worth knowing. `way_out`: a command or SQL, "" where there is nothing to do."""

    level: Level
    code: str
    object: str
    sentence: str
    way_out: str = ""


def ordered(findings: list[DriftFinding]) -> list[DriftFinding]:
    """The gravest first."""
    levels = ("error", "warning", "info")
    return sorted(findings, key=lambda each: (levels.index(each.level), each.object, each.code))
