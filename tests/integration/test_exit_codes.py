"""Exit codes of all commands: a name that does not exist is 2, what exists and is wrong inside is 1."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.test_cli import COMMANDS
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide, fresh_database

from tidegate import cli
from tidegate.database import connect
from tidegate.index.embedding.registry import Embedders
from tidegate.settings import Settings

FILE, PRODUCT, ROLE = "nosuch.odcs.yaml", "team.noet", "nobody_at_all"

# (command, parameter) → arguments that name something that does not exist, and the name.
UNKNOWN: dict[tuple[str, str], list[str]] = {
    ("apply", "contracts"): ["apply", FILE],
    ("apply", "standards"): ["apply", "note.odcs.yaml", "--standards", FILE],
    ("apply", "submitted"): ["apply", "--submitted", "4711"],
    ("ask", "role"): ["ask", "x", "--as", ROLE],
    ("ask", "product"): ["ask", "x", "--product", PRODUCT],
    ("audit", "kind"): ["audit", "--kind", "princpal"],
    ("audit", "product"): ["audit", "--product", PRODUCT],
    ("break-glass", "principal"): ["break-glass", "--as", ROLE, "--reason", "r"],
    ("break-glass", "product"): ["break-glass", "--as", "note_reader", "--reason", "r", "--product", PRODUCT],
    ("break-glass", "end_"): ["break-glass", "--as", ROLE, "--end"],
    ("cost", "product"): ["cost", "--product", PRODUCT],
    ("dead-letters drop", "ids"): ["dead-letters", "drop", "4711"],
    ("dead-letters drop", "product"): ["dead-letters", "drop", "--product", PRODUCT],
    ("dead-letters list", "product"): ["dead-letters", "list", "--product", PRODUCT],
    ("dead-letters retry", "ids"): ["dead-letters", "retry", "4711"],
    ("dead-letters retry", "product"): ["dead-letters", "retry", "--product", PRODUCT],
    ("diff", "against"): ["diff", "note.odcs.yaml", "--against", FILE],
    ("diff", "contract"): ["diff", FILE],
    ("domain add", "role"): ["domain", "add", "team", "--role", ROLE],
    ("domain remove", "domain"): ["domain", "remove", "nosuch"],
    ("explain-access", "product"): ["explain-access", PRODUCT, "--as", "note_reader"],
    ("explain-access", "role"): ["explain-access", "team.note", "--as", ROLE],
    ("explain-access", "roles"): ["explain-access", "team.note", "--roles", f"note_reader,{ROLE}"],
    ("explain-access", "token_claims"): ["explain-access", "team.note", "--token-claims", FILE],
    ("history", "product"): ["history", PRODUCT],
    ("history", "show"): ["history", "team.note", "--show", "9.9.9"],
    ("init", "source"): ["init", "--source", "nosuch"],
    ("lint", "contracts"): ["lint", "note.odcs.yaml", FILE],
    ("lint", "standards"): ["lint", "note.odcs.yaml", "--standards", FILE],
    ("model drop", "product"): ["model", "drop", PRODUCT, "--yes"],
    ("model rollback", "product"): ["model", "rollback", PRODUCT],
    ("model status", "product"): ["model", "status", PRODUCT],
    ("model switch", "product"): ["model", "switch", PRODUCT],
    ("new", "product"): ["new", "team.noet"],
    ("new", "table"): ["new", "team.draft", "--table", "team.noet"],
    ("plan", "contracts"): ["plan", FILE],
    ("plan", "standards"): ["plan", "note.odcs.yaml", "--standards", FILE],
    ("principal set", "principal"): ["principal", "set", ROLE, "regions=EU"],
    ("principal show", "principal"): ["principal", "show", ROLE],
    ("principal unset", "attributes"): ["principal", "unset", "note_reader", "regoins"],
    ("principal unset", "principal"): ["principal", "unset", ROLE],
    ("recover-slot", "source"): ["recover-slot", "--source", "nosuch"],
    ("search", "product"): ["search", "x", "--product", PRODUCT],
    ("search", "role"): ["search", "x", "--as", ROLE],
    ("similar", "among"): ["similar", "team.note", "1", "--product", PRODUCT],
    ("similar", "product"): ["similar", PRODUCT, "1"],
    ("similar", "role"): ["similar", "team.note", "1", "--as", ROLE],
    ("standards check", "file"): ["standards", "check", FILE],
    ("submissions refuse", "number"): ["submissions", "refuse", "4711", "--reason", "r"],
    ("token issuer remove", "issuer"): ["token", "issuer", "remove", "https://nosuch/"],
    ("token issuer set", "role"): [
        "token", "issuer", "set", "https://app/", "--audience", "a", "--roles-claim", "r", "--role", f"v={ROLE}",
    ],
    ("token key add", "gateway"): ["token", "key", "add", "https://known/", "--gateway", ROLE],
    ("token key add", "issuer"): ["token", "key", "add", "https://nosuch/"],
    ("token key revoke", "kid"): ["token", "key", "revoke", "nosuch"],
    ("token mint", "kid"): ["token", "mint", "--kid", "nosuch"],
    ("verify", "product"): ["verify", PRODUCT],
    ("who-can-see", "product"): ["who-can-see", PRODUCT, "--key", "1"],
}  # fmt: skip

NAMES = {parameter for _, parameter in UNKNOWN}
NEW = {("domain add", "domain"), ("token issuer set", "issuer"), ("token key add", "kid")}
"""Names that the command gives."""
NO_NAMES = {("explain-access", "attributes"), ("bench govern", "contracts")}

# Two says of these that there are changes.
ONE = [UNKNOWN["plan", "contracts"], UNKNOWN["plan", "standards"], ["diff", FILE, "--exit-code"]]

WRONG_INSIDE = [
    ["apply", "broken.odcs.yaml"],
    ["apply", "note.odcs.yaml", "--standards", "broken.odcs.yaml"],
    ["apply", "empty"],
    ["apply", "noplan.json"],
    ["diff", "broken.odcs.yaml"],
    ["diff", "note.odcs.yaml", "--against", "broken.odcs.yaml"],
    ["explain-access", "team.note", "--token-claims", "broken.odcs.yaml"],
    ["explain-access", "team.note", "--token-claims", "noplan.json"],
    ["lint", "broken.odcs.yaml"],
    ["lint", "empty"],
    ["lint", "note.odcs.yaml", "--standards", "broken.odcs.yaml"],
    ["lint", "note.odcs.yaml", "--published"],
    ["model", "drop", "team.note", "--yes"],
    ["model", "switch", "team.note"],
    ["new", "team.keyless"],
    ["plan", "broken.odcs.yaml"],
    ["standards", "check", "broken.odcs.yaml"],
    ["standards", "show"],
    ["token", "key", "revoke", "gone"],
]

Run = Callable[[list[str]], int]


@pytest.fixture(scope="module")
def published(server_dsn: str, template: str, embedders: Embedders) -> Iterator[str]:
    """A database with the product team.note, the issuer https://known/ and its revoked key."""
    with fresh_database(server_dsn, template) as dsn, connect(dsn) as admin:
        admin.execute(SIMPLE_TABLE)
        admin.execute("CREATE TABLE team.keyless (body text)")
        Tide(dsn, admin, embedders, Settings(_env_file=None)).apply(SIMPLE_CONTRACT)
        admin.execute("INSERT INTO tidegate.token_issuer (issuer, audience) VALUES ('https://known/', 'a')")
        admin.execute(
            "INSERT INTO tidegate.token_key (kid, issuer, inner_pad, outer_pad, revoked_at) "
            "VALUES ('gone', 'https://known/', repeat('i', 64)::bytea, repeat('o', 64)::bytea, now())"
        )
        yield dsn


