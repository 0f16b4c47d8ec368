"""The rules in force as the catalog keeps them (`tidegate.rule`), for the search statement and for explanations."""

from typing import Any

from psycopg import sql

from tidegate.contract.contract import Contract
from tidegate.contract.expression import columns
from tidegate.govern.asker import Open, pieces
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
        }
        for place, rule in enumerate(contract.rules, 1)
    ]
