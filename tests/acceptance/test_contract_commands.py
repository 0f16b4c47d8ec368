"""A domain team's way: new, lint, apply, diff, history; exit codes and what goes to stdout."""

import json
from pathlib import Path

import pytest
from tests.acceptance.conftest import Command

import tidegate as package
from tidegate.contract.standards_file import default_text

DEMO = Path(package.__file__).parent / "local/demo/contracts"


@pytest.fixture
def tidegate(tmp_path: Path, bare: str) -> Command:
    """On a database with team.note."""
    return Command(tmp_path, bare)


@pytest.fixture
def offline(tmp_path: Path) -> Command:
    return Command(tmp_path)


def test_from_a_table_to_its_history(tidegate: Command) -> None:
    tidegate.ok("init")
    file = tidegate.folder / "team.note.odcs.yaml"
    assert "tidegate lint team.note.odcs.yaml" in tidegate.ok("new", "team.note").err
    assert tidegate("new", "team.note").code == 2
    text = file.read_text()
    assert tidegate.ok("new", "team.note", "--output", "-").out == text
    clean = tidegate.ok("lint", str(file), "--strict")
    assert (clean.out, clean.err) == ("", "1 file, 0 errors, 0 warnings\n")
    new = tidegate("diff", str(file), "--exit-code")
    assert (new.code, new.out) == (2, "team.note is new; any version may be its first\n")
    tidegate.ok("apply", str(file))
    same = tidegate.ok("diff", str(file), "--exit-code")
    assert same.out == "team.note: no changes\n"

    narrower = text.replace("to: [team_reader]}", 'to: [team_reader], when: "row.region = user.region"}')
    file.write_text(narrower)
    refused = tidegate("diff", str(file))
    assert refused.code == 1
    assert "NARROWS  MINOR" in refused.out
    assert "write version: 1.1.0" in refused.err
    file.write_text(narrower.replace("version: 1.0.0", "version: 1.1.0"))
    changed = tidegate("diff", str(file), "--json", "--exit-code")
    found = json.loads(changed.out)
    assert (changed.code, found["class"], found["bump"], found["required"]) == (2, "NARROWS", "MINOR", "1.1.0")
    assert (found["published"], found["version"], found["problems"]) == ("1.0.0", "1.1.0", [])
    assert found["changes"][0]["what"] == "rule readers"
    tidegate.ok("apply", str(file))

    history = json.loads(tidegate.ok("history", "team.note", "--json").out)
    assert [(version["version"], version["change_class"], version["in_force"]) for version in history] == [
        ("1.1.0", "NARROWS", True),
        ("1.0.0", None, False),
    ]
    lines = tidegate.ok("history", "team.note").out.splitlines()
    assert lines[0].startswith("1.1.0  ")
    assert lines[0].endswith("NARROWS  (in force)")
    assert "rule readers" in lines[1]
    assert lines[-1].endswith("NEW")
    assert tidegate.ok("history", "team.note", "--show", "1.0.0").out == text
    assert tidegate("history", "team.none").code == 2
    assert tidegate("standards", "show").code == 1
    assert "no standards are in force" in tidegate("lint", str(file), "--published").err


def test_two_files_and_no_database(offline: Command) -> None:
    one = DEMO / "support.ticket.odcs.yaml"
    two = offline.folder / "two.odcs.yaml"
    two.write_text(
        one.read_text()
        .replace("version: 1.0.0", "version: 1.1.0")
        .replace('effect: deny, when: "row.legal_hold"', 'effect: deny, to: [support_agent], when: "row.legal_hold"')
    )
    done = offline("diff", str(two), "--against", str(one))
    assert done.code == 1
    assert "WIDENS   MAJOR  deny rule hold is for support_agent, was for everyone: it may show more rows" in done.out
    assert offline("diff", str(two), "--against", str(DEMO / "shop.product.odcs.yaml")).code == 2


def test_lint_without_a_database(offline: Command) -> None:
    good = offline.ok("lint", str(DEMO))
    assert "3 files, 0 errors" in good.err
    assert offline("lint", str(DEMO), "--strict").code == 1
    strict = offline.folder / "standards.yaml"
    strict.write_text("standards: 1\nlint: {text_classification: error}\n")
    bad = offline("lint", str(DEMO), "--standards", str(strict), "--format", "github")
    assert bad.code == 1
    assert all(line.startswith("::error file=") for line in bad.out.splitlines())
    sarif = json.loads(offline("lint", str(DEMO), "--standards", str(strict), "--format", "sarif").out)
    assert sarif["version"] == "2.1.0"
    assert json.loads(offline.ok("lint", str(DEMO), "--format", "json").out)["errors"] == 0
    strict.write_text("standards: 1\nlint: {text_clasification: error}\n")
    wrong = offline("lint", str(DEMO), "--standards", str(strict))
    assert wrong.code == 1
    assert 'standards.yaml:2: lint.text_clasification: unknown key "text_clasification"; did you mean' in wrong.err
    assert offline("standards", "check", str(strict)).code == 1
    assert offline.ok("standards", "show-default").out == default_text()


def test_what_is_not_there_is_said_with_what_is_near(tidegate: Command) -> None:
    """Of a plan: its files, table, column types, model, place for the plan; of others, the product."""
    tidegate.ok("init")
    file = tidegate.folder / "note.odcs.yaml"
    tidegate.ok("new", "team.note", "-o", str(file))
    text = file.read_text()
    (tidegate.folder / "empty").mkdir()
    for arguments, contract, said in (
        (["nosuch.yaml"], text, "nosuch.yaml: there is no such file"),
        (["empty"], text, "no contract in this folder"),
        (
            [],
            text.replace("physicalName: note\n", "physicalName: noet\n"),
            'team.noet does not exist; did you mean "team.note"?',
        ),
        ([], text.replace('physicalType: "text"', 'physicalType: "txet"'), "type txet does not exist in this database"),
        ([], text.replace("local/all-minilm-l6-v2", "local/all-minilm"), 'no embedding model "local/all-minilm"'),
        (["note.odcs.yaml", "-o", "no/such/plan.json"], text, "no/such/plan.json cannot be written: No such file"),
    ):
        file.write_text(contract)
        refused = tidegate("plan", *(arguments or ["note.odcs.yaml"]))
        assert refused.code == 1, (arguments, refused)
        assert said in refused.err
    file.write_text(text)
    assert "cannot be written" in tidegate("new", "team.note", "-o", "no/such.yaml").err
    tidegate.ok("apply", str(file))
    for arguments in (["dead-letters", "list"], ["dead-letters", "retry"], ["dead-letters", "drop"], ["cost"]):
        unknown = tidegate(*arguments, "--product", "team.noet")
        assert unknown.code == 2
        assert 'product "team.noet" is not published; did you mean "team.note"?' in unknown.err
        tidegate.ok(*arguments, "--product", "team.note")