@pytest.fixture
def run(published: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command in this process, as its entry point runs it; gives the exit code."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "note.odcs.yaml").write_text(SIMPLE_CONTRACT)
    (tmp_path / "broken.odcs.yaml").write_text("name: [unclosed")
    (tmp_path / "noplan.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    for name in ("TIDEGATE_SOURCES", "TIDEGATE_LLM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TIDEGATE_DSN", published)
    monkeypatch.setenv("TIDEGATE_TOKEN_KEY", "a secret of at least thirty-two bytes")

    def run(arguments: list[str]) -> int:
        monkeypatch.setattr(sys, "argv", ["tidegate", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert isinstance(left.value.code, int)
        return left.value.code

    return run


@pytest.fixture
def facts(published: str) -> Iterator[Callable[[], Any]]:
    """What the database has recorded of changes."""
    with connect(published) as admin:
        yield lambda: admin.execute("SELECT count(*) FROM tidegate.audit").fetchone()


def test_every_command_that_takes_a_name_is_asked_here() -> None:
    taken = {(" ".join(path), parameter.name) for path, command in COMMANDS for parameter in command.params}
    named = {(path, name) for path, name in taken if name in NAMES} - NEW - NO_NAMES
    assert named == UNKNOWN.keys()


@pytest.mark.parametrize("arguments", UNKNOWN.values(), ids=" ".join)
def test_a_name_that_does_not_exist_is_usage_and_nothing_is_done(
    run: Run, facts: Callable[[], Any], capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    before = facts()
    code = run(arguments)
    said = capsys.readouterr()
    assert (code, said.out) == (1 if arguments in ONE else 2, ""), said.err
    wrong = {FILE, PRODUCT, ROLE, "4711", "princpal", "nosuch", "9.9.9", "regoins", "https://nosuch/"}
    assert any(name in said.err for name in wrong), said.err
    assert facts() == before


def test_where_two_means_changes_it_is_one(run: Run) -> None:
    for arguments in ONE:
        assert run(arguments) == 1, arguments


@pytest.mark.parametrize("arguments", WRONG_INSIDE, ids=" ".join)
def test_what_exists_and_is_wrong_inside_has_failed(
    run: Run, facts: Callable[[], Any], capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    before = facts()
    code = run(arguments)
    assert code == 1, capsys.readouterr()
    assert facts() == before


def test_from_python_the_same_mistakes_are_usage(published: str) -> None:
    import tidegate

    with pytest.raises(tidegate.UnknownName, match=ROLE):
        tidegate.connect(published, role=ROLE)
    with tidegate.connect(published) as tg:
        with pytest.raises(tidegate.UnknownName, match=PRODUCT):
            tg.search("x", products=[PRODUCT])
        with pytest.raises(tidegate.UnknownName, match=ROLE), tg.as_role(ROLE) as nobody:
            nobody.search("x")
    assert issubclass(tidegate.UnknownName, tidegate.UsageError)
