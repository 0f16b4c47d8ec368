"""The standards in force in a database: the last ones that an administrator published."""

from dataclasses import dataclass

from psycopg import sql
from psycopg.types.json import Jsonb

from tidegate.contract.standards import Standards
from tidegate.contract.standards_file import parse_standards
from tidegate.database import Connection
from tidegate.sql import queries


@dataclass(frozen=True, slots=True)
class PublishedStandards:
    """`standards` are in force under the number `standards_id`."""

    standards_id: int
    standards: Standards


def published_standards(connection: Connection) -> PublishedStandards | None:
    """The standards in force; None where none were ever published.

    Raises:
        ContractErrors: they pass this release's checks no more.
    """
    row = connection.execute(queries("standards")["published_standards"]).fetchone()
    if row is None:
        return None
    return PublishedStandards(row[0], parse_standards(row[1].encode(), f"standards {row[0]}"))


def publish_statement(standards: Standards) -> sql.Composed:
    """Puts the standards in force; runs as tidegate_owner. Products follow when they are planned again.

    The statement names nothing of the moment, so that a plan of it is the same each time.
    """
    statement = sql.SQL(queries("standards")["publish_standards"])
    spec = {
        "checks": [
            {"name": check.name, "severity": check.severity, "options": dict(check.options)}
            for check in standards.checks
        ],
        "rules": [
            {
                "id": rule.id,
                "effect": rule.effect,
                "to": rule.to,
                "when": rule.when,
                "domains": rule.domains,
                "columns": rule.having,
                "missing": rule.missing,
            }
            for rule in standards.rules
        ],
    }
    return statement.format(content=sql.Literal(standards.text), spec=sql.Literal(Jsonb(spec)))
