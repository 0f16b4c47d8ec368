"""Access rules as SQL: row-level-security policies, and the same rules as one condition.

Composed only of `psycopg.sql` parts: names are identifiers, values are literals, nothing is formatted.

Three decisions that every policy here depends on:

- **A restrictive policy for everyone would bind the worker too.** Its UPDATE and DELETE … WHERE read rows,
  and a row that its own permissive policy shows but a restrictive one hides is silently left alone: a ghost.
  The worker has no attributes, so every `require` would hide everything from it. Hence each restrictive
  policy begins with `(SELECT current_user = 'tidegate_worker')`. In a policy `current_user` is the role that
  runs the statement, or the owner of the SECURITY DEFINER function that it runs in; nobody gets that name
  without SET ROLE to it, which needs membership. `session_user` would follow the login, and custom settings
  prove nothing. It follows that the worker must *be* that role (SET ROLE), not only be a member of it.
- **`TO role` alone is not enough.** Postgres applies it to the owner of a view or SECURITY DEFINER function
  through which the rows are read, and keeps it in cached plans after a role was granted or revoked; the
  attributes are those of who asks. Two people could so join the one's role with the other's region. Hence
  the condition of an allow rule asks for the role itself, and a deny rule for some roles is TO PUBLIC.
- **Break-glass is a grant, not a disabled policy.** Each policy asks `tidegate.breaks_glass(product)`: whether the
  caller has an emergency grant that has not expired. A permissive policy for the role that such grants give lets
  her see rows that no rule allows; the restrictive ones let her pass.

Compiled conditions and what keeps them from moving with a session's settings: compiler.py.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal as OneOf
from typing import assert_never

from psycopg import sql

from tidegate.contract.contract import Contract
from tidegate.contract.identifier import fit
from tidegate.contract.rule import Rule
from tidegate.govern.asker import Asker, Caller
from tidegate.govern.compiler import compile_expression, group

WORKER = "tidegate_worker"
READER = "tidegate_reader"
GATEWAY = "tidegate_gateway"
EMERGENCY = "tidegate_emergency"
BREAK_GLASS_POLICY = "tidegate_break_glass"
OWNER = "tidegate_owner"
OWNER_POLICY = "tidegate_owner"


@dataclass(frozen=True, slots=True)
class Policy:
    """A SELECT policy, ready to be created. `to` is empty for PUBLIC.

    `comment` marks the policy as tidegate's: product, version, rule and the sha256 of the compiled text.
    """

    name: str
    rule: str
    kind: OneOf["permissive", "restrictive"]
    to: tuple[str, ...]
    using: sql.Composed
    comment: str

    def create(self, table: sql.Composable) -> sql.Composed:
        """`CREATE POLICY` on `table`."""
        kind = sql.SQL("PERMISSIVE" if self.kind == "permissive" else "RESTRICTIVE")
        return sql.SQL("CREATE POLICY {} ON {} AS {} FOR SELECT TO {} USING ({})").format(
            sql.Identifier(self.name), table, kind, self._roles(), self.using
        )

    def alter(self, table: sql.Composable) -> sql.Composed:
        """`ALTER POLICY` on `table`: the policy of that name and kind becomes this one, and is there all the time."""
        return sql.SQL("ALTER POLICY {} ON {} TO {} USING ({})").format(
            sql.Identifier(self.name), table, self._roles(), self.using
        )

    def mark(self, table: sql.Composable) -> sql.Composed:
        """`COMMENT ON POLICY` on `table`."""
        return sql.SQL("COMMENT ON POLICY {} ON {} IS {}").format(
            sql.Identifier(self.name), table, sql.Literal(self.comment)
        )

    def _roles(self) -> sql.Composable:
        return sql.SQL(", ").join(map(sql.Identifier, self.to)) if self.to else sql.SQL("PUBLIC")


def policies(contract: Contract) -> tuple[Policy, ...]:
    """The policies of a contract's rules on its chunk table, in the contract's order, that of break-glass, and the
    owner's."""
    return (*(_policy(contract, rule) for rule in contract.rules), _break_glass(contract), _of_owner(contract))


def policy_name(rule: Rule) -> str:
    """The name of the policy that enforces the rule."""
    return fit(f"tidegate_{rule.effect}_{rule.id}")


