"""What a product may spend on embedding."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from tidegate.contract.finding import did_you_mean
from tidegate.contract.findings import Findings
from tidegate.contract.page import Path

Policy = Literal["warn", "queue"]


@dataclass(frozen=True, slots=True)
class Budget:
    """`tokens` a day (UTC). Beyond: `warn` goes on and says so, `queue` lets new texts wait until tomorrow."""

    tokens: int
    policy: Policy = "warn"


def read_budget(value: Any, path: Path, findings: Findings) -> Budget | None:
    """`budget`: `{tokens, policy?}`."""
    settings = findings.mapping(value, path, ("tokens", "policy"))
    if settings is None:
        return None
    tokens = findings.integer(settings.get("tokens"), (*path, "tokens"), 1, 10**15)
    given = settings.get("policy", "warn")
    policy = next((known for known in get_args(Policy) if known == given), None)
    if policy is None:
        hint = did_you_mean(given, get_args(Policy)) if isinstance(given, str) else ""
        findings.error((*path, "policy"), f"unknown policy {given!r}{hint}", get_args(Policy))
    return None if tokens is None or policy is None else Budget(tokens, policy)
