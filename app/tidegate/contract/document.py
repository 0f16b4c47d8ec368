"""A contract's document, once it is read as YAML and checked against the standard."""

from typing import Any

from tidegate.contract.budget import read_budget
from tidegate.contract.columns import read_columns
from tidegate.contract.contract import Contract, Latency, Source
from tidegate.contract.findings import Findings
from tidegate.contract.identifier import MAX_BYTES, PLAIN_NAME, is_identifier, is_source_schema
from tidegate.contract.membership import Membership
from tidegate.contract.page import Path
from tidegate.contract.rule import Rule
from tidegate.contract.secrecy import check_secrecy
from tidegate.contract.vendor import may_allow, properties, read_embedding, read_row_access
from tidegate.contract.version import is_version

STATUSES = ("proposed", "draft", "active", "deprecated", "retired")


class Document:
    """Read on after an error, so that all of them are found."""

    def __init__(self, document: dict[str, Any], findings: Findings):
        self._document = document
        self._findings = findings

    def contract(self, text: str) -> Contract | None:
        """The contract; None, or one of no use, where something of it is wrong.

        Args:
            text: of the document, which the contract keeps.
        """
        findings, document = self._findings, self._document
        properties(document, (), (), findings)
        domain, table = self._product()
        version = findings.text(document.get("version"), ("version",))
        if version and not is_version(version):
            findings.error(("version",), f"{version!r} is not a version", ("1.0.0", "1.2.3-rc.1"))
        status = document.get("status")
        if status not in STATUSES and not findings.is_known(("status",)):
            findings.error(("status",), f"status is {status!r}" if status else "status is missing", STATUSES)
        team, owners = self._team()
        roles = tuple(
            dict.fromkeys(
                item["role"]
                for item in self._items("roles")
                if isinstance(item, dict) and isinstance(item.get("role"), str)
            )
        )
        latency = self._latency()
        schemas = self._items("schema")
        if len(schemas) != 1:
            findings.error(("schema",), f"{len(schemas)} schema objects; a contract is about exactly one table", ("1",))
        if not schemas or not isinstance(schemas[0], dict):
            return None
        source = self._source(domain, schemas[0])
        columns = read_columns(schemas[0], roles, findings)
        types = {column.name: column.physical_type for column in columns}
        ours = properties(schemas[0], ("schema", 0), ("embedding", "rowAccess", "budget"), findings)
        embedding = None
        if "embedding" in ours:
            embedding = read_embedding(*ours["embedding"], findings)
        else:
            findings.error(("schema", 0), "nothing says what is embedded", ("customProperties: embedding",))
        rules: tuple[Rule, ...] = ()
        memberships: tuple[Membership, ...] = ()
        if "rowAccess" in ours:
            rules, memberships = read_row_access(
                *ours["rowAccess"], findings, columns=types, roles=roles, schema=source.schema
            )
        if not any(rule.effect == "allow" for rule in rules) and not may_allow(schemas[0]):
            findings.warn(
                ours["rowAccess"][1] if "rowAccess" in ours else ("schema", 0),
                "no allow rule: nobody sees a row",
            )
        if embedding is None:
            return None
        contract = Contract(
            product=f"{domain}.{table}",
            domain=domain,
            version=version or "",
            status=str(status),
            team=team,
            owners=owners,
            source=source,
            columns=columns,
            embedding=embedding,
            rules=rules,
            memberships=memberships,
            latency=latency,
            roles=roles,
            path=findings.name,
            text=text,
            warnings=findings.warnings,
            purpose=self._purpose(),
            budget=read_budget(*ours["budget"], findings) if "budget" in ours else None,
        )
        check_secrecy(contract, schemas[0], ours["embedding"][1], findings)
        return contract

    def _items(self, key: str) -> list[Any]:
        value = self._document.get(key)
        return value if isinstance(value, list) else []

    def _product(self) -> tuple[str, str]:
        """Domain and table; stand-ins where the names are wrong, so that reading can go on."""
        findings = self._findings
        name = findings.text(self._document.get("name"), ("name",)) or ""
        domain = findings.text(self._document.get("domain"), ("domain",)) or ""
        before, _, table = name.partition(".")
        if name and not (is_identifier(before) and is_identifier(table)):
            findings.error(("name",), f"{name!r} is not a product's name", (f"domain.table ({PLAIN_NAME})",))
        if domain and (not is_identifier(domain) or len(f"rag_{domain}") > MAX_BYTES):
            findings.error(
                ("domain",),
                f"{domain!r} is no domain's name",
                (f"{PLAIN_NAME}, at most {MAX_BYTES - 4} bytes",),
            )
        elif domain and name and before != domain:
            findings.error(
                ("name",),
                f"the product's name must begin with its domain, {domain}",
                (f"{domain}.{table or before}",),
            )
        return domain, table

    def _team(self) -> tuple[str | None, tuple[str, ...]]:
        team = self._document.get("team")
        members = team.get("members", []) if isinstance(team, dict) else team
        name = team.get("name") if isinstance(team, dict) else None
        owners = [
            member["username"]
            for member in (members if isinstance(members, list) else ())
            if isinstance(member, dict)
            and isinstance(member.get("username"), str)
            and str(member.get("role", "")).lower() == "owner"
        ]
        return (name if isinstance(name, str) else None), tuple(owners)

    def _purpose(self) -> str | None:
        given = self._document.get("description")
        words = given.get("purpose") if isinstance(given, dict) else given
        return words if isinstance(words, str) else None

    def _latency(self) -> Latency | None:
        found: Latency | None = None
        findings = self._findings
        for index, item in enumerate(self._items("slaProperties")):
            path: Path = ("slaProperties", index)
            if not isinstance(item, dict):
                continue
            is_latency = item.get("property") in ("latency", "ly")
            ours = properties(item, path, ("percentile",) if is_latency else (), findings)
            if not is_latency:
                continue
            if found:
                findings.error(path, "a second latency; one is promised")
            unit = item.get("unit")
            factor = {"ms": 1.0, "s": 1000.0}.get(unit) if isinstance(unit, str) else None
            if factor is None:
                message = f"unit {unit!r} of a latency" if unit else "a latency needs its unit"
                findings.error((*path, "unit"), message, ("ms", "s"))
            value = findings.number(item.get("value"), (*path, "value"), 0, 1e9)
            percentile: float | None = 99.0
            if "percentile" in ours:
                percentile = findings.number(*ours["percentile"], 0, 100)
            if factor and value and percentile:
                found = Latency(value * factor, percentile)
        return found

    def _source(self, domain: str, table: dict[str, Any]) -> Source:
        findings = self._findings
        servers = [
            (index, server)
            for index, server in enumerate(self._items("servers"))
            if isinstance(server, dict) and server.get("type") in ("postgres", "postgresql")
        ]
        if len(servers) > 1:
            named = [pair for pair in servers if pair[1].get("server") == "source"]
            if len(named) == 1:
                servers = named
            else:
                findings.error(
                    ("servers",),
                    "several postgres servers; call the one that has the rows `source`",
                    ("server: source",),
                )
        index, server = servers[0] if servers else (0, {})
        schema = server.get("schema") or domain
        if schema and not (isinstance(schema, str) and is_source_schema(schema)):
            findings.error(
                ("servers", index, "schema"),
                f"{schema!r} cannot be a source's schema",
                (f"{PLAIN_NAME}; not pg_…, rag_…, tidegate",),
            )
        key = "physicalName" if "physicalName" in table else "name"
        name = table.get(key)
        if isinstance(name, str) and not is_identifier(name):
            findings.error(("schema", 0, key), f"{name!r} cannot be a source table", (PLAIN_NAME,))
        label, database = server.get("server"), server.get("database")
        return Source(
            label if isinstance(label, str) else None,
            database if isinstance(database, str) else None,
            str(schema),
            str(name),
        )
