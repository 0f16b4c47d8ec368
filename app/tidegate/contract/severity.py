"""How much a finding weighs, and the finding with it."""

from dataclasses import dataclass
from enum import StrEnum

from tidegate.contract.finding import ContractError


class Severity(StrEnum):
    """`off` is of checks only."""

    ERROR = "error"
    WARNING = "warning"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One finding of lint. `check` is `contract` for what every contract must be, else the standards' check or rule."""

    severity: Severity
    check: str
    place: ContractError

    def __str__(self) -> str:
        return f"{self.place} [{self.check}, {self.severity}]"
