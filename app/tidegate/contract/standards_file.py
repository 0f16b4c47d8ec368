"""Reading standards: YAML, strict, every fault with its line."""

from collections.abc import Mapping
from pathlib import Path as File
from typing import Any

from tidegate.contract.checks import CHECKS, read_names, read_options
from tidegate.contract.expression import Member, leaves
from tidegate.contract.file import require_files
from tidegate.contract.finding import ContractErrors, did_you_mean
from tidegate.contract.findings import Findings
from tidegate.contract.grammar import parse
from tidegate.contract.identifier import MAX_BYTES, is_identifier, is_role
from tidegate.contract.page import MAX_BYTES as MAX_FILE
from tidegate.contract.page import Path, read_page
from tidegate.contract.rule import STANDARDS_PREFIX
from tidegate.contract.severity import Severity
from tidegate.contract.standards import Check, GlobalRule, Standards
from tidegate.contract.tokens import RuleSyntaxError

FORMAT = 1
DEFAULT_NAME = "default_standards.yaml"
_SEVERITIES = tuple(str(severity) for severity in Severity)
_EFFECTS = ("require", "deny")


def default_text() -> str:
    """The file of the standards that tidegate brings."""
    return (File(__file__).parent / DEFAULT_NAME).read_text(encoding="utf-8")


def default_standards() -> Standards:
    """The standards that tidegate brings."""
    return parse_standards(default_text().encode(), DEFAULT_NAME)


def load_standards(path: str | File) -> Standards:
    """The standards in a file.

    Raises:
        UnknownName: there is no such file.
        ContractErrors: everything that is wrong with it.
    """
    findings = Findings(str(path))
    require_files([path])
    try:
        with File(path).open("rb") as stream:
            content = stream.read(MAX_FILE + 1)
    except OSError as error:
        findings.error((), f"cannot be read: {error.strerror}")
        raise ContractErrors(findings.errors) from None
    return parse_standards(content, str(path))


def parse_standards(content: bytes, name: str) -> Standards:
    """The standards in `content`; errors call the file `name`.

    Raises:
        ContractErrors: everything that is wrong with it.
    """
    findings = Findings(name)
    findings.page = read_page(content, findings.at_line)
    checks: list[Check] = []
    rules: list[GlobalRule] = []
    if findings.page is not None:
        document = findings.mapping(findings.page.value, (), ("standards", "lint", "rules"))
        if document is not None:
            if document.get("standards") != FORMAT or isinstance(document.get("standards"), bool):
                findings.error(("standards",), f"format {document.get('standards')!r} is unknown", (str(FORMAT),))
            checks = _checks(document.get("lint", {}), findings)
            rules = _rules(document.get("rules", []), findings)
    if findings.errors:
        raise ContractErrors(sorted(findings.errors, key=lambda error: error.line))
    return Standards(tuple(checks), tuple(rules), name, content.decode("utf-8-sig"))


def _checks(value: Any, findings: Findings) -> list[Check]:
    settings = findings.mapping(value, ("lint",), CHECKS)
    found: list[Check] = []
    for name, given in (settings or {}).items():
        path: Path = ("lint", name)
        if name not in CHECKS:
            continue
        known = CHECKS[name].options
        options: dict[str, Any] = {}
        if isinstance(given, dict):
            findings.mapping(given, path, ("severity", *known))
            severity, here = given.get("severity"), (*path, "severity")
            options = read_options(name, given, path, findings)
        else:
            severity, here = given, path
            if severity != Severity.OFF:
                options = read_options(name, {}, path, findings)
        if severity not in _SEVERITIES:
            hint = did_you_mean(severity, _SEVERITIES) if isinstance(severity, str) else ""
            findings.error(here, f"{severity!r} is not a severity{hint}", _SEVERITIES)
            continue
        found.append(Check(name, Severity(severity), options))
    return found


def _rules(value: Any, findings: Findings) -> list[GlobalRule]:
    found: dict[str, GlobalRule] = {}
    for index, item in enumerate(findings.sequence(value, ("rules",))):
        path: Path = ("rules", index)
        rule = _rule(item, path, findings)
        if rule and rule.id in found:
            findings.error((*path, "id"), f'rule "{rule.id}" is there twice')
        elif rule:
            found[rule.id] = rule
    return list(found.values())


def _rule(value: Any, path: Path, findings: Findings) -> GlobalRule | None:
    settings = findings.mapping(value, path, ("id", "effect", "to", "when", "where", "missing", "description"))
    if settings is None:
        return None
    id = findings.text(settings.get("id"), (*path, "id")) or ""
    if id and not is_identifier(id):
        findings.error((*path, "id"), f"{id!r} is not a plain name", ("a-z, 0-9 and _",))
    elif len(STANDARDS_PREFIX + id) > MAX_BYTES:
        findings.error((*path, "id"), "too long", (f"at most {MAX_BYTES - len(STANDARDS_PREFIX)} bytes",))
    effect = settings.get("effect")
    if effect not in _EFFECTS:
        why = "a rule of all domains cannot open rows" if effect == "allow" else f"unknown effect {effect!r}"
        findings.error((*path, "effect"), why, _EFFECTS)
    to = _names(settings, "to", path, findings) if "to" in settings else ()
    if "to" in settings and effect == "require":
        findings.error((*path, "to"), "require holds for everyone; leave `to` out, or write deny")
    for index, role in enumerate(to):
        if not is_role(role):
            findings.error(
                (*path, "to", index), f"{role!r} cannot be used as a role", ("not public, pg_… or tidegate_…",)
            )
    when = findings.text(settings.get("when"), (*path, "when")) or ""
    try:
        if when and any(isinstance(leaf, Member) for leaf in leaves(parse(when))):
            findings.error((*path, "when"), "member(…) is declared in a contract; a rule of all domains cannot use it")
    except RuleSyntaxError as error:
        findings.error((*path, "when"), str(error))
    where = findings.mapping(settings.get("where", {}), (*path, "where"), ("columns", "domains")) or {}
    having = _names(where, "columns", (*path, "where"), findings) if "columns" in where else ()
    domains = _names(where, "domains", (*path, "where"), findings) if "domains" in where else ()
    missing = settings.get("missing", "error")
    if missing not in ("error", "skip"):
        findings.error((*path, "missing"), f"{missing!r} is unknown", ("error", "skip"))
    if findings.is_known(path):
        return None
    return GlobalRule(
        id,
        "require" if effect == "require" else "deny",
        to,
        when,
        domains,
        having,
        "skip" if missing == "skip" else "error",
    )


def _names(settings: Mapping[str, Any], key: str, path: Path, findings: Findings) -> tuple[str, ...]:
    """A list of plain names, at least one."""
    found = read_names(settings[key], (*path, key), findings)
    if not found and not findings.is_known((*path, key)):
        findings.error((*path, key), "names nothing; leave it out for all")
    return found
