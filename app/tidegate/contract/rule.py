"""One access rule of a contract."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from tidegate.contract.expression import Expression, columns
from tidegate.contract.grammar import parse
from tidegate.contract.typecheck import Effect, check

Origin = Literal["contract", "standards"]
STANDARDS_PREFIX = "standards_"
"""Begins the ids of rules that hold for all domains, and no others: none can be overridden under its name."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`when` is typed; None means always. `to` is empty where the rule is for everyone.

    `text` is `when` as the contract has it, "" where there is none. `origin`: `standards` for a rule that holds for
    all domains.
    """

    id: str
    effect: Effect
    to: tuple[str, ...]
    when: Expression | None
    text: str
    origin: Origin = "contract"


def read_rule(
    id: str,
    effect: Effect,
    to: Iterable[str],
    text: str,
    *,
    columns: Mapping[str, str],
    memberships: Mapping[str, str],
    origin: Origin = "contract",
) -> Rule:
    """A rule from its text. `columns`: name → physical type; `memberships`: name → the row's column.

    Raises:
        RuleSyntaxError, RuleTypeError: the text is no rule about these columns.
    """
    when = check(parse(text), columns, effect=effect, memberships=memberships) if text else None
    return Rule(id, effect, tuple(to), when, text, origin)


def rule_columns(rules: Iterable[Rule]) -> frozenset[str]:
    """Names of all the row's columns that the rules read."""
    return frozenset(name for rule in rules if rule.when is not None for name in columns(rule.when))
