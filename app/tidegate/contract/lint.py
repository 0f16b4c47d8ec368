"""Everything that is wrong or odd in contracts, by themselves and by standards. Needs no database."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path as File

from tidegate.contract.odcs import read_contracts
from tidegate.contract.severity import LintFinding, Severity
from tidegate.contract.standards import Standards

CONTRACT = "contract"
"""The check that every contract must pass: the standard, and what tidegate needs."""


@dataclass(frozen=True, slots=True)
class LintResult:
    """`files` that were read, and the findings of all of them, in the order of file and line."""

    files: tuple[str, ...]
    findings: tuple[LintFinding, ...]

    def fails(self, *, strict: bool) -> bool:
        """Whether there is an error, or with `strict` anything at all."""
        return bool(self.findings) if strict else any(one.severity is Severity.ERROR for one in self.findings)


def lint(paths: str | File | Iterable[str | File], standards: Standards) -> LintResult:
    """Reads contracts from files and folders and collects what is found in each; a bad file hides no other's faults."""
    files: list[str] = []
    found: list[LintFinding] = []
    for findings, contract in read_contracts(paths):
        if findings.name:
            files.append(findings.name)
        of_file = [LintFinding(Severity.ERROR, CONTRACT, error) for error in findings.errors]
        of_file += [LintFinding(Severity.WARNING, CONTRACT, note) for note in findings.notes]
        of_file += standards.lint(contract) if contract is not None else ()
        found += sorted(of_file, key=lambda finding: finding.place.line)
    return LintResult(tuple(files), tuple(found))
