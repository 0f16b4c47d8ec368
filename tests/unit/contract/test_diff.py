"""What lies between two versions of a contract, and which version it needs."""

import pytest
from tests.conftest import SIMPLE_CONTRACT

from tidegate.contract.contract import Contract
from tidegate.contract.diff import check_bump, diff, required_version
from tidegate.contract.odcs import parse_contract
from tidegate.contract.standards_file import parse_standards
from tidegate.contract.version import Bump, Version

MASKED = "classification: restricted, customProperties: [{property: mask, vendor: tidegate, value: %s}]"
RESTRICTED = "classification: restricted"


def contract(*changes: tuple[str, str]) -> Contract:
    text = SIMPLE_CONTRACT
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after)
    return parse_contract(text.encode(), "note.odcs.yaml")


RULE = '"row.region in user.regions"'
TITLE = "{id: title, name: title, logicalType: string, physicalType: text}"
CHANGES = [
    # old, new, class, bump, what
    ([], [("purpose: Notes", "purpose: Remarks")], "SAFE", Bump.PATCH, "description"),
    ([], [("owner@example.com", "other@example.com")], "SAFE", Bump.PATCH, "owners"),
    ([], [("value: 200, unit: ms", "value: 300, unit: ms")], "SAFE", Bump.PATCH, "latency"),
    ([], [("- property: embedding", "- {property: budget, vendor: tidegate, value: {tokens: 9}}\n      - property: embedding")],
     "SAFE", Bump.PATCH, "budget"),
    ([], [("status: active", "status: deprecated")], "SAFE", Bump.PATCH, "status"),
    ([], [("database: test", "database: other")], "BREAKING", Bump.MAJOR, "source"),
    ([], [("      - {id: secret", "      - {id: extra, name: extra, physicalType: text}\n      - {id: secret")], "SAFE", Bump.MINOR, "column extra"),
    ([], [("      - {id: secret, name: secret, logicalType: string, physicalType: text, classification: restricted}\n", "")], "BREAKING", Bump.MAJOR, "column secret"),
    ([], [('physicalType: "numeric(10,2)"', "physicalType: integer")], "BREAKING", Bump.MAJOR, "column price"),
    ([], [("physicalType: bigint", "physicalType: uuid")], "BREAKING", Bump.MAJOR, "column id"),
    ([], [('"numeric(10,2)", tags: [filter]', '"numeric(10,2)"')], "BREAKING", Bump.MAJOR, "column price"),
    ([], [(RESTRICTED, "classification: confidential")], "WIDENS", Bump.MAJOR, "column secret"),
    ([], [(RESTRICTED, "classification: hush")], "WIDENS", Bump.MAJOR, "column secret"),
    ([], [(", " + RESTRICTED, "")], "WIDENS", Bump.MAJOR, "column secret"),
    ([(RESTRICTED, "classification: public")], [], "NARROWS", Bump.MINOR, "column secret"),
    ([], [(RESTRICTED, "classification: Restricted")], "SAFE", Bump.PATCH, "column secret"),
    ([(RESTRICTED, MASKED % "hash")], [], "BREAKING", Bump.MAJOR, "column secret"),
    ([], [(RESTRICTED, MASKED % "hash")], "WIDENS", Bump.MAJOR, "column secret"),
    ([], [(RESTRICTED, MASKED % '"null"')], "NARROWS", Bump.MINOR, "column secret"),
    ([(RESTRICTED, "classification: public")], [(RESTRICTED, MASKED.replace("restricted", "public") % "hash")], "NARROWS", Bump.MINOR, "column secret"),
    ([(RESTRICTED, MASKED % "hash")], [(RESTRICTED, MASKED % "last4")], "WIDENS", Bump.MAJOR, "column secret"),
    ([(RESTRICTED, MASKED % "last4")], [(RESTRICTED, MASKED % '"null"')], "NARROWS", Bump.MINOR, "column secret"),
    ([], [("columns: [title, body]", "columns: [title]")], "REEMBED", Bump.MINOR, "embedding"),
    ([], [("tokens: 200", "tokens: 100")], "REEMBED", Bump.MINOR, "chunk"),
    ([], [("local/all-minilm-l6-v2", "openai/x")], "BREAKING", Bump.MAJOR, "model"),
    ([], [(f", when: {RULE}", "")], "WIDENS", Bump.MAJOR, "rule readers"),
    ([], [(RULE, '"row.region in user.regions and row.price > 1"')], "NARROWS", Bump.MINOR, "rule readers"),
    ([], [(TITLE, TITLE[:-1] + ", description: What it is about}")], "SAFE", Bump.PATCH, "column title"),
    ([], [(TITLE, TITLE[:-1] + ", required: true}")], "SAFE", Bump.MINOR, "column title"),
    ([], [("kind: DataContract", "kind: DataContract  # a remark")], "SAFE", Bump.PATCH, "text"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "kind", "bump", "what"), CHANGES, ids=range(len(CHANGES)))
