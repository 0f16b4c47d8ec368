"""Lint: everything of all files, with its line, in each form."""

import json
from pathlib import Path

import jsonschema
import pytest
from tests.conftest import SIMPLE_CONTRACT

from tidegate.contract.lint import LintResult, lint
from tidegate.contract.lint_report import as_github, as_json, as_sarif, as_text
from tidegate.contract.standards_file import default_standards

LINES = SIMPLE_CONTRACT.splitlines()
OWNER, VERSION = LINES.index("team:") + 1, LINES.index("version: 1.0.0") + 1


@pytest.fixture
def result(tmp_path: Path) -> LintResult:
    """One file that is wrong by itself, one by the standards, one only odd, one that cannot be read."""
    write = {
        "a.odcs.yaml": SIMPLE_CONTRACT.replace("version: 1.0.0", "version: first").replace("kind: Data", "kind: Date"),
        "b.odcs.yaml": SIMPLE_CONTRACT.replace("role: owner", "role: member").replace("team.note", "team.b"),
        "c.odcs.yaml": SIMPLE_CONTRACT.replace("team.note", "team.c"),
        "d.odcs.yaml": "a: [",
    }
    for name, text in write.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return lint(tmp_path, default_standards())


def test_a_bad_file_hides_no_others_faults(result: LintResult) -> None:
    found = {
        (Path(finding.place.file).name, finding.place.line, finding.check, str(finding.severity))
        for finding in result.findings
        if finding.check != "text_classification"
    }
    assert found == {
        ("a.odcs.yaml", VERSION, "contract", "error"),
        ("a.odcs.yaml", 2, "contract", "error"),
        ("b.odcs.yaml", OWNER, "owner", "error"),
        ("d.odcs.yaml", 1, "contract", "error"),
    }
    assert len(result.files) == 4
    assert result.fails(strict=False)


def test_warnings_fail_only_when_strict(tmp_path: Path) -> None:
    (tmp_path / "c.odcs.yaml").write_text(SIMPLE_CONTRACT, encoding="utf-8")
    result = lint(tmp_path, default_standards())
    assert {str(finding.severity) for finding in result.findings} == {"warning"}
    assert not result.fails(strict=False)
    assert result.fails(strict=True)


@pytest.mark.parametrize(
    ("type_", "says"),
    [
        ("txet", 'no type "txet"; did you mean "text"?'),
        ("nummeric(10,2)", 'no type "nummeric(10,2)"'),
        ("strings[]", 'no type "strings[]"'),
        ("mood", "one of your own is written with its schema"),
        ("team.mood", None),
        ("timestamp(3) with time zone", None),
        ("bit varying(3)", None),
        ("inet", None),
        ("tstzrange", None),
        ("citext[]", None),
        ("pg_catalog.int4", None),
    ],
)
def test_a_type_that_nobody_has_is_warned_of(tmp_path: Path, type_: str, says: str | None) -> None:
    """It needs no database for that; whether a type with a schema is there, `plan` says."""
    text = SIMPLE_CONTRACT.replace(
        "      - {id: secret,",
        f"      - {{id: other, name: other, logicalType: string, physicalType: '{type_}'}}\n      - {{id: secret,",
    )
    assert text != SIMPLE_CONTRACT
    (tmp_path / "c.odcs.yaml").write_text(text, encoding="utf-8")
    told = [line for line in as_text(lint(tmp_path, default_standards())).splitlines() if "Postgres has no" in line]
    assert len(told) == (says is not None)
    assert all(str(says) in message for message in told)


READERS, MODEL = LINES.index(next(line for line in LINES if "id: readers" in line)) + 1, "local/all-minilm-l6-v2"


def findings(tmp_path: Path, before: str, after: str) -> list[str]:
    """What lint says of the contract with this change, without what it always says."""
    assert before in SIMPLE_CONTRACT
    (tmp_path / "c.odcs.yaml").write_text(SIMPLE_CONTRACT.replace(before, after), encoding="utf-8")
    said = as_text(lint(tmp_path, default_standards())).splitlines()
    return [line.removeprefix(f"{tmp_path}/") for line in said if "has no classification" not in line]


@pytest.mark.parametrize("model", [MODEL, "openai/text-embedding-3-small", "ollama/locally-grown", "azure/my-own/name"])
def test_models_of_other_providers_are_free_text(tmp_path: Path, model: str) -> None:
    assert findings(tmp_path, MODEL, model) == []


@pytest.mark.parametrize("model", ["local/all-minilm", "local/e5"])
def test_a_local_model_that_is_not_there_is_an_error(tmp_path: Path, model: str) -> None:
    (said,) = findings(tmp_path, MODEL, model)
    line = LINES.index(next(line for line in LINES if MODEL in line)) + 1
    assert said.startswith(f"c.odcs.yaml:{line}: error: ")
    assert f'no embedding model "{model}"' in said
    assert f"(allowed: {MODEL}, openai/…, ollama/…, anything litellm reaches)" in said


@pytest.mark.parametrize("tag", ["fliter", "filtre", "filters", "Filter", "filterable"])
def test_a_tag_that_is_nearly_filter_is_warned_of(tmp_path: Path, tag: str) -> None:
    (said,) = findings(
        tmp_path, "physicalType: text, required: true, tags: [filter]", f"physicalType: text, tags: [pii, {tag}]"
    )
    line = LINES.index(next(line for line in LINES if "id: region" in line)) + 1
    assert said.startswith(f"c.odcs.yaml:{line}: warning: schema[0].properties[3].tags[1]: ")
    assert f'tag "{tag}" means nothing to tidegate; did you mean "filter"?' in said


