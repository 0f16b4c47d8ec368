"""Published versions: what may follow, and what is kept of each."""

import pytest
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide

from tidegate.contract.standards_file import parse_standards
from tidegate.errors import UsageError
from tidegate.govern.history import product_history, version_text
from tidegate.govern.standards import publish_statement, published_standards
from tidegate.govern.version_gate import published_diff, version_problems

WIDER = SIMPLE_CONTRACT.replace(', when: "row.region in user.regions"', "")


def versioned(text: str, version: str) -> str:
    return text.replace("version: 1.0.0", f"version: {version}")


@pytest.fixture
def note(tide: Tide) -> Tide:
    tide.admin.execute(SIMPLE_TABLE)
    tide.apply(SIMPLE_CONTRACT)
    return tide


def test_a_new_product_may_have_any_version(tide: Tide) -> None:
    contract = tide.contract(versioned(SIMPLE_CONTRACT, "7.1.3"))
    assert version_problems(tide.admin, contract) == []
    assert published_diff(tide.admin, contract) is None


def test_a_published_version_stays_what_it_is(note: Tide) -> None:
    assert version_problems(note.admin, note.contract(SIMPLE_CONTRACT)) == []
    assert "stays what it is" in version_problems(note.admin, note.contract(WIDER))[0]
    assert "MAJOR" in version_problems(note.admin, note.contract(versioned(WIDER, "1.1.0")))[0]
    assert version_problems(note.admin, note.contract(versioned(WIDER, "2.0.0"))) == []


def test_also_one_that_is_no_longer_in_force(note: Tide) -> None:
    note.admin.execute(
        "INSERT INTO tidegate.contract_version (product, version, contract_sha256, contract, contract_text, statements, applied_by) VALUES ('team.note', '3.0.0', '', '{}', 'another', '', 'ann')"
    )
    problems = version_problems(note.admin, note.contract(versioned(WIDER, "3.0.0")))
    assert "version 3.0.0 was published on" in problems[0]
    assert "by ann" in problems[0]


def test_history_says_who_when_and_what(note: Tide) -> None:
    note.apply(versioned(WIDER, "2.0.0"))
    last, first = product_history(note.admin, "team.note")
    assert (first.version, first.change_class, first.changes, first.in_force) == ("1.0.0", None, [], False)
    assert (last.version, last.change_class, last.in_force) == ("2.0.0", "WIDENS", True)
    assert last.applied_by == note.one("SELECT session_user")
    assert [(change["what"], change["bump"]) for change in last.changes] == [("rule readers", "MAJOR")]
    assert version_text(note.admin, "team.note", "1.0.0") == SIMPLE_CONTRACT
    with pytest.raises(UsageError, match=r"no version 9.0.0; there are: 2.0.0, 1.0.0"):
        version_text(note.admin, "team.note", "9.0.0")
    with pytest.raises(UsageError, match="team.nothing was never published here; there are: team.note"):
        product_history(note.admin, "team.nothing")


def test_readers_do_not_see_the_history_and_administrators_do(note: Tide) -> None:
    assert note.one("SELECT has_table_privilege('tidegate_admin', 'tidegate.contract_history', 'SELECT')")
    assert not note.one("SELECT has_table_privilege('tidegate_reader', 'tidegate.contract_history', 'SELECT')")


def test_the_last_published_standards_are_in_force(tide: Tide) -> None:
    assert published_standards(tide.admin) is None
    rule = "rules:\n  - {id: a, effect: require, when: \"row.region != 'it''s 100%'\"}\n"
    for text in ("standards: 1\n", f"standards: 1\nlint: {{owner: error}}\n{rule}"):
        tide.admin.execute(publish_statement(parse_standards(text.encode(), "standards.yaml")))
    found = published_standards(tide.admin)
    assert found is not None
    assert found.standards.text == text
    assert found.standards.rules[0].when == "row.region != 'it''s 100%'"
    assert tide.one("SELECT count(*) FROM tidegate.standards") == 2


def test_global_rules_are_enforced_by_the_table(note: Tide) -> None:
    standards = parse_standards(
        b'standards: 1\nrules:\n  - {id: here, effect: require, when: "row.price is not null"}', "s"
    )
    note.admin.execute(publish_statement(standards))
    note.apply(SIMPLE_CONTRACT)
    assert note.rows("SELECT rule_id, origin FROM tidegate.rule ORDER BY place") == [
        ("standards_here", "standards"),
        ("readers", "contract"),
    ]
    policies = {
        row[0]: row[1]
        for row in note.rows("SELECT polname, polpermissive FROM pg_policy WHERE polrelid = 'rag_team.note'::regclass")
    }
    assert policies["tidegate_require_standards_here"] is False
    # It is no change of the contract's, so its version stands.
    assert version_problems(note.admin, note.contract(SIMPLE_CONTRACT)) == []
