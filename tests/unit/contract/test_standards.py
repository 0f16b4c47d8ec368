"""Standards: read strictly, found in contracts with their lines, compiled into every table they are for."""

from pathlib import Path

import pytest
from tests.conftest import SIMPLE_CONTRACT

import tidegate
from tidegate.contract.contract import Contract
from tidegate.contract.finding import ContractErrors
from tidegate.contract.odcs import load_contracts, parse_contract
from tidegate.contract.severity import Severity
from tidegate.contract.standards import Standards
from tidegate.contract.standards_file import default_standards, default_text, parse_standards

DATA = Path(__file__).parent / "data"
DEMO = Path(tidegate.__file__).parent / "local/demo/contracts"


def contract(*changes: tuple[str, str]) -> Contract:
    text = SIMPLE_CONTRACT
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return parse_contract(text.encode(), "note.odcs.yaml")


def standards(text: str) -> Standards:
    return parse_standards(f"standards: 1\n{text}".encode(), "standards.yaml")


def errors(text: str) -> list[str]:
    with pytest.raises(ContractErrors) as raised:
        standards(text)
    return [str(error) for error in raised.value.errors]


REGION = 'rules:\n  - {id: here, effect: require, when: "row.region = user.region"}\n'


class TestReading:
    def test_the_default_set_is_valid_and_is_what_is_shown(self) -> None:
        assert default_standards().text == default_text()
        assert {check.name for check in default_standards().checks} >= {"owner", "latency", "tenant_guard"}

    @pytest.mark.parametrize(
        ("text", "line", "message"),
        [
            ("lint: {owner: fatal}", 2, "'fatal' is not a severity"),
            ("lint:\n  owner: error\n  ownr: error", 4, 'unknown key "ownr"; did you mean "owner"?'),
            ("lint: {names: error}", 2, 'check "names" needs `pattern`'),
            ("lint: {names: {severity: error, pattern: '('}}", 2, "not a regular expression"),
            ("lint:\n  chunk_tokens:\n    severity: error\n    maximum: many", 5, "'many' is not a whole number"),
            ("rules:\n  - {id: a, effect: allow, when: row.x}", 3, "cannot open rows"),
            ("rules:\n  - {id: a, effect: require}", 3, "missing"),
            ('rules:\n  - {id: a, effect: deny, when: "member(x)"}', 3, "cannot use it"),
            ('rules:\n  - {id: a, effect: deny, when: "row.x ="}', 3, "the rule ends too early"),
            ("rules:\n  - {id: a, effect: deny, when: row.x}\n  - {id: a, effect: deny, when: row.x}", 4, "twice"),
            ("rules:\n  - {id: a, effect: deny, when: row.x, where: {tables: [x]}}", 3, 'unknown key "tables"'),
            ("rules:\n  - {id: a, effect: deny, when: row.x, where: {domains: []}}", 3, "names nothing"),
            ("rules:\n  - {id: a, effect: deny, to: [tidegate_admin], when: row.x}", 3, "cannot be used as a role"),
            ("standard: 2", 2, 'unknown key "standard"'),
        ],
    )
    def test_faults_have_their_line(self, text: str, line: int, message: str) -> None:
        found = errors(text)
        assert any(fault.startswith(f"standards.yaml:{line}: ") and message in fault for fault in found), found

    def test_an_unknown_format(self) -> None:
        with pytest.raises(ContractErrors, match="format 2 is unknown"):
            parse_standards(b"standards: 2", "standards.yaml")


class TestGovern:
    def test_global_rules_come_first_under_ids_of_their_own(self) -> None:
        governed = standards(REGION).govern(contract())
        assert [(rule.id, rule.origin, rule.effect) for rule in governed.rules] == [
            ("standards_here", "standards", "require"),
            ("readers", "contract", "allow"),
        ]
        assert Contract.from_spec(governed.to_spec()) == governed

    def test_again_with_other_standards_leaves_only_those(self) -> None:
        governed = standards(REGION).govern(contract())
        assert standards(REGION).govern(governed) == governed
        assert standards("rules: []").govern(governed) == contract()

    def test_a_contract_cannot_take_the_name_of_a_global_rule(self) -> None:
        with pytest.raises(ContractErrors, match='"standards_" are kept'):
            contract(("id: readers", "id: standards_here"))

    @pytest.mark.parametrize(
        ("where", "governed"),
        [
            ("{domains: [team]}", True),
            ("{domains: [other]}", False),
            ("{columns: [region]}", True),
            ("{columns: [region, tenant_id]}", False),
            ("{columns: [region], domains: [team, other]}", True),
        ],
    )
    def test_where(self, where: str, governed: bool) -> None:
        ruled = standards(REGION.replace("}", f", where: {where}}}")).govern(contract())
        assert (len(ruled.rules) == 2) is governed

    def test_a_missing_column_refuses_the_contract_unless_it_is_skipped(self) -> None:
        missing = 'rules:\n  - {id: tenant, effect: require, when: "row.tenant_id = user.tenant"}'
        with pytest.raises(ContractErrors, match=r"note.odcs.yaml:\d+: .*needs column tenant_id, which team.note"):
            standards(missing).govern(contract())
        assert standards(missing.replace("}", ", missing: skip}")).govern(contract()) == contract()

    def test_a_rule_about_a_restricted_column_is_refused(self) -> None:
        with pytest.raises(ContractErrors, match="reads column secret, which is restricted"):
            standards('rules:\n  - {id: a, effect: require, when: "row.secret = user.secret"}').govern(contract())

    def test_a_rule_of_another_type_is_refused(self) -> None:
        with pytest.raises(ContractErrors, match="cannot be compared"):
            standards("rules:\n  - {id: a, effect: require, when: \"row.price = 'x'\"}").govern(contract())


