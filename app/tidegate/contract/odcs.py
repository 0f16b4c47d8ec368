"""Reading contracts: ODCS YAML, checked against the standard and against tidegate's own model."""

from collections.abc import Iterable
from pathlib import Path as File
from typing import Any

from tidegate.contract.budget import read_budget
from tidegate.contract.columns import is_restricted, never_embedded, read_columns
from tidegate.contract.contract import RESERVED_COLUMNS, Contract, Latency, Source
from tidegate.contract.embedding import Embedding
from tidegate.contract.finding import ContractError, ContractErrors
from tidegate.contract.findings import Findings
from tidegate.contract.identifier import MAX_BYTES, PLAIN_NAME, is_identifier, is_source_schema
from tidegate.contract.membership import Membership
from tidegate.contract.page import MAX_BYTES as MAX_FILE
from tidegate.contract.page import Path, read_page
from tidegate.contract.rule import Rule, rule_columns
from tidegate.contract.standard import validate
from tidegate.contract.vendor import properties, read_embedding, read_row_access
from tidegate.contract.version import is_version

STATUSES = ("proposed", "draft", "active", "deprecated", "retired")
SUFFIXES = (".odcs.yaml", ".odcs.yml")


def load_contract(path: str | File) -> Contract:
    """The contract in one file.

    Raises:
        ContractErrors: everything that is wrong with it.
    """
    return load_contracts([path])[0]


def load_contracts(paths: str | File | Iterable[str | File]) -> list[Contract]:
    """The contracts in files and folders (all `*.odcs.yaml` and `*.odcs.yml` below), in order of path.

    Raises:
        ContractErrors: everything that is wrong with any of them, all at once.
    """
    read = read_contracts(paths)
    errors = [error for findings, _ in read for error in findings.errors]
    if errors:
        raise ContractErrors(errors)
    return [contract for _, contract in read if contract is not None]


def read_contracts(paths: str | File | Iterable[str | File]) -> list[tuple[Findings, Contract | None]]:
    """What was found in each file, and its contract where nothing of it is an error."""
    given = [File(paths)] if isinstance(paths, str | File) else [File(path) for path in paths]
    read: list[tuple[Findings, Contract | None]] = []
    contracts: dict[str, Contract] = {}
    lost = Findings("")
    for file in _files(given, lost.errors):
        findings = Findings(str(file))
        contract = _read_file(file, findings)
        findings.errors.sort(key=lambda error: error.line)
        if contract is not None and contract.product in contracts:
            other = contracts[contract.product].path
            findings.error(("name",), f"{contract.product} already has a contract, in {other}")
            contract = None
        elif contract is not None:
            contracts[contract.product] = contract
        read.append((findings, contract))
    return [(lost, None), *read] if lost.errors else read


def parse_contract(content: bytes, name: str) -> Contract:
    """The contract in `content`; errors call the file `name`.

    Raises:
        ContractErrors: everything that is wrong with it.
    """
    findings = Findings(name)
    contract = _read(content, findings)
    if contract is None or findings.errors:
        raise ContractErrors(sorted(findings.errors, key=lambda error: error.line))
    return contract


def _files(given: Iterable[File], errors: list[ContractError]) -> list[File]:
    found: dict[File, None] = {}
    named = False
    for path in given:
        named = True
        if not path.is_dir():
            found[path] = None
            continue
        below = sorted(file for file in path.rglob("*") if file.name.endswith(SUFFIXES) and file.is_file())
        if not below:
            errors.append(ContractError(str(path), 1, "", "no contract in this folder", ("*.odcs.yaml", "*.odcs.yml")))
        found |= dict.fromkeys(below)
    if not named:
        errors.append(ContractError(".", 1, "", "no contract to read", ("files or folders",)))
    return list(found)


def _read_file(file: File, findings: Findings) -> Contract | None:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE + 1)
    except OSError as error:
        findings.error((), f"cannot be read: {error.strerror}")
        return None
    return _read(content, findings)


def _read(content: bytes, findings: Findings) -> Contract | None:
    findings.page = read_page(content, findings.at_line)
    if findings.page is None:
        return None
    document = findings.page.value
    if not isinstance(document, dict):
        findings.error((), "a contract is a mapping (apiVersion, kind, id, …)")
        return None
    validate(document, findings)
    contract = _Reader(document, findings).contract(content.decode("utf-8-sig"))
    return None if findings.errors else contract


class _Reader:
    """Reads one document; goes on after an error, so that all of them are found."""

    def __init__(self, document: dict[str, Any], findings: Findings):
        self._document = document
        self._findings = findings

    def contract(self, text: str) -> Contract | None:
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
        if not any(rule.effect == "allow" for rule in rules):
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
        self._check_secrets(contract, ours["embedding"][1])
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

    def _check_secrets(self, contract: Contract, path: Path) -> None:
        """Columns that must not leave the source, and columns that have no place outside it."""
        findings = self._findings
        by_name = {column.name: column for column in contract.columns}
        for name in contract.embedding.document_columns:
            if name not in by_name:
                findings.error(_place(name, contract.embedding, path), f"there is no column {name}", by_name)
            elif reason := never_embedded(by_name[name]):
                public = [column.name for column in contract.columns if not never_embedded(column)]
                place = _place(name, contract.embedding, path)
                findings.error(place, f"column {name} is {reason} and must not be embedded", public)
        properties = self._items("schema")[0].get("properties")
        for index, item in enumerate(properties if isinstance(properties, list) else ()):
            column = by_name.get(str(item.get("name"))) if isinstance(item, dict) else None
            if column is None or column not in contract.carried_columns:
                continue
            here: Path = ("schema", 0, "properties", index)
            use = (
                "key"
                if column.key_position
                else "rule"
                if column.name in rule_columns(contract.rules)
                else "filter"
                if column.filterable
                else "masked column"
            )
            if column.mask and use != "masked column":
                message = f"column {column.name} is masked, only its mask leaves the source, but is used as {use}"
                findings.error(here, message)
            elif is_restricted(column) and not column.mask:
                message = f"column {column.name} is restricted and must not leave the source, but is used as {use}"
                findings.error(here, message)
            if column.name in RESERVED_COLUMNS:
                findings.error(
                    (*here, "name"),
                    f"column {column.name} is used as {use}, but every chunk table has its own {column.name}",
                )


def _place(name: str, embedding: Embedding, path: Path) -> Path:
    """Where in the contract the embedding names this column."""
    if embedding.template is None:
        return (*path, "columns", embedding.columns.index(name))
    return (*path, "template")
