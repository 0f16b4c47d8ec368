"""Whether a contract may be published under its version, by what is published already."""

from tidegate.contract.contract import Contract
from tidegate.contract.diff import Diff, check_bump, diff
from tidegate.database import Connection
from tidegate.sql import queries


def published_contract(connection: Connection, product: str) -> Contract | None:
    """The contract in force for the product, with the standards' rules of its time; None where it has none.

    Raises:
        RuleSyntaxError, RuleTypeError: a rule in it passes this release's grammar no more.
    """
    row = connection.execute(queries("history")["published_contract"], {"product": product}).fetchone()
    return Contract.from_spec(row[0]) if row else None


def version_problems(connection: Connection, contract: Contract) -> list[str]:
    """Why the contract may not be published under its version: too small a step, a lower version, or a version that
    was published before with another content. Empty where it may."""
    published = published_contract(connection, contract.product)
    problems = list(check_bump(published, contract)) if published else []
    if problems:
        return problems
    taken = connection.execute(
        queries("history")["version_taken"],
        {"product": contract.product, "version": contract.version, "text": contract.text},
    ).fetchone()
    if taken is not None:
        problems.append(
            f"version {contract.version} was published on {taken[0]:%Y-%m-%d} by {taken[1]} with another content, and "
            f"a published version stays what it is; write a higher one (tidegate history {contract.product})"
        )
    return problems


def published_diff(connection: Connection, contract: Contract) -> Diff | None:
    """What the contract would change of the one in force; None for a new product."""
    published = published_contract(connection, contract.product)
    return diff(published, contract) if published else None
