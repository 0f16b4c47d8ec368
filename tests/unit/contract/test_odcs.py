"""Reading contracts: the example passes, every fault is found, at its line, with what is allowed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_strategies import texts

from tidegate.contract.budget import Budget
from tidegate.contract.contract import Contract, Latency, Source
from tidegate.contract.expression import columns
from tidegate.contract.finding import ContractErrors
from tidegate.contract.mask import Mask
from tidegate.contract.membership import Membership
from tidegate.contract.odcs import load_contract, load_contracts, parse_contract
from tidegate.errors import UnknownName

FILE = Path(__file__).parent / "data/support.ticket.odcs.yaml"
TEXT = FILE.read_text()


def changed(*changes):
    text = TEXT
    for old, new in changes:
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    return text


def faults(*changes):
    with pytest.raises(ContractErrors) as caught:
        parse_contract(changed(*changes).encode(), "a.odcs.yaml")
    return caught.value.errors


def line_of(text, *changes):
    return next(number for number, line in enumerate(changed(*changes).splitlines(), 1) if text in line)


def test_the_example_passes():
    contract = load_contract(FILE)
    assert (contract.product, contract.domain, contract.table) == ("support.ticket", "support", "ticket")
    assert (contract.version, contract.status, contract.team) == ("1.0.0", "active", "support-data")
    assert contract.owners == ("support-data@example.com",)
    assert contract.source == Source("source", "crm", "support", "ticket")
    assert contract.roles == ("support_agent", "legal_reviewer")
    assert contract.latency == Latency(200.0, 99.0)
    assert contract.warnings == ()
    assert contract.text == TEXT
    assert contract.chunk_schema == "rag_support"
    assert [column.name for column in contract.key_columns] == ["id"]
    assert [column.name for column in contract.columns_of_rules] == [
        "tenant_id",
        "region",
        "level",
        "legal_hold",
    ]
    assert [column.name for column in contract.carried_columns] == [
        "id", "tenant_id", "region", "level", "legal_hold", "created_at",
    ]  # fmt: skip
    assert [column.name for column in contract.document_columns] == ["subject", "body"]
    assert (contract.embedding.chunk_tokens, contract.embedding.chunk_overlap) == (200, 0)
    assert [rule.effect for rule in contract.rules] == ["require", "require", "allow", "allow", "deny"]


MASK = ("classification: restricted", "customProperties: [{property: mask, vendor: tidegate, value: %s}]")
KEY = "physicalType: bigint, primaryKey: true, primaryKeyPosition: 1"
COLUMNS = "columns: [subject, body]"


def budget(value: str) -> tuple[str, str]:
    """The change that puts a budget before what is embedded."""
    return (
        "- property: embedding",
        f"- {{property: budget, vendor: tidegate, value: {value}}}\n      - property: embedding",
    )


REGION = '{id: region, effect: allow, to: [support_agent], when: "row.region in user.regions"}'
MEMBER = "{name: assigned, table: support.assignment, column: ticket_id, row: id, principal: username}"
P = "schema[0].properties"
C = "schema[0].customProperties"
R = f"{C}[1].value.rules"

FAULTS = [
    # the standard
    ([("kind: DataContract", "kind: Letter")], "kind", "Letter", "DataContract"),
    ([("apiVersion: v3.2.0", "apiVersion: v2.2.2")], "apiVersion", "older", "v3.2.0"),
    ([("apiVersion: v3.2.0", "apiVersion: v4.0.0")], "apiVersion", "v4.0.0", "v3.2.0"),
    ([("status: active", "statsu: active")], "statsu", 'did you mean "status"', "status"),
    ([("status: active", "status: live")], "status", "live", "active"),
    ([("version: 1.0.0", "version: 1.0")], "version", "wrong type", "string"),
    ([("version: 1.0.0", "version: v1")], "version", "not a version", "1.0.0"),
    ([("logicalType: integer, physicalType: smallint", "logicaltype: integer, physicalType: smallint")],
     f"{P}[3].logicaltype", 'did you mean "logicalType"', "logicalType"),
    ([("physicalName: ticket", "physicalNme: ticket")], "schema[0].physicalNme", "did you mean", "physicalName"),
    # names
    ([("name: support.ticket", "name: ticket")], "name", "not a product's name", "domain.table"),
    ([("name: support.ticket", "name: sales.ticket")], "name", "begin with its domain", "support.ticket"),
    ([("domain: support", "domain: Support")], "domain", "no domain's name", "a-z"),
    ([("domain: support", "domain: " + "d" * 60)], "domain", "no domain's name", "59 bytes"),
    ([("physicalName: ticket", 'physicalName: "a; b"')], "schema[0].physicalName", "cannot be a source", "a-z"),
    ([("schema: support}", "schema: tidegate}")], "servers[0].schema", "cannot be a source's schema", "not pg_"),
    ([("schema: support}", "schema: pg_catalog}")], "servers[0].schema", "cannot be a source's schema", "not pg_"),
    # columns
    ([("name: region,", "name: Region,")], f"{P}[2].name", "cannot be a column", "a-z"),
    ([("name: level,", "name: level, physicalName: lvl,")], f"{P}[3].physicalName", "one name", "level"),
    ([("physicalType: smallint", 'physicalType: "int); drop"')], f"{P}[3].physicalType", "not the name of a", None),
    ([("physicalType: smallint, ", "")], f"{P}[3].physicalType", "missing", None),
    ([(KEY, "physicalType: bigint")], "schema[0]", "no primary key", "primaryKey: true"),
    ([(KEY, KEY.replace("bigint", "numeric"))], f"{P}[0].physicalType", "cannot be a key", "uuid"),
    ([(KEY, KEY.replace("Position: 1", "Position: 2"))], f"{P}[0].primaryKeyPosition", "its place", "1"),
    ([("name: level,", "name: region,")], f"{P}[3].name", "there twice", None),
    ([("name: region,", "name: content,")], f"{P}[2].name", "its own content", None),
    # embedding
    ([(COLUMNS, "columns: [subject, bdy]")], f"{C}[0].value.columns[1]", "no column bdy", "body"),
    ([(COLUMNS, "columns: []")], f"{C}[0].value.columns", "no column to embed", None),
    ([(COLUMNS, "columns: [subject, customer_email]")], f"{C}[0].value.columns[1]", "restricted", "subject"),
    ([(COLUMNS, 'template: "{customer_email}"')], f"{C}[0].value.template", "restricted", "subject"),
    ([(COLUMNS, 'template: "{nope}"')], f"{C}[0].value.template", "no column nope", "subject"),
    ([(COLUMNS, 'template: "{subject"')], f"{C}[0].value.template", "single '{'", "{{"),
    ([(COLUMNS, 'template: "{subject.__class__}"')], f"{C}[0].value.template", "does not name a column", "{{"),
    ([(COLUMNS, "template: hello")], f"{C}[0].value.template", "shows no column", "{column}"),
    ([(COLUMNS, f'{COLUMNS}\n          template: "{{body}}"')], f"{C}[0].value", "exactly one", "template"),
    ([(f"{COLUMNS}\n          ", "")], f"{C}[0].value", "exactly one", "columns"),
    ([budget("{tokens: 0}")], f"{C}[0].value.tokens", "1 to", None),
    ([budget("{tokens: 10, policy: que}")], f"{C}[0].value.policy", "unknown policy 'que'", "queue"),
    ([budget("{token: 10}")], f"{C}[0].value.token", 'did you mean "tokens"', "tokens"),
    ([("tokens: 200", "tokens: 8")], f"{C}[0].value.chunk.tokens", "16 to 8000", None),
    ([("tokens: 200", "tokens: 200, overlap: 100")], f"{C}[0].value.chunk.overlap", "0 to 99", None),
    ([("tokens: 200", "tokens: 200, min: 101")], f"{C}[0].value.chunk.min", "1 to 100", None),
    ([("tokens: 200", "tokens: 200, overlap: 40, min: 60, target: 60")], f"{C}[0].value.chunk.target", "61 to 160", None),
    ([("tokens: 200", "token: 200")], f"{C}[0].value.chunk.token", 'did you mean "tokens"', "tokens"),
    ([("model: local/", "model: ")], f"{C}[0].value.model", "not a model", "provider/name"),
    ([("property: embedding", "property: embeding")], f"{C}[0].property", 'did you mean "embedding"', "rowAccess"),
    ([("vendor: tidegate", "vendor: tidgate")], f"{C}[0].vendor", 'did you mean "tidegate"', "tidegate"),
    ([("property: embedding\n        vendor: tidegate", "property: embedding")], f"{C}[0]", "no vendor", "tidegate"),
    ([(MASK[0], MASK[1] % "blur")], f"{P}[8].customProperties[0].value", "unknown mask", "last4"),
    ([(MASK[0], MASK[1] % "hash"), (COLUMNS, "columns: [customer_email]")], f"{C}[0].value.columns[0]", "masked", "body"),
    ([("tags: [filter]}", "tags: [filter], classification: restricted}")], f"{P}[1]", "used as rule", None),
    # rules
    ([("grammar: 1", "grammar: 2")], f"{C}[1].value.grammar", "unknown", "1"),
    ([("grammar: 1", "gramar: 1")], f"{C}[1].value.gramar", 'did you mean "grammar"', "rules"),
    ([("id: clearance,", "id: tenant,")], f"{R}[1].id", "there twice", None),
    ([("id: clearance,", "id: Clear-Ance,")], f"{R}[1].id", "not a plain name", "a-z"),
    ([("effect: deny", "effect: dny")], f"{R}[4].effect", 'did you mean "deny"', "require"),
    ([("effect: deny,", "efect: deny,")], f"{R}[4].efect", 'did you mean "effect"', "when"),
    ([(REGION, "{id: region, effect: allow}")], f"{R}[2]", "needs the roles", "to"),
    ([("to: [legal_reviewer]", "to: []")], f"{R}[3].to", "names no role", "support_agent"),
    ([("to: [legal_reviewer]", "to: [legal_reviwer]")], f"{R}[3].to[0]", "did you mean", "legal_reviewer"),
    ([("to: [legal_reviewer]", "to: [public]")], f"{R}[3].to[0]", "cannot be used", "not public"),
    ([("to: [legal_reviewer]", "to: [pg_read_all_data]")], f"{R}[3].to[0]", "cannot be used", "pg_"),
    ([("to: [legal_reviewer]", "to: [tidegate_worker]")], f"{R}[3].to[0]", "cannot be used", "tidegate_"),
    ([("effect: require, when: \"row.level", "effect: require, to: [support_agent], when: \"row.level")],
     f"{R}[1].to", "holds for everyone", None),
    ([(', when: "row.legal_hold"', "")], f"{R}[4]", "deny needs a condition", "when"),
    ([("row.level <= user.clearance", "row.level <= ")], f"{R}[1].when", "at character 14", None),
    ([("row.level <= user.clearance", "row.levl <= user.clearance")], f"{R}[1].when", "did you mean row.level", "level"),
    ([("row.level <= user.clearance", "member(nobody)")], f"{R}[1].when", "not declared", None),
    ([("row.level <= user.clearance", "true or row.level = 1")], f"{R}[1].when", "at character 6", None),
    ([("grammar: 1", f"grammar: 1\n          memberships: [{MEMBER.replace('row: id', 'row: idd')}]")],
     f"{C}[1].value.memberships[0].row", "no column idd", "id"),
    ([("grammar: 1", f"grammar: 1\n          memberships: [{MEMBER.replace('row: id', 'row: created_at')}]")],
     f"{C}[1].value.memberships[0].row", "cannot go by timestamptz", "uuid"),
    ([("grammar: 1", f"grammar: 1\n          memberships: [{MEMBER.replace('support.', 'tidegate.')}]")],
     f"{C}[1].value.memberships[0].table", "not a domain's table", "schema.table"),
    ([("grammar: 1", f"grammar: 1\n          memberships: [{MEMBER}, {MEMBER}]")],
     f"{C}[1].value.memberships[1].name", "declared twice", None),
    # latency
    ([("unit: ms, ", "")], "slaProperties[0].unit", "needs its unit", "ms"),
    ([("unit: ms, ", "unit: d, ")], "slaProperties[0].unit", "'d'", "ms"),
    ([("value: 200,", "value: fast,")], "slaProperties[0].value", "a number", None),
    ([("value: 99}", "value: 101}")], "slaProperties[0].customProperties[0].value", "at most 100", None),
    ([("property: percentile", "property: percentil")], "slaProperties[0].customProperties[0].property", "did you", "percentile"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "path", "message", "allowed"), FAULTS)
def test_a_fault_is_found_at_its_place(changes, path, message, allowed):
    found = faults(*changes)
    here = [fault for fault in found if fault.path == path and message in fault.message]
    assert here, list(map(str, found))
    assert allowed is None or any(allowed in item for item in here[0].allowed), here[0].allowed
    if path in OUTER:
        assert here[0].line == line_of(OUTER[path])
    else:
        assert here[0].line in changed_lines(*changes)


# A fault of something that lacks a part stands where the whole begins.
OUTER = {
    "schema[0]": "- id: ticket",
    f"{C}[0]": "- property: embedding",
    f"{C}[0].value": "value:",
}


def changed_lines(*changes):
    before, after = TEXT.splitlines(), changed(*changes).splitlines()
    return [number for number, (old, new) in enumerate(zip(before, after, strict=False), 1) if old != new]


def test_errors_print_one_a_line():
    text = changed(("effect: deny", "effect: dny"), ("unit: ms", "unit: d"), ("{id: hold,", "{id: hold, wen: 1,"))
    with pytest.raises(ContractErrors) as caught:
        parse_contract(text.encode(), "x/a.odcs.yaml")
    assert len(caught.value.errors) == 3
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    number = line_of("id: hold")
    assert (
        f"x/a.odcs.yaml:{number}: {R}[4].effect: unknown effect 'dny'; did you mean \"deny\"? "
        "(allowed: allow, require, deny)" in lines
    )
    assert [fault.line for fault in caught.value.errors] == sorted(fault.line for fault in caught.value.errors)


def test_all_faults_of_a_folder_at_once(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.odcs.yaml").write_text(changed(("effect: deny", "effect: dny")))
    (tmp_path / "sub/b.odcs.yml").write_text(changed(("unit: ms", "unit: d"), ("grammar: 1", "grammar: 7")))
    (tmp_path / "ok.odcs.yaml").write_text(TEXT)
    (tmp_path / "README.yaml").write_text("not: [a contract")
    with pytest.raises(ContractErrors) as caught:
        load_contracts(tmp_path)
    files = [Path(fault.file).name for fault in caught.value.errors]
    assert files == ["a.odcs.yaml", "b.odcs.yml", "b.odcs.yml"]


def test_a_product_has_one_contract(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.odcs.yaml").write_text(TEXT)
    with pytest.raises(ContractErrors, match="already has a contract") as caught:
        load_contracts(tmp_path)
    assert [(fault.file, fault.line) for fault in caught.value.errors] == [
        (str(tmp_path / "b.odcs.yaml"), line_of("name: support.ticket"))
    ]


def test_the_same_file_given_twice_is_one(tmp_path):
    (tmp_path / "a.odcs.yaml").write_text(TEXT)
    assert len(load_contracts([tmp_path, tmp_path / "a.odcs.yaml"])) == 1


def test_an_empty_folder_and_a_missing_file_are_errors(tmp_path):
    with pytest.raises(ContractErrors, match="no contract in this folder"):
        load_contracts(tmp_path)
    with pytest.raises(UnknownName, match=r"(?s)nothing.odcs.yaml: there is no such file.*\n.*none: there is no such"):
        load_contracts([tmp_path / "nothing.odcs.yaml", tmp_path / "none"])
    with pytest.raises(ContractErrors, match="no contract to read"):
        load_contracts([])


BOMB = "a: &a [x,x]\n" + "\n".join(f"b{n}: &b{n} [*a,*a]" for n in range(9))


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"", 1, "empty"),
        (b"# nothing\n", 1, "empty"),
        (b"- a list\n", 1, "a contract is a mapping"),
        (b"a: 1\nb: [\n", 3, "not YAML"),
        (b"a: 1\na: 2\n", 2, 'duplicate key "a", first on line 1'),
        (BOMB.encode(), 2, "aliases are not allowed"),
        (b"a: &a [*a]\n", 1, "aliases are not allowed"),
        (b"a: !!python/object/apply:os.system [id]\n", 1, "tags are not allowed"),
        (b"a: !x y\n", 1, "tags are not allowed"),
        (b"a: 1\n---\nb: 2\n", 2, "one contract a file"),
        (b"[" * 20_000, 1, "deep"),
        (b"x: " + b"[" * 100 + b"]" * 100, 1, "deep"),
        (b"a: \xff\n", 1, "not UTF-8"),
        (b"a: \x00\n", 1, "not YAML"),
        (b"#" * 600_000, 1, "at most"),
        (b"a: [" + b"x," * 60_000 + b"]", 1, "nodes"),
        (b"? [a, b]\n: c\n", 1, "a key must be"),
    ],
)
def test_a_bad_page_is_refused(content, line, message):
    with pytest.raises(ContractErrors) as caught:
        parse_contract(content, "a.odcs.yaml")
    assert any(message in fault.message and fault.line == line for fault in caught.value.errors), str(caught.value)


def test_plain_words_stay_words():
    text = changed(
        ("purpose: Support tickets, searchable by meaning.", "purpose: 2026-01-31"),
        ("host: localhost", "host: NO"),
    )
    assert parse_contract(text.encode(), "a").product == "support.ticket"


def test_no_rule_is_legal_and_warned_about():
    start = TEXT.index("      - property: rowAccess")
    text = TEXT[:start] + TEXT[TEXT.index("slaProperties:") :]
    contract = parse_contract(text.encode(), "a")
    assert contract.rules == ()
    assert "nobody sees a row" in contract.warnings[0]
    assert contract.warnings[0].startswith("a:")


@pytest.mark.parametrize("mask", ["null", "hash", "partial_email", "last4", "{constant: x}"])
def test_masks_are_kept(mask):
    contract = parse_contract(changed((MASK[0], MASK[1] % mask)).encode(), "a")
    assert contract.columns[-1].mask == (Mask("constant", "x") if "constant" in mask else Mask(mask))
    assert Contract.from_spec(json.loads(json.dumps(contract.to_spec()))) == contract


def test_memberships_templates_and_seconds():
    text = changed(
        ("grammar: 1", f"grammar: 1\n          memberships: [{MEMBER}]"),
        ("row.level <= user.clearance", "member(assigned) or row.level = 0"),
        (COLUMNS, "template: '{{x}} {subject}: {body} {subject}'"),
        ("value: 200, unit: ms", "value: 1.5, unit: s"),
        ("tokens: 200", "tokens: 200, overlap: 80, min: 30, target: 90"),
        budget("{tokens: 1000, policy: queue}"),
    )
    contract = parse_contract(text.encode(), "a")
    assert contract.memberships == (Membership("assigned", "support", "assignment", "ticket_id", "id", "username"),)
    assert columns(contract.rules[1].when) == {"id", "level"}
    assert [column.name for column in contract.document_columns] == ["subject", "body"]
    assert contract.latency == Latency(1500.0, 99.0)
    assert contract.budget == Budget(1000, "queue")
    sizes = contract.embedding
    assert (sizes.chunk_overlap, sizes.chunk_min, sizes.chunk_target) == (80, 30, 90)
    assert Contract.from_spec(json.loads(json.dumps(contract.to_spec()))) == contract


def test_a_key_of_two_columns_has_its_own_order():
    text = changed(
        (KEY, KEY.replace("Position: 1", "Position: 2")),
        ("physicalType: uuid", "physicalType: uuid, primaryKey: true, primaryKeyPosition: 1"),
    )
    assert [column.name for column in parse_contract(text.encode(), "a").key_columns] == ["tenant_id", "id"]


EXAMPLE = load_contract(FILE)


@given(
    version=st.from_regex(r"[0-9]\.[0-9]\.[0-9]", fullmatch=True),
    path=texts,
    text=texts,
    team=st.none() | texts,
    owners=st.lists(texts).map(tuple),
    latency=st.none() | st.builds(Latency, st.floats(0.001, 1e9), st.floats(0.001, 100)),
    classification=st.none() | texts,
    mask=st.none() | st.builds(Mask, st.just("constant"), texts | st.integers() | st.booleans()),
    rules=st.permutations(EXAMPLE.rules),
    warnings=st.lists(texts).map(tuple),
)
def test_the_spec_is_the_contract(classification, mask, rules, **fields):
    columns = tuple(replace(column, classification=classification, mask=mask) for column in EXAMPLE.columns)
    contract = replace(EXAMPLE, columns=columns, rules=tuple(rules), **fields)
    again = Contract.from_spec(json.loads(json.dumps(contract.to_spec())))
    assert again == contract
    assert repr(again) == repr(contract)


JUNK = [
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "x",
    "row.id = 1",
    [],
    [None],
    ["x"],
    [[]],
    {},
    {"x": None},
    {"property": "mask"},
]


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in items:
        yield from places(inner, (*path, step))


PLACES = list(places(yaml.safe_load(TEXT)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES[1:]), st.sampled_from([*JUNK, "DELETE"])), min_size=1, max_size=3))
def test_junk_anywhere_is_reported_and_nothing_else(changes):
    document = yaml.safe_load(TEXT)
    for path, junk in changes:
        inner = document
        try:
            for step in path[:-1]:
                inner = inner[step]
            if junk == "DELETE":
                del inner[path[-1]]
            else:
                inner[path[-1]] = junk
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    try:
        contract = parse_contract(yaml.safe_dump(document).encode(), "a")
    except ContractErrors as error:
        caught = error.errors
    else:
        assert Contract.from_spec(json.loads(json.dumps(contract.to_spec()))) == contract
        caught = None
    assert caught is None or all(fault.line >= 1 and fault.message for fault in caught)


def test_what_an_earlier_release_published_can_be_read() -> None:
    """Its specs lack what came later; they are in every database that was there before."""
    contract = load_contract(FILE)
    spec = contract.to_spec()
    del spec["purpose"]
    for column in spec["columns"]:
        del column["reveal"], column["embed"]
    for rule in spec["rules"]:
        del rule["origin"]
    assert Contract.from_spec(spec) == replace(contract, purpose=None)
