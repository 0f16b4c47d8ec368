"""What a domain's team may publish: its own tables, under its own domain, with roles that open nothing else."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tidegate.capture.source import source_of
from tidegate.capture.stream import HOME
from tidegate.contract.contract import Contract
from tidegate.contract.identifier import is_identifier
from tidegate.database import Connection
from tidegate.errors import TidegateError, UnknownName, UsageError
from tidegate.govern import chunk_table as table_of
from tidegate.govern.named import require_roles
from tidegate.sql import queries


class NotYours(TidegateError):
    """A contract that its submitter's team may not publish."""


@dataclass(frozen=True, slots=True)
class Team:
    """A domain's team: the role whose members hand in its contracts, and one of them."""

    domain: str
    role: str
    submitter: str


def check(
    connection: Connection, team: Team, product: str, contract: Contract, sources: Mapping[str, str] | None = None
) -> None:
    """Raises NotYours with everything that keeps the team from publishing the contract.

    Asked again right before it is applied: who was of the team when handing in may no longer be.

    Args:
        sources: the databases other than the index's that rows may come from.
    """
    problems = list(_problems(connection, team, product, contract, sources or {}))
    if problems:
        raise NotYours("\n".join(f"{contract.path}: {contract.product}: {problem}" for problem in problems))


def _problems(
    connection: Connection, team: Team, product: str, contract: Contract, sources: Mapping[str, str]
) -> Iterator[str]:
    static = queries("controller")
    member = connection.execute(static["still_in_team"], {"login": team.submitter, "team": team.role}).fetchone()
    if member != (True,):
        yield f'"{team.submitter}" is not of the team of domain "{team.domain}" (members of the role {team.role})'
        return
    if contract.domain != team.domain or contract.product != product:
        yield f"the contract is of {contract.product}, handed in for {product} of domain {team.domain}"
    source = contract.source
    if (server := source_of(contract, sources)) != HOME:
        yield (
            f'its rows are on the server "{server}", where roles are others: whether {source.schema}.{source.table} is '
            f"the team's cannot be asked; an administrator publishes it: tidegate apply {contract.path}"
        )
        return
    used = {column.name for column in (*contract.carried_columns, *contract.document_columns)}
    yield from _table(connection, team, source.schema, source.table, used)
    for membership in contract.memberships:
        yield from _table(
            connection, team, membership.schema, membership.table, {membership.column, membership.principal}
        )
    named = {*contract.roles, *(role for rule in contract.rules for role in rule.to), *table_of.reading_roles(contract)}
    for (role,) in connection.execute(static["dangerous_roles"], {"roles": sorted(named)}):
        yield (
            f"role {role} has rights beyond reading (superuser, BYPASSRLS, CREATEROLE, or a role of the server's or of "
            "tidegate's); name another"
        )


def _table(connection: Connection, team: Team, schema: str, table: str, columns: set[str]) -> Iterator[str]:
    static = queries("controller")
    named = {"domain": team.domain, "team": team.role, "schema": schema, "table": table}
    found = connection.execute(static["team_table"], named).fetchone()
    if found is None:
        yield (
            f"table {schema}.{table} does not exist in the index's database; contracts of rows on another server "
            "are published by an administrator"
        )
        return
    owner, kind, row_security, owned, in_schema = found
    if not owned:
        yield (
            f"table {schema}.{table} belongs to {owner}, not to the team; "
            f"ALTER TABLE {schema}.{table} OWNER TO {team.role}"
        )
    if not in_schema:
        yield f"table {schema}.{table} is in a schema that is neither {team.domain} nor the team's"
    # Both would run what the team wrote with the rights of whoever reads the table: tidegate's, over all domains.
    if kind != "r":
        yield f"{schema}.{table} is no ordinary table (relkind {kind})"
    if row_security:
        yield f"table {schema}.{table} has row-level security of its own; an administrator must publish it"
    foreign = connection.execute(static["foreign_types"], {**named, "columns": sorted(columns)})
    for name, type_ in foreign:
        yield (
            f"column {name} of {schema}.{table} is {type_}, no built-in type and no enum; "
            "an administrator must publish it"
        )


def add_domain(connection: Connection, domain: str, role: str, review: str) -> None:
    """Names the role whose members hand in the domain's contracts. Again: changes it.

    Raises:
        UsageError: no domain's name, or a role that is more than a team.
        UnknownName: there is no such role.
    """
    if not is_identifier(domain):
        raise UsageError(f'"{domain}" cannot be a domain: lower-case letters, digits and _')
    require_roles(connection, [role])
    if connection.execute(queries("controller")["dangerous_roles"], {"roles": [role]}).fetchone() is not None:
        raise UsageError(
            f"role \"{role}\" has rights beyond a team's (superuser, BYPASSRLS, CREATEROLE, a role of tidegate's)"
        )
    readers = connection.execute(queries("govern")["reader_members"], {"roles": [role]}).fetchone()
    with connection.transaction():
        if readers is None:
            for statement in table_of.admit_reader(role):
                connection.execute(statement)
        connection.execute(queries("controller")["domain_add"], {"domain": domain, "role": role, "review": review})


def remove_domain(connection: Connection, domain: str) -> None:
    """Its products stay; nobody hands in contracts for it any more.

    Raises:
        UnknownName: there is no such domain.
    """
    removed = connection.execute(queries("controller")["domain_remove"], {"domain": domain}).rowcount
    if not removed:
        raise UnknownName(f'there is no domain "{domain}"; "tidegate domain list" shows them')


@dataclass(frozen=True, slots=True)
class Domain:
    """A row of `tidegate domain list`."""

    domain: str
    team_role: str
    review: str
    added_by: str
    added_at: object
    products: int
    members: list[str]


def list_domains(connection: Connection) -> list[Domain]:
    """All domains that have a team."""
    return [Domain(*row) for row in connection.execute(queries("controller")["domain_list"])]
