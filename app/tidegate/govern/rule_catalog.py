"""The rules in force as the catalog keeps them (`tidegate.rule`), for the search statement and for explanations."""

from typing import Any

from psycopg import sql

from tidegate.contract.contract import Contract
from tidegate.contract.expression import And, Column, Compare, Expression, In, UserAttribute, columns
from tidegate.contract.expression import Literal as Constant
from tidegate.contract.family import Family, base, family
from tidegate.govern.asker import Open, pieces
from tidegate.govern.compiler import PLAIN_TEXT
from tidegate.govern.policies import policy_name, rule_condition

ROW = sql.Identifier("t")
"""The row that stored conditions are about."""


def compiled_rules(contract: Contract) -> list[dict[str, Any]]:
    """One object a rule, in the order of the contract, as the query `record_rules` takes them."""
    return [
        {
            "place": place,
            "rule_id": rule.id,
            "origin": rule.origin,
            "effect": rule.effect,
            "roles": list(rule.to),
            "when_text": rule.text,
            "condition": pieces(rule_condition(contract, rule, ROW, Open())),
            "columns": sorted(columns(rule.when)) if rule.when else [],
            "policy": policy_name(rule),
            "tests": None if rule.effect == "deny" else simple_tests(rule.when),
        }
        for place, rule in enumerate(contract.rules, 1)
    ]


def simple_tests(expression: Expression | None) -> list[dict[str, Any]] | None:
    """A condition as tests of texts in columns that must all hold, where it is nothing else: each is the column and
    the `attribute` (its one value, where `only`) or the `values` that it may have. None where it is more."""
    match expression:
        case None:
            return []
        case And(terms):
            parts = [simple_tests(term) for term in terms]
            return None if None in parts else [test for part in parts if part for test in part]
        case Compare("=", Column() as column, (UserAttribute() | Constant()) as wanted) if _is_text(column):
            return _test(column, wanted)
        case Compare("=", (UserAttribute() | Constant()) as wanted, Column() as column) if _is_text(column):
            return _test(column, wanted)
        case In(Column() as column, UserAttribute() as wanted) if _is_text(column):
            return _test(column, wanted)
        case In(Column() as column, tuple() as listed) if _is_text(column):
            return [{"column": column.name, "values": [str(one.value) for one in listed]}]
        case _:
            return None


def _test(column: Column, wanted: UserAttribute | Constant) -> list[dict[str, Any]] | None:
    if wanted.family is not Family.TEXT:
        return None
    if isinstance(wanted, Constant):
        return [{"column": column.name, "values": [str(wanted.value)]}]
    return [{"column": column.name, "attribute": wanted.name, **({} if wanted.many else {"only": True})}]


def _is_text(column: Column) -> bool:
    """Whether its values are compared as they are."""
    return column.type is not None and family(column.type) is Family.TEXT and base(column.type) in PLAIN_TEXT
