"""Tidegate's own properties in a contract: `embedding`, `rowAccess`, `percentile`. Of masks: mask_property.py."""

import re
from collections.abc import Mapping
from typing import Any

from tidegate.contract.embedding import LANGUAGE, LOCAL, LOCAL_MODELS, Embedding, placeholders
from tidegate.contract.family import Family, base, family
from tidegate.contract.finding import did_you_mean
from tidegate.contract.findings import Findings
from tidegate.contract.identifier import is_identifier, is_role, is_source_schema
from tidegate.contract.membership import Membership
from tidegate.contract.operand import RuleTypeError
from tidegate.contract.page import Path
from tidegate.contract.rule import STANDARDS_PREFIX, Rule, read_rule
from tidegate.contract.tokens import RuleSyntaxError
from tidegate.contract.typecheck import Effect

VENDOR = "tidegate"
CHUNK_TOKENS = (16, 8000)
_EFFECTS: tuple[Effect, ...] = ("allow", "require", "deny")
_MODEL = re.compile(r"[a-z0-9][a-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.:/-]*")
_KEYISH = frozenset({Family.INTEGER, Family.UUID, Family.TEXT})
_EVERYWHERE = ("embedding", "rowAccess", "mask", "reveal", "embed", "percentile", "budget")

Values = dict[str, tuple[Any, Path]]


def properties(owner: Any, path: Path, known: tuple[str, ...], findings: Findings) -> Values:
    """Tidegate's custom properties of `owner`: name → value and its path.

    `known` are those that have a meaning at this place; any other is an error, and so is one that seems to be
    ours without `vendor: tidegate`: a mask that is overlooked would show what it should hide.
    """
    found: Values = {}
    items = owner.get("customProperties") if isinstance(owner, dict) else None
    for index, item in enumerate(items if isinstance(items, list) else ()):
        here = (*path, "customProperties", index)
        if not isinstance(item, dict) or not isinstance(name := item.get("property"), str):
            continue
        vendor = item.get("vendor")
        if vendor != VENDOR:
            _report_lookalike(name, vendor, here, findings)
        elif name not in known:
            message = f'tidegate has no property "{name}" here{did_you_mean(name, known)}'
            findings.error((*here, "property"), message, known or ("none",))
        elif name in found:
            findings.error((*here, "property"), f'"{name}" stands here twice')
        else:
            found[name] = (item.get("value"), (*here, "value"))
    return found


def _report_lookalike(name: str, vendor: Any, here: Path, findings: Findings) -> None:
    if vendor is None and name in _EVERYWHERE:
        findings.error(here, f'"{name}" has no vendor; it would be ignored', (f"vendor: {VENDOR}",))
    elif isinstance(vendor, str) and did_you_mean(vendor.lower(), [VENDOR]):
        findings.error(
            (*here, "vendor"), f'unknown vendor "{vendor}"{did_you_mean(vendor.lower(), [VENDOR])}', (VENDOR,)
        )


def read_embedding(value: Any, path: Path, findings: Findings) -> Embedding | None:
    """`embedding`: `{columns | template, chunk: {tokens, overlap?, min?, target?}, model, language?}`."""
    settings = findings.mapping(value, path, ("columns", "template", "chunk", "model", "language"))
    if settings is None:
        return None
    names: list[str] = []
    template: str | None = None
    if ("columns" in settings) == ("template" in settings):
        findings.error(path, "exactly one of the two must say what is embedded", ("columns", "template"))
    elif "columns" in settings:
        here = (*path, "columns")
        names = _names(settings["columns"], here, findings)
        if not names and not findings.is_known(here):
            findings.error(here, "no column to embed")
    elif (template := findings.text(settings["template"], (*path, "template"))) is not None:
        try:
            if not placeholders(template):
                findings.error((*path, "template"), "the template shows no column", ("{column}",))
        except ValueError as error:
            findings.error((*path, "template"), str(error), ("{column}", "{{", "}}"))
    chunk = _read_chunk(settings, path, findings)
    model = findings.text(settings.get("model"), (*path, "model"))
    if model is not None and not _MODEL.fullmatch(model):
        findings.error((*path, "model"), f"{model!r} is not a model", ("provider/name",))
    elif model is not None and model.startswith(LOCAL) and model not in LOCAL_MODELS:
        findings.error(
            (*path, "model"),
            f'there is no embedding model "{model}"{did_you_mean(model, LOCAL_MODELS)}',
            (*LOCAL_MODELS, "openai/…, ollama/…, anything litellm reaches"),
        )
    language = findings.text(settings.get("language", LANGUAGE), (*path, "language"))
    if language is not None and not is_identifier(language):
        findings.error((*path, "language"), f"{language!r} is no text search configuration", ("simple", "english", "…"))
    if findings.is_known(path) or chunk is None or model is None or language is None:
        return None
    tokens, overlap, least, target = chunk
    return Embedding(tuple(names), template, tokens, overlap, model, least, target, language)