def found(text: str, *changes: tuple[str, str]) -> list[tuple[str, str, str]]:
    return [
        (finding.check, str(finding.severity), str(finding.place))
        for finding in standards(text).lint(contract(*changes))
    ]


OWNER = ("username: owner@example.com, role: owner", "username: owner@example.com, role: member")
BROKEN = [
    ("owner: error", [OWNER], "team.note has no owner"),
    ("latency: error", [("property: latency", "property: frequency"), ("customProperties: [{property: percentile, vendor: tidegate, value: 99}]", "customProperties: []")], "promises no latency"),
    ("latency: {severity: error, maximum_ms: 100}", [], "at most 100 ms"),
    ("description: error", [("description: {purpose: Notes of a team, for tests.}", "description: {usage: x}")], "what it is for"),
    ("column_descriptions: warning", [], "column id has no description"),
    ("text_classification: error", [], "text column title has no classification"),
    ("text_classification: {severity: error, allowed: [public]}", [("classification: restricted", "classification: secret")], "'secret' is not a classification"),
    ("allow_rule: error", [("effect: allow, to: [note_reader]", "effect: require")], "no allow rule"),
    ("active_version: error", [("version: 1.0.0", "version: 0.9.0")], "0.9.0 is active"),
    ("active_version: error", [("version: 1.0.0", "version: 1.0.0-rc.1")], "1.0.0-rc.1 is active"),
    ("names: {severity: error, pattern: 'x.*'}", [], "not named as the standards say"),
    ("models: {severity: error, allowed: [openai/x]}", [], "local/all-minilm-l6-v2 is not allowed"),
    ("chunk_tokens: {severity: error, maximum: 100}", [], "chunks of 200 tokens"),
    ("tenant_guard: {severity: error, column: tenant_id, domains: [team]}", [], "must have column tenant_id"),
    ("tenant_guard: {severity: error, column: region}", [], "no require rule compares region"),
]  # fmt: skip


class TestChecks:
    @pytest.mark.parametrize(("check", "changes", "message"), BROKEN, ids=[each[0] for each in BROKEN])
    def test_each_finds_what_it_is_for(self, check: str, changes: list[tuple[str, str]], message: str) -> None:
        results = found(f"lint: {{{check}}}", *changes)
        assert any(message in text and text.startswith("note.odcs.yaml:") for _, _, text in results), results

    def test_and_nothing_else(self) -> None:
        quiet = "{owner: error, latency: error, description: error, allow_rule: error, active_version: error}"
        assert found(f"lint: {quiet}") == []

    def test_off_is_off(self) -> None:
        assert found("lint: {owner: off, names: {severity: off, pattern: x}}", OWNER) == []

    def test_the_tenant_guard_wants_the_callers_own(self) -> None:
        guard = "lint: {tenant_guard: {severity: error, column: region}}"
        rules = "rules:\n            - {id: readers"
        for when, ok in (
            ("row.region is not null", False),
            ("row.region = user.region or row.price > 1", False),
            ("row.region = user.region and row.price > 1", True),
            ("user.region = row.region", True),
            ("row.region in user.regions", True),
        ):
            rule = f'rules:\n            - {{id: own, effect: require, when: "{when}"}}\n            - {{id: readers'
            assert (found(guard, (rules, rule)) == []) is ok, when

    def test_a_global_rule_is_a_guard_too(self) -> None:
        assert found("lint: {tenant_guard: {severity: error, column: region}}\n" + REGION) == []

    def test_shipped_contracts_pass_the_default_set(self) -> None:
        for each in load_contracts([DATA, DEMO / "shop.product.odcs.yaml", DEMO / "policy.rule.odcs.yaml"]):
            assert default_standards().errors(each) == ()
        for each in load_contracts(DEMO):
            assert {finding.severity for finding in default_standards().lint(each)} <= {Severity.WARNING}
