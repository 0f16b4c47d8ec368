"""Standards that hold for all domains: checks of every contract, and rules that are compiled into every table.

A global rule is a `require` or a `deny` (never an `allow`): it can only keep rows back, and no contract can take it
out, since its id begins with a prefix that no contract may use.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from tidegate.contract.columns import RESTRICTED
from tidegate.contract.contract import RESERVED_COLUMNS, Column, Contract
from tidegate.contract.expression import columns
from tidegate.contract.finding import ContractErrors
from tidegate.contract.findings import Findings
from tidegate.contract.grammar import parse
from tidegate.contract.operand import RuleTypeError
from tidegate.contract.page import read_page
from tidegate.contract.rule import STANDARDS_PREFIX, Rule, read_rule
from tidegate.contract.severity import LintFinding, Severity


@dataclass(frozen=True, slots=True)
class Check:
    """A check of every contract; `options` as far as it has any."""

    name: str
    severity: Severity
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GlobalRule:
    """A rule for every product in `domains` (empty: all) that has all of `having`.

    `missing`: what a product gets that lacks a column which the rule reads. `error` refuses the contract, `skip`
    leaves the rule out.
    """

    id: str
    effect: Literal["require", "deny"]
    to: tuple[str, ...]
    when: str
    domains: tuple[str, ...]
    having: tuple[str, ...]
    missing: Literal["error", "skip"]

    def applies(self, contract: Contract) -> bool:
        """Whether the rule is for this contract's product."""
        names = {column.name for column in contract.columns}
        return (not self.domains or contract.domain in self.domains) and names.issuperset(self.having)

    @property
    def columns(self) -> frozenset[str]:
        """Columns that the rule reads."""
        return columns(parse(self.when))


@dataclass(frozen=True, slots=True)
class Standards:
    """Standards as a file has them; `path` is its name, `text` its contents."""

    checks: tuple[Check, ...]
    rules: tuple[GlobalRule, ...]
    path: str
    text: str

    def govern(self, contract: Contract) -> Contract:
        """The contract with these standards' rules before its own, and with no other standards' rules.

        Raises:
            ContractErrors: a rule that applies cannot hold here: a column is missing, of another type, or must not
                leave the source.
        """
        findings = findings_in(contract)
        rules = tuple(rule for each in self.rules if (rule := _compiled(each, contract, findings)) is not None)
        if findings.errors:
            raise ContractErrors(findings.errors)
        own = tuple(rule for rule in contract.rules if rule.origin == "contract")
        return replace(contract, rules=(*rules, *own))

    def lint(self, contract: Contract) -> tuple[LintFinding, ...]:
        """What these standards find in a contract that passes by itself."""
        from tidegate.contract.checks import run_check

        found: list[LintFinding] = []
        findings = findings_in(contract)
        try:
            contract = self.govern(contract)
        except ContractErrors as errors:
            found += [LintFinding(Severity.ERROR, "rules", error) for error in errors.errors]
        for check in self.checks:
            if check.severity is not Severity.OFF:
                findings.errors.clear()
                run_check(check, contract, findings)
                found += [LintFinding(check.severity, check.name, error) for error in findings.errors]
        return tuple(found)

    def errors(self, contract: Contract) -> tuple[str, ...]:
        """What these standards refuse the contract for, as `apply` says it."""
        return tuple(str(finding) for finding in self.lint(contract) if finding.severity is Severity.ERROR)


def findings_in(contract: Contract) -> Findings:
    """Empty findings that know the lines of the contract's text."""
    return Findings(contract.path, lambda: read_page(contract.text.encode(), lambda *_: None))


def ungoverned(contract: Contract) -> Contract:
    """The contract without rules of standards."""
    return replace(contract, rules=tuple(rule for rule in contract.rules if rule.origin == "contract"))


def _compiled(rule: GlobalRule, contract: Contract, findings: Findings) -> Rule | None:
    if not rule.applies(contract):
        return None
    name = f'standards: rule "{rule.id}"'
    by_name = {column.name: column for column in contract.columns}
    lacking = sorted(rule.columns - by_name.keys())
    if lacking:
        if rule.missing == "error":
            findings.error(
                ("schema", 0, "properties"),
                f"{name} needs column {_list(lacking)}, which {contract.product} does not have; add it, or let the "
                "rule's `where` leave this product out",
            )
        return None
    for column in sorted(rule.columns):
        place = ("schema", 0, "properties", list(by_name).index(column))
        if reason := _kept_back(by_name[column]):
            findings.error(place, f"{name} reads column {column}, which is {reason} and must not leave the source")
        elif column in RESERVED_COLUMNS:
            findings.error(place, f"{name} reads column {column}, but every chunk table has its own {column}")
    try:
        return read_rule(
            f"{STANDARDS_PREFIX}{rule.id}",
            rule.effect,
            rule.to,
            rule.when,
            columns=contract.column_types,
            memberships={},
            origin="standards",
        )
    except RuleTypeError as error:
        findings.error(("schema", 0, "properties"), f"{name}: {error}", error.allowed)
        return None


def _kept_back(column: Column) -> str | None:
    """Why no rule can read the column, or None where one may: its clear value is not beside the chunks."""
    if (column.classification or "").strip().lower() == RESTRICTED:
        return RESTRICTED
    return "masked" if column.mask else None


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