def _read_chunk(
    settings: Mapping[str, Any], path: Path, findings: Findings
) -> tuple[int, int, int | None, int | None] | None:
    here = (*path, "chunk")
    chunk = findings.mapping(settings.get("chunk"), here, ("tokens", "overlap", "min", "target"))
    if chunk is None:
        return None
    tokens = findings.integer(chunk.get("tokens"), (*here, "tokens"), *CHUNK_TOKENS)
    most = ((tokens or CHUNK_TOKENS[1]) - 1) // 2  # less than half
    overlap = findings.integer(chunk.get("overlap", 0), (*here, "overlap"), 0, most)
    if tokens is None or overlap is None:
        return None
    own = tokens - overlap
    # Borders need a choice of places: between `min` and the most there is at least half a chunk.
    least = findings.integer(chunk["min"], (*here, "min"), 1, own // 2) if "min" in chunk else None
    middle = (own // 4 if least is None else least) + 1
    target = findings.integer(chunk["target"], (*here, "target"), middle, own) if "target" in chunk else None
    return tokens, overlap, least, target


def _names(value: Any, path: Path, findings: Findings) -> list[str]:
    names: list[str] = []
    for index, item in enumerate(findings.sequence(value, path)):
        if (name := findings.text(item, (*path, index))) is None:
            continue
        if name in names:
            findings.error((*path, index), f'"{name}" stands here twice')
        names.append(name)
    return names


def read_row_access(
    value: Any,
    path: Path,
    findings: Findings,
    *,
    columns: Mapping[str, str],
    roles: tuple[str, ...],
    schema: str,
) -> tuple[tuple[Rule, ...], tuple[Membership, ...]]:
    """`rowAccess`: `{grammar: 1, rules, memberships?}`, for columns name → physical type.

    `schema`: where a membership's table is when it does not say.
    """
    settings = findings.mapping(value, path, ("grammar", "rules", "memberships"))
    if settings is None:
        return (), ()
    grammar = settings.get("grammar")
    if grammar != 1 or isinstance(grammar, bool):
        findings.error((*path, "grammar"), f"grammar {grammar!r} is unknown", ("1",))
    memberships: dict[str, Membership] = {}
    for index, item in enumerate(findings.sequence(settings.get("memberships", []), (*path, "memberships"))):
        here = (*path, "memberships", index)
        membership = _read_membership(item, here, columns, schema, findings)
        if membership and membership.name in memberships:
            findings.error((*here, "name"), f'membership "{membership.name}" is declared twice')
        elif membership:
            memberships[membership.name] = membership
    members = {name: membership.row for name, membership in memberships.items()}
    rules: dict[str, Rule] = {}
    for index, item in enumerate(findings.sequence(settings.get("rules"), (*path, "rules"))):
        here = (*path, "rules", index)
        rule = _read_rule(item, here, findings, columns=columns, members=members, roles=roles)
        if rule and rule.id in rules:
            findings.error((*here, "id"), f'rule "{rule.id}" is there twice')
        elif rule:
            rules[rule.id] = rule
    return tuple(rules.values()), tuple(memberships.values())


def may_allow(table: Mapping[str, Any]) -> bool:
    """Whether a rule is meant to open rows, as far as can be told where it, or what it stands in, did not pass."""
    items = table.get("customProperties")
    for item in items if isinstance(items, list) else ():
        value = item.get("value") if isinstance(item, dict) and item.get("property") == "rowAccess" else None
        rules = value.get("rules") if isinstance(value, dict) else None
        for rule in rules if isinstance(rules, list) else ():
            if isinstance(rule, dict) and rule.get("effect") not in ("require", "deny"):
                return True
    return False


def _identifier(value: Any, path: Path, findings: Findings) -> str | None:
    name = findings.text(value, path)
    if name is not None and not is_identifier(name):
        findings.error(path, f"{name!r} is not a plain name", ("a-z, 0-9 and _, at most 63 bytes",))
        return None
    return name


def _read_membership(
    value: Any, path: Path, columns: Mapping[str, str], schema: str, findings: Findings
) -> Membership | None:
    keys = ("name", "table", "column", "row", "principal")
    settings = findings.mapping(value, path, keys)
    if settings is None:
        return None
    name = _identifier(settings.get("name"), (*path, "name"), findings)
    column = _identifier(settings.get("column"), (*path, "column"), findings)
    principal = _identifier(settings.get("principal"), (*path, "principal"), findings)
    row = findings.text(settings.get("row"), (*path, "row"))
    if row is not None and row not in columns:
        findings.error((*path, "row"), f"there is no column {row}{did_you_mean(row, columns)}", columns)
    elif row is not None and (family(columns[row]) not in _KEYISH or base(columns[row]) in ("char", "character")):
        findings.error((*path, "row"), f"a membership cannot go by {columns[row]}", ("integers", "uuid", "text"))
    table = findings.text(settings.get("table"), (*path, "table"))
    if table is not None:
        before, dot, after = table.partition(".")
        schema, table = (before, after) if dot else (schema, table)
        if not (is_source_schema(schema) and is_identifier(table)):
            findings.error((*path, "table"), "not a domain's table", ("schema.table, lower-case",))
    if findings.is_known(path) or None in (name, table, column, row, principal):
        return None
    return Membership(str(name), schema, str(table), str(column), str(row), str(principal))


def _read_rule(
    value: Any,
    path: Path,
    findings: Findings,
    *,
    columns: Mapping[str, str],
    members: Mapping[str, str],
    roles: tuple[str, ...],
) -> Rule | None:
    settings = findings.mapping(value, path, ("id", "effect", "to", "when"))
    if settings is None:
        return None
    id = _identifier(settings.get("id"), (*path, "id"), findings)
    if id is not None and id.startswith(STANDARDS_PREFIX):
        findings.error((*path, "id"), f'ids that begin with "{STANDARDS_PREFIX}" are kept for rules of all domains')
    effect = next((known for known in _EFFECTS if known == settings.get("effect")), None)
    if effect is None:
        given = settings.get("effect")
        hint = did_you_mean(given, _EFFECTS) if isinstance(given, str) else ""
        findings.error((*path, "effect"), f"unknown effect {given!r}{hint}", _EFFECTS)
    to = _read_to(settings, path, effect, roles, findings)
    text = ""
    if "when" in settings:
        text = findings.text(settings["when"], (*path, "when")) or ""
    elif effect in ("require", "deny"):
        findings.error(path, f"{effect} needs a condition", ("when",))
    try:
        rule = read_rule(id or "", effect or "allow", to, text, columns=columns, memberships=members)
    except RuleSyntaxError as error:
        findings.error((*path, "when"), str(error))
    except RuleTypeError as error:
        findings.error((*path, "when"), str(error), error.allowed)
    else:
        return None if findings.is_known(path) else rule
    return None


def _read_to(
    settings: Mapping[str, Any], path: Path, effect: Effect | None, roles: tuple[str, ...], findings: Findings
) -> list[str]:
    here = (*path, "to")
    if "to" not in settings:
        if effect == "allow":
            findings.error(path, "allow needs the roles that it is for", ("to",))
        return []
    if effect == "require":
        findings.error(here, "require holds for everyone; leave `to` out, or write deny")
    to = _names(settings["to"], here, findings)
    if not to and not findings.is_known(here):
        findings.error(here, "names no role", roles)
    for index, role in enumerate(to):
        if not is_role(role):
            reason = "not public, pg_… or tidegate_…; a-z, 0-9 and _, at most 63 bytes"
            findings.error((*here, index), f"{role!r} cannot be used as a role", (reason,))
        elif role not in roles:
            findings.error(
                (*here, index),
                f"role {role} is not in the contract's roles{did_you_mean(role, roles)}",
                roles,
            )
    return to