def test_each_change_has_its_class_and_bump(
    before: list[tuple[str, str]], after: list[tuple[str, str]], kind: str, bump: Bump, what: str
) -> None:
    found = diff(contract(*before), contract(*after))
    assert (found.kind, found.bump) == (kind, bump), found.changes
    assert found.changes[0].what == what
    assert found.required == Version(1, 0, 0).after(bump)


def test_nothing_changed() -> None:
    found = diff(contract(), contract())
    assert (found.changes, found.kind, found.bump, found.required) == ((), None, Bump.NONE, Version(1, 0, 0))


def test_the_gravest_comes_first() -> None:
    found = diff(
        contract(),
        contract(
            ("purpose: Notes", "purpose: X"), ("tokens: 200", "tokens: 99"), (RESTRICTED, "classification: public")
        ),
    )
    assert [change.kind for change in found.changes] == ["REEMBED", "WIDENS", "SAFE"]
    assert found.required == Version(2, 0, 0)


def test_rules_of_standards_are_no_change_of_the_contract() -> None:
    standards = parse_standards(
        b'standards: 1\nrules:\n  - {id: a, effect: require, when: "row.body is not null"}', "s"
    )
    assert not diff(standards.govern(contract()), contract()).changes
    assert not diff(contract(), standards.govern(contract())).changes


def bumped(version: str, *changes: tuple[str, str]) -> Contract:
    return contract(("version: 1.0.0", f"version: {version}"), *changes)


WIDER = (f", when: {RULE}", "")
NARROWER = (RULE, '"row.region in user.regions and row.price > 1"')
TEXT = ("purpose: Notes", "purpose: Remarks")


@pytest.mark.parametrize(
    ("old", "new", "change", "refused"),
    [
        ("1.0.0", "1.0.0", TEXT, "stays what it is"),
        ("1.0.0", "1.0.1", TEXT, None),
        ("1.0.0", "1.0.1", NARROWER, "too small a step from 1.0.0: MINOR"),
        ("1.0.0", "1.1.0", NARROWER, None),
        ("1.0.0", "1.9.9", WIDER, "too small a step from 1.0.0: MAJOR, since allow rule readers"),
        ("1.0.0", "2.0.0", WIDER, None),
        ("1.0.0", "2.0.0-rc.1", WIDER, None),
        ("1.0.0", "1.0.1-rc.1", WIDER, "too small"),
        ("1.0.1-rc.1", "1.0.1", WIDER, "too small"),
        ("1.1.0-rc.1", "1.1.0", WIDER, "too small"),
        ("1.1.0-rc.1", "1.1.0-rc.2", NARROWER, None),
        ("2.0.0-rc.1", "2.0.0-rc.2", WIDER, None),
        ("2.0.0-rc.1", "2.0.0", WIDER, None),
        ("2.0.0", "2.0.0-rc.1", TEXT, "lower than 2.0.0"),
        ("2.0.0", "1.9.0", TEXT, "write|a version of its own: 2.0.1"),
        ("0.1.0", "0.2.0", WIDER, "too small"),
        ("1.10.0", "1.9.0", TEXT, "lower"),
    ],
)
def test_the_step_must_be_large_enough(old: str, new: str, change: tuple[str, str], refused: str | None) -> None:
    problems = check_bump(bumped(old), bumped(new, change))
    if refused is None:
        assert problems == ()
        assert required_version(bumped(old), bumped(new, change)).core <= Version.parse(new).core
    else:
        import re

        assert len(problems) == 1
        assert re.search(refused, problems[0]), problems


def test_versions_are_in_order() -> None:
    names = [
        "0.9.9",
        "1.0.0-1",
        "1.0.0-2",
        "1.0.0-10",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-rc.1",
        "1.0.0",
        "1.2.0",
        "1.10.0",
    ]
    versions = [Version.parse(name) for name in names]
    shuffled = versions[3:] + versions[:3]
    assert sorted(shuffled) == versions
    assert [str(version) for version in versions] == names