@pytest.mark.parametrize("tags", ["[pii, gdpr, finder, folder]", "[filter, filters]", "[]"])
def test_other_tags_are_the_domains_own(tmp_path: Path, tags: str) -> None:
    assert findings(tmp_path, "tags: [filter]", f"tags: {tags}") == []


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (
            "row.region in user.regions",
            "row.region == user.regions",
            "character 12: '==' has no meaning in a rule; expected \"=\"",
        ),
        ("row.region in", "row.regoin in", "there is no column regoin"),
        ("effect: allow", "effect: alow", 'did you mean "allow"?'),
        ("property: rowAccess\n        vendor: tidegate", "property: rowAccess", '"rowAccess" has no vendor'),
    ],
)
def test_a_rule_that_did_not_pass_is_not_said_to_be_missing(tmp_path: Path, before: str, after: str, says: str) -> None:
    (said,) = findings(tmp_path, before, after)
    assert says in said


def test_no_rule_that_opens_anything_is_said_to_be_missing(tmp_path: Path) -> None:
    said = findings(tmp_path, "effect: allow, to: [note_reader]", "effect: require")
    assert any("warning: " in line and "no allow rule: nobody sees a row [contract]" in line for line in said)
    # And beside another that did not pass.
    said = findings(
        tmp_path, 'effect: allow, to: [note_reader], when: "row.region in', 'effect: require, when: "row.regoin in'
    )
    assert [f"c.odcs.yaml:{READERS}: error" in line for line in said] == [False, True]
    assert "no allow rule" in said[0]


def test_an_unknown_key_is_said_once(tmp_path: Path) -> None:
    (said,) = findings(tmp_path, "domain: team\n", "domain: team\nfoo: 1\n")
    assert 'c.odcs.yaml:8: error: foo: unknown key "foo"' in said


def test_two_contracts_of_one_product_and_an_empty_folder(tmp_path: Path) -> None:
    assert "no contract in this folder" in as_text(lint(tmp_path, default_standards()))
    for name in ("a", "b"):
        (tmp_path / f"{name}.odcs.yaml").write_text(SIMPLE_CONTRACT, encoding="utf-8")
    assert "team.note already has a contract" in as_text(lint(tmp_path, default_standards()))


def test_text_and_json(result: LintResult) -> None:
    lines = as_text(result).splitlines()
    assert len(lines) == len(result.findings)
    assert any(
        line.endswith("[owner]") and f"b.odcs.yaml:{OWNER}: error: team: team.b has no owner" in line for line in lines
    )
    data = as_json(result)
    assert data["errors"] == 4
    assert data["warnings"] == len(result.findings) - 4
    assert json.loads(json.dumps(data))["findings"][0].keys() == {
        "file", "line", "path", "severity", "check", "message", "allowed",
    }  # fmt: skip


def test_github_commands_are_escaped(tmp_path: Path) -> None:
    odd = tmp_path / "a,b:c%.odcs.yaml"
    odd.write_text(SIMPLE_CONTRACT.replace("version: 1.0.0", 'version: "1\\n%2"'), encoding="utf-8")
    commands = as_github(lint(odd, default_standards())).splitlines()
    assert all(command.startswith(("::error file=", "::warning file=")) for command in commands)
    assert f"a%2Cb%3Ac%25.odcs.yaml,line={VERSION},title=tidegate contract::version: " in commands[0]
    assert "%252" in commands[0]


REQUIRED_OF_SARIF = {
    # The required parts of the OASIS schema sarif-schema-2.1.0 for what is used here.
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "$schema": {"type": "string", "format": "uri"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "properties": {
                    "tool": {
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "required": ["name"],
                                "properties": {
                                    "rules": {"uniqueItems": True, "items": {"required": ["id"], "properties": {"shortDescription": {"required": ["text"]}}}},
                                    "informationUri": {"type": "string", "pattern": "^https://"},
                                },
                            }
                        },
                    },
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "results": {
                        "items": {
                            "required": ["message"],
                            "properties": {
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "message": {"required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}},
                                "locations": {
                                    "minItems": 1,
                                    "items": {
                                        "properties": {
                                            "physicalLocation": {
                                                "required": ["artifactLocation"],
                                                "properties": {
                                                    "artifactLocation": {"properties": {"uri": {"pattern": "^[^ %]*(%[0-9A-F]{2}[^ %]*)*$"}}},
                                                    "region": {"properties": {"startLine": {"type": "integer", "minimum": 1}}},
                                                },
                                            }
                                        }
                                    },
                                },
                            },
                        }
                    },
                },
            },
        },
    },
}  # fmt: skip


def test_sarif(result: LintResult) -> None:
    document = json.loads(as_sarif(result, "0.1.0"))
    jsonschema.Draft7Validator(REQUIRED_OF_SARIF).validate(document)
    run = document["runs"][0]
    assert len(run["results"]) == len(result.findings)
    names = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert all(names[found["ruleIndex"]] == found["ruleId"] for found in run["results"])
