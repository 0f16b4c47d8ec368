"""The policies on a chunk table, brought to the contract's."""

from collections.abc import Mapping

from psycopg import sql

from tidegate.contract.contract import Contract
from tidegate.govern import chunk_table as table_of
from tidegate.govern.plan.ground import Ground
from tidegate.govern.plan.step import Steps
from tidegate.govern.plan.unfit import refuse
from tidegate.govern.policies import Policy, policies

MARKER = "tidegate "


def change_policies(ground: Ground, contract: Contract, held: Mapping[str, str | None], steps: Steps) -> bool:
    """Brings tidegate's policies to the contract's; others are not touched. What keeps its name and kind is
    altered, so that it is never gone. Restrictive ones come first and go last, so that no moment shows more than
    before or after (it is one transaction besides).

    Args:
        held: the policies that are there, with their comments.
    """
    table = table_of.chunk_table(contract)
    wanted = {policy.name: policy for policy in policies(contract)}
    kinds: dict[str, str] = {}
    if held:
        kinds = dict(ground.rows("policy_kinds", schema=contract.chunk_schema, table=contract.table))
    ours = [name for name, comment in held.items() if (comment or "").startswith(MARKER)]
    fresh = [policy for policy in wanted.values() if not _same(policy, held.get(policy.name))]
    altered = {policy.name for policy in fresh if policy.name in ours and kinds.get(policy.name) == policy.kind}
    remade = [policy.name for policy in fresh if policy.name in ours and policy.name not in altered]
    gone = [name for name in ours if name not in wanted]
    showing = [name for name in gone if kinds.get(name) == "permissive"]
    steps.own(*(_drop(name, table) for name in (*remade, *showing)))
    for policy in sorted(fresh, key=lambda policy: policy.kind == "permissive"):
        steps.own(policy.alter(table) if policy.name in altered else policy.create(table), policy.mark(table))
        steps.say(f"{'changes' if policy.name in held else 'creates'} the policy {policy.name}")
    steps.own(*(_drop(name, table) for name in gone if name not in showing))
    steps.say(*(f"drops the policy {name}" for name in gone))
    return bool(gone or fresh)


def check_foreign(ground: Ground, contract: Contract, oid: int, steps: Steps, *, dropped: bool) -> None:
    """Policies on the chunk table that tidegate did not make: never touched, always named.

    Raises:
        ContractUnfit: one is in the way, or would be lost with the table (`dropped`).
    """
    marks = ground.policies(oid)
    foreign = [name for name, comment in marks.items() if not (comment or "").startswith((MARKER, "tidegate:"))]
    wanted = {policy.name for policy in policies(contract)}
    table = f"{contract.chunk_schema}.{contract.table}"
    if dropped:
        refuse(
            contract,
            [
                f"policy {name} on {table} is not tidegate's, and a table that is made anew would not have it; "
                f"drop it yourself first: DROP POLICY {name} ON {table}"
                for name in foreign
            ],
        )
    refuse(
        contract,
        [
            f"policy {name} on {table} is not tidegate's, but has the name of one; rename it"
            for name in foreign
            if name in wanted
        ],
    )
    steps.say(*(f"leaves the policy {name} on {table}, which tidegate did not make" for name in foreign))


def _same(policy: Policy | None, comment: str | None) -> bool:
    """Whether the policy in the database is this one: its comment ends in the hash of its text."""
    return (
        policy is not None
        and comment is not None
        and comment.split("sha256=")[-1] == policy.comment.split("sha256=")[-1]
    )


def _drop(name: str, table: sql.Composable) -> sql.Composed:
    return sql.SQL("DROP POLICY {} ON {}").format(sql.Identifier(name), table)
