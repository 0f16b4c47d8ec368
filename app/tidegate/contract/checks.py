"""The checks that standards may ask for, each with its options."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.contract.columns import RESTRICTED
from tidegate.contract.contract import Column as ContractColumn
from tidegate.contract.contract import Contract
from tidegate.contract.expression import And, Column, Compare, Expression, In, UserAttribute
from tidegate.contract.family import Family, family
from tidegate.contract.findings import Findings
from tidegate.contract.identifier import is_identifier
from tidegate.contract.normal_form import normal_form
from tidegate.contract.page import Path
from tidegate.contract.version import Version

if TYPE_CHECKING:
    from tidegate.contract.standards import Check

Options = Mapping[str, Any]
Reader = Callable[[Any, Path, Findings], Any]
Run = Callable[[Contract, Options, Findings], None]


@dataclass(frozen=True, slots=True)
class CheckKind:
    """`options`: name → how it is read; `needed` are those that must be given."""

    run: Run
    options: Mapping[str, Reader]
    needed: frozenset[str] = frozenset()


def run_check(check: "Check", contract: Contract, findings: Findings) -> None:
    """Adds to `findings` what the check finds in the contract."""
    CHECKS[check.name].run(contract, check.options, findings)


def read_options(name: str, given: Options, path: Path, findings: Findings) -> dict[str, Any]:
    """The options of the check `name`, read; reports what is missing or wrong."""
    kind = CHECKS[name]
    for option in sorted(kind.needed - given.keys()):
        findings.error(path, f'check "{name}" needs `{option}`', (f"{{severity: …, {option}: …}}",))
    return {
        option: read(given[option], (*path, option), findings)
        for option, read in kind.options.items()
        if option in given
    }


def _owner(contract: Contract, options: Options, findings: Findings) -> None:
    if not contract.owners:
        findings.error(("team",), f"{contract.product} has no owner", ("members: [{username: …, role: owner}]",))


def _latency(contract: Contract, options: Options, findings: Findings) -> None:
    most = options.get("maximum_ms")
    if contract.latency is None:
        findings.error(
            ("slaProperties",), f"{contract.product} promises no latency", ("{property: latency, value: …, unit: ms}",)
        )
    elif most is not None and contract.latency.ms > most:
        findings.error(("slaProperties",), f"the promised latency is {contract.latency.ms:g} ms; at most {most:g} ms")


def _description(contract: Contract, options: Options, findings: Findings) -> None:
    if not (contract.purpose or "").strip():
        findings.error(("description",), f"{contract.product} does not say what it is for", ("purpose: …",))


def _column_descriptions(contract: Contract, options: Options, findings: Findings) -> None:
    for place, column in _columns(contract):
        if not (column.description or "").strip():
            findings.error(place, f"column {column.name} has no description", ("description: …",))


def _text_classification(contract: Contract, options: Options, findings: Findings) -> None:
    allowed = options.get("allowed")
    for place, column in _columns(contract):
        if family(column.physical_type) not in (Family.TEXT, Family.CITEXT):
            continue
        if not (column.classification or "").strip():
            findings.error(place, f"text column {column.name} has no classification", allowed or ("classification: …",))
        elif allowed and column.classification not in allowed:
            findings.error(
                (*place, "classification"), f"{column.classification!r} is not a classification here", allowed
            )


def _restricted_not_embedded(contract: Contract, options: Options, findings: Findings) -> None:
    embedded = set(contract.embedding.document_columns)
    for place, column in _columns(contract):
        if column.name in embedded and (column.classification or "").strip().lower() == RESTRICTED:
            findings.error(place, f"column {column.name} is restricted and is embedded")


def _allow_rule(contract: Contract, options: Options, findings: Findings) -> None:
    if not any(rule.effect == "allow" for rule in contract.rules):
        findings.error(("schema", 0, "customProperties"), "no allow rule: nobody would see a row", ("effect: allow",))


def _active_version(contract: Contract, options: Options, findings: Findings) -> None:
    version = Version.parse(contract.version)
    if contract.status == "active" and (version < Version(1, 0, 0) or version.pre):
        findings.error(("version",), f"{version} is active, but no release from 1.0.0 on", ("1.0.0", "status: draft"))


def _names(contract: Contract, options: Options, findings: Findings) -> None:
    pattern = options["pattern"]
    if not re.fullmatch(pattern, contract.product):
        findings.error(("name",), f"{contract.product} is not named as the standards say", (pattern,))


def _models(contract: Contract, options: Options, findings: Findings) -> None:
    if contract.embedding.model not in options["allowed"]:
        findings.error(_embedding(findings), f"model {contract.embedding.model} is not allowed", options["allowed"])


def _chunk_tokens(contract: Contract, options: Options, findings: Findings) -> None:
    if contract.embedding.chunk_tokens > options["maximum"]:
        findings.error(
            _embedding(findings), f"chunks of {contract.embedding.chunk_tokens} tokens; at most {options['maximum']}"
        )


def _tenant_guard(contract: Contract, options: Options, findings: Findings) -> None:
    name, domains = options["column"], options.get("domains", ())
    if name not in contract.column_types:
        if contract.domain in domains:
            findings.error(("schema", 0, "properties"), f"products of {contract.domain} must have column {name}")
    elif not any(
        _is_guard(term, name)
        for rule in contract.rules
        if rule.effect == "require" and rule.when is not None
        for term in _conjuncts(rule.when)
    ):
        place = next(place for place, column in _columns(contract) if column.name == name)
        findings.error(
            place,
            f"no require rule compares {name} with the caller's: one tenant would see another's rows",
            (f'{{id: tenant, effect: require, when: "row.{name} = user.tenant"}}',),
        )


def _conjuncts(expression: Expression) -> Iterator[Expression]:
    normal = normal_form(expression)
    yield from normal.terms if isinstance(normal, And) else (normal,)


def _is_guard(term: Expression, name: str) -> bool:
    match term:
        case Compare("=", Column(column), UserAttribute()) | In(Column(column), UserAttribute()):
            return column == name
        case _:
            return False


def _columns(contract: Contract) -> Iterator[tuple[Path, ContractColumn]]:
    for index, column in enumerate(contract.columns):
        yield ("schema", 0, "properties", index), column


def _document(findings: Findings) -> Mapping[str, Any]:
    value = findings.page.value if findings.page else None
    return value if isinstance(value, dict) else {}


def _embedding(findings: Findings) -> Path:
    """Where the contract says what is embedded."""
    try:
        items = _document(findings)["schema"][0]["customProperties"]
        index = next(index for index, item in enumerate(items) if item["property"] == "embedding")
    except (KeyError, IndexError, TypeError, StopIteration):
        return ("schema", 0)
    return ("schema", 0, "customProperties", index)


def read_names(value: Any, path: Path, findings: Findings) -> tuple[str, ...]:
    """A list of plain names."""
    for index, name in enumerate(value if isinstance(value, list) else ()):
        if isinstance(name, str) and not is_identifier(name):
            findings.error((*path, index), f"{name!r} is not a plain name", ("a-z, 0-9 and _, at most 63 bytes",))
    return _read_texts(value, path, findings)


def _read_texts(value: Any, path: Path, findings: Findings) -> tuple[str, ...]:
    return tuple(
        text
        for index, item in enumerate(findings.sequence(value, path))
        if (text := findings.text(item, (*path, index))) is not None
    )


def _read_name(value: Any, path: Path, findings: Findings) -> str:
    name = findings.text(value, path) or ""
    if name and not is_identifier(name):
        findings.error(path, f"{name!r} is not a plain name", ("a-z, 0-9 and _, at most 63 bytes",))
    return name


def _read_pattern(value: Any, path: Path, findings: Findings) -> str:
    pattern = findings.text(value, path) or ""
    try:
        re.compile(pattern)
    except re.error as error:
        findings.error(path, f"not a regular expression: {error}")
    return pattern


def _read_milliseconds(value: Any, path: Path, findings: Findings) -> float | None:
    return findings.number(value, path, 0, 1e9)


def _read_tokens(value: Any, path: Path, findings: Findings) -> int | None:
    return findings.integer(value, path, 16, 8000)


CHECKS: Mapping[str, CheckKind] = {
    "owner": CheckKind(_owner, {}),
    "latency": CheckKind(_latency, {"maximum_ms": _read_milliseconds}),
    "description": CheckKind(_description, {}),
    "column_descriptions": CheckKind(_column_descriptions, {}),
    "text_classification": CheckKind(_text_classification, {"allowed": _read_texts}),
    "restricted_not_embedded": CheckKind(_restricted_not_embedded, {}),
    "allow_rule": CheckKind(_allow_rule, {}),
    "active_version": CheckKind(_active_version, {}),
    "names": CheckKind(_names, {"pattern": _read_pattern}, frozenset({"pattern"})),
    "models": CheckKind(_models, {"allowed": _read_texts}, frozenset({"allowed"})),
    "chunk_tokens": CheckKind(_chunk_tokens, {"maximum": _read_tokens}, frozenset({"maximum"})),
    "tenant_guard": CheckKind(_tenant_guard, {"column": _read_name, "domains": read_names}, frozenset({"column"})),
}