def rule_condition(
    contract: Contract, rule: Rule, alias: sql.Composable | None = None, asker: Asker | None = None
) -> sql.Composed:
    """A rule's `when` over the row `alias`; true where it has none."""
    if rule.when is None:
        return sql.Composed([sql.SQL("true")])
    return compile_expression(rule.when, alias, contract=contract, asker=asker)


def row_visible(contract: Contract, alias: sql.Composable | None = None, asker: Asker | None = None) -> sql.Composed:
    """All rules as one condition over the *source* row `alias`; never NULL.

    Says of a row what the policies together say of its chunks. Roles are asked by `tidegate.acts_as`, which
    must follow privilege inheritance as `TO role` does (`pg_has_role(…, 'USAGE')`).
    """
    asker = asker or Caller()
    allowed: list[sql.Composable] = []
    needed: list[sql.Composable] = []
    for rule in contract.rules:
        when = rule_condition(contract, rule, alias, asker)
        match rule.effect:
            case "allow":
                roles = _acts_as(rule.to, asker)
                allowed.append(_all([roles, when] if rule.when else [roles]))
            case "require":
                needed.append(group(when))
            case "deny":
                held = sql.SQL("({}) IS FALSE").format(when)
                if rule.to:
                    held = sql.SQL("(NOT ({}) OR {})").format(_acts_as(rule.to, asker), held)
                needed.append(held)
            case _:
                assert_never(rule.effect)
    glass = asker.breaks_glass(contract)
    if not allowed:
        return sql.Composed([glass])
    anyone = sql.SQL("({})").format(sql.SQL(" OR ").join(allowed))
    return sql.SQL("({} OR coalesce({}, false))").format(glass, sql.SQL(" AND ").join([anyone, *needed]))


def _policy(contract: Contract, rule: Rule) -> Policy:
    condition = rule_condition(contract, rule)
    caller = Caller()
    to: tuple[str, ...] = ()
    match rule.effect:
        case "allow":
            # Who comes through a gateway has no role of the server's; the condition asks for that of her token.
            kind, to = "permissive", (*rule.to, GATEWAY)
            roles = _acts_as(rule.to, caller)
            using = _all([roles, condition] if rule.when else [roles])
        case "require":
            kind, using = "restrictive", sql.SQL("{} OR ({})").format(_exempt(contract), condition)
        case "deny":
            unheld = sql.SQL("NOT {} OR ").format(group(_acts_as(rule.to, caller))) if rule.to else sql.SQL("")
            kind, using = "restrictive", sql.SQL("{} OR {}({}) IS FALSE").format(_exempt(contract), unheld, condition)
        case _:
            assert_never(rule.effect)
    return _marked(
        contract,
        policy_name(rule),
        rule.id,
        "permissive" if kind == "permissive" else "restrictive",
        to,
        using,
    )


def _break_glass(contract: Contract) -> Policy:
    return _marked(
        contract, BREAK_GLASS_POLICY, "", "permissive", (EMERGENCY,), sql.Composed([Caller().breaks_glass(contract)])
    )


def _of_owner(contract: Contract) -> Policy:
    """Definer functions run as the owner; of the chunks they see what the session's caller may see, and no more."""
    return _marked(contract, OWNER_POLICY, "", "permissive", (OWNER,), row_visible(contract))


def _marked(
    contract: Contract,
    name: str,
    rule: str,
    kind: OneOf["permissive", "restrictive"],
    to: tuple[str, ...],
    using: sql.Composed,
) -> Policy:
    digest = hashlib.sha256(f"{kind} {','.join(to)} {using.as_string(None)}".encode()).hexdigest()
    return Policy(
        name=name,
        rule=rule,
        kind=kind,
        to=to,
        using=using,
        comment=f"tidegate {contract.product} {contract.version} rule={rule} sha256={digest}",
    )


def _exempt(contract: Contract) -> sql.Composed:
    return sql.SQL("(SELECT current_user = {}) OR {}").format(sql.Literal(WORKER), Caller().breaks_glass(contract))


def _acts_as(roles: tuple[str, ...], asker: Asker) -> sql.Composed:
    asked = [asker.acts_as(role) for role in roles]
    return sql.Composed([asked[0]]) if len(asked) == 1 else group(sql.SQL(" OR ").join(asked))


def _all(parts: list[sql.Composed]) -> sql.Composed:
    if len(parts) == 1:
        return parts[0]
    return group(sql.SQL(" AND ").join([parts[0], *map(group, parts[1:])]))
