"""A domain's team publishes with nothing but membership in its role, and only what is its own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql
from tests.conftest import wait_until
from tests.security.conftest import ALLOW, World, contract, ids

from tidegate.contract.odcs import parse_contract
from tidegate.database import Connection
from tidegate.errors import UsageError
from tidegate.govern.controller import Controller
from tidegate.govern.submission import (
    Decided,
    NotHandedIn,
    Outcome,
    hand_in,
    list_submissions,
    may_publish,
    outcome,
    refuse,
    wait_for_outcome,
)
from tidegate.govern.team import add_domain, list_domains, remove_domain
from tidegate.observe.lineage import Lineage

ROLES = ("note_team", "other_team")


class Teams:
    """Domain `team` with its role note_team and one member; domain `other` with its own."""

    def __init__(self, world: World):
        self.world = world
        self.admin = world.admin
        for role in ROLES:
            self.admin.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
        self.admin.execute("ALTER TABLE team.note OWNER TO note_team; GRANT USAGE ON SCHEMA team TO note_team")
        self.admin.execute("CREATE SCHEMA other; GRANT USAGE ON SCHEMA other TO other_team")
        self.admin.execute(
            "CREATE TABLE other.thing (LIKE team.note INCLUDING ALL); ALTER TABLE other.thing OWNER TO other_team"
        )
        add_domain(self.admin, "team", "note_team", "never")
        add_domain(self.admin, "other", "other_team", "never")
        self.controller = Controller(world.tide.dsn, world.tide.embedders, Lineage(None))
        self.member = world.role("member", "note_team")
        self.session = world.login(self.member)

    def submit(self, text: str, kind: Any = "apply", session: Connection | None = None) -> int:
        return hand_in(session or self.session, parse_contract(text.encode(), "note.odcs.yaml"), kind)

    def publish(self, text: str, **options: Any) -> Outcome:
        """Hands in, lets the controller decide, and returns what the team reads."""
        number = self.submit(text, **options)
        self.controller.decide_waiting(self.admin)
        return outcome(self.session, number)

    def close(self) -> None:
        self.world.close()
        for role in ROLES:
            self.admin.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
            self.admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
        self.world._roles.clear()


@pytest.fixture
def teams(world: World) -> Iterator[Teams]:
    made = Teams(world)
    yield made
    made.close()


def changed(**parts: Any) -> str:
    """The contract, with parts replaced at its top; `source` at its server."""
    document = yaml.safe_load(contract(ALLOW))
    source = parts.pop("source", None)
    document |= parts
    if source is not None:
        document["servers"][0]["schema"] = source
    return yaml.safe_dump(document, sort_keys=False)


class TestItsOwn:
    def test_the_team_publishes_and_changes_its_product(self, teams: Teams) -> None:
        assert not may_publish(teams.session)
        found = teams.publish(contract(ALLOW))
        assert found.state == "applied", found.text
        assert "publishes team.note 1.0.0" in (found.text or "")
        teams.world.note(1, region="EU")
        reader = teams.world.login(teams.world.role("reader", "note_reader", regions=["EU"]))
        assert ids(reader) == {1}
        narrower = {**ALLOW, "when": "row.region in user.regions and row.price > 1"}
        found = teams.publish(contract(narrower, version="2.0.0"))
        assert found.state == "applied", found.text
        assert ids(reader) == set()

    def test_the_submitter_is_who_published(self, teams: Teams) -> None:
        teams.publish(contract(ALLOW))
        assert teams.world.tide.one("SELECT applied_by FROM tidegate.product") == teams.member
        assert teams.world.tide.one("SELECT applied_by FROM tidegate.contract_version") == teams.member

    def test_a_plan_changes_nothing(self, teams: Teams) -> None:
        found = teams.publish(contract(ALLOW), kind="plan")
        assert found.state == "planned"
        assert "CREATE TABLE" in (found.plan or {})["sql"]
        assert teams.world.tide.one("SELECT count(*) FROM tidegate.product") == 0

    def test_errors_come_word_for_word(self, teams: Teams) -> None:
        teams.admin.execute("ALTER TABLE team.note DROP COLUMN price")
        found = teams.publish(contract(ALLOW))
        assert found.state == "refused"
        assert "note.odcs.yaml: team.note: column price is not in team.note; there are: id, title" in (found.text or "")

    def test_a_contract_that_is_none(self, teams: Teams) -> None:
        teams.session.execute("SELECT tidegate.submit('apply', 'team', 'team.note', 'x.yaml', '{kind: }')")
        ((_, found),) = teams.controller.decide_waiting(teams.admin)
        assert found.state == "refused"
        assert (found.text or "").startswith("x.yaml:1:")

    def test_tidegate_run_takes_them_as_they_come(self, teams: Teams) -> None:
        teams.controller.start()
        try:
            for kind, state in (("plan", "planned"), ("apply", "applied"), ("apply", "applied")):
                number = teams.submit(contract(ALLOW), kind)
                assert wait_for_outcome(teams.session, number, 20).state == state
        finally:
            teams.controller.stop()

    def test_on_the_command_line(self, teams: Teams, tmp_path: Path) -> None:
        file = tmp_path / "note.odcs.yaml"
        file.write_text(contract(ALLOW))

        def tidegate(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "tidegate.cli", *arguments, "--dsn", teams.world.dsn(teams.member)]
            return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

        teams.controller.start()
        try:
            done = tidegate("apply", str(file))
            assert (done.returncode, "team.note: publishes team.note 1.0.0" in done.stdout) == (0, True), done.stderr
            teams.admin.execute("ALTER TABLE team.note DROP COLUMN price")
            done = tidegate("apply", str(file))
            assert done.returncode == 1
            assert f"error: {file}: team.note: column price is not in team.note" in done.stderr
        finally:
            teams.controller.stop()
        done = tidegate("apply", "--no-wait", str(file))
        assert (done.returncode, done.stdout) == (0, "")
        done = tidegate("submissions")
        assert "1  apply team.note  applied" in done.stdout
        assert "3  apply team.note  submitted" in done.stdout


class TestOthers:
    def test_not_for_a_foreign_domain(self, teams: Teams) -> None:
        document = yaml.safe_load(contract(ALLOW)) | {"name": "other.note", "domain": "other"}
        with pytest.raises(NotHandedIn, match='is not of the team of domain "other"'):
            teams.submit(yaml.safe_dump(document))
        for domain in ("other", "nobodys", None):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                teams.session.execute("SELECT tidegate.submit('apply', %s, 'team.note', 'f', 't')", [domain])

    def test_a_stranger_hands_nothing_in(self, teams: Teams) -> None:
        stranger = teams.world.login(teams.world.role("stranger"))
        with pytest.raises(NotHandedIn, match="is of no domain's team"):
            teams.submit(contract(ALLOW), session=stranger)
        reader = teams.world.login(teams.world.role("reader", "tidegate_reader"))
        with pytest.raises(NotHandedIn, match="is not of the team"):
            teams.submit(contract(ALLOW), session=reader)
        assert list_submissions(reader) == []

    def test_a_member_who_gave_up_the_role_for_now(self, teams: Teams) -> None:
        narrow = teams.world.role("narrow", "tidegate_reader")
        teams.admin.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(narrow), sql.Identifier(teams.member)))
        teams.session.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(narrow)))
        with pytest.raises(NotHandedIn, match="is not of the team"):
            teams.submit(contract(ALLOW))

    def test_the_text_is_of_another_product_than_it_says(self, teams: Teams) -> None:
        """The text decides, not what it was handed in as."""
        teams.admin.execute("ALTER TABLE other.thing OWNER TO note_team; ALTER TABLE other.thing RENAME TO note")
        text = yaml.safe_dump(yaml.safe_load(contract(ALLOW)) | {"name": "other.note", "domain": "other"})
        teams.session.execute("SELECT tidegate.submit('apply', 'team', 'team.note', 'f.yaml', %s)", [text])
        ((_, found),) = teams.controller.decide_waiting(teams.admin)
        assert found.state == "refused"
        assert "the contract is of other.note, handed in for team.note of domain team" in (found.text or "")

    def test_a_foreign_table(self, teams: Teams) -> None:
        teams.admin.execute("ALTER TABLE other.thing RENAME TO note")
        found = teams.publish(changed(source="other"))
        assert found.state == "refused"
        assert "table other.note belongs to other_team, not to the team" in (found.text or "")
        assert "in a schema that is neither team nor the team's" in (found.text or "")
        assert teams.world.tide.one("SELECT count(*) FROM tidegate.product") == 0

    def test_a_table_of_the_team_in_a_foreign_schema(self, teams: Teams) -> None:
        teams.admin.execute("ALTER TABLE other.thing OWNER TO note_team; ALTER TABLE other.thing RENAME TO note")
        found = teams.publish(changed(source="other"))
        assert found.state == "refused"
        assert "belongs to" not in (found.text or "")

    def test_a_foreign_membership(self, teams: Teams) -> None:
        teams.admin.execute(
            "CREATE TABLE other.assignment (note_id bigint, who text); ALTER TABLE other.assignment OWNER TO other_team"
        )
        document = yaml.safe_load(contract({**ALLOW, "when": "member(assigned)"}))
        access = document["schema"][0]["customProperties"][1]["value"]
        access["memberships"] = [
            {"name": "assigned", "table": "other.assignment", "column": "note_id", "row": "id", "principal": "who"}
        ]
        found = teams.publish(yaml.safe_dump(document))
        assert found.state == "refused"
        assert "table other.assignment belongs to other_team" in (found.text or "")

    def test_roles_that_are_more_than_readers(self, teams: Teams) -> None:
        dba = teams.world.role("dba")
        teams.admin.execute(sql.SQL("ALTER ROLE {} BYPASSRLS").format(sql.Identifier(dba)))
        for role in (dba, "postgres"):
            found = teams.publish(contract({**ALLOW, "to": [role]}))
            assert found.state == "refused"
            assert f"role {role} has rights beyond reading" in (found.text or "")

    def test_what_would_run_the_teams_code_with_more_rights(self, teams: Teams) -> None:
        teams.admin.execute(
            "CREATE DOMAIN team.checked AS text CHECK (true); ALTER TABLE team.note ALTER region TYPE team.checked"
        )
        found = teams.publish(contract(ALLOW))
        assert "column region of team.note is team.checked" in (found.text or "")
        teams.admin.execute("ALTER TABLE team.note ALTER region TYPE text, ENABLE ROW LEVEL SECURITY")
        found = teams.publish(contract(ALLOW))
        assert "table team.note has row-level security of its own" in (found.text or "")

    def test_nothing_but_its_own_is_touched_directly(self, teams: Teams) -> None:
        teams.publish(contract(ALLOW))
        teams.world.note(1)
        for statement in (
            "SELECT * FROM rag_team.note",
            "UPDATE rag_team.note SET content = 'x'",
            "DROP TABLE rag_team.note",
            "DROP POLICY tidegate_allow_readers ON rag_team.note",
            "CREATE POLICY mine ON rag_team.note FOR SELECT USING (true)",
            "ALTER TABLE rag_team.note DISABLE ROW LEVEL SECURITY",
            "CREATE TABLE rag_team.mine ()",
            "CREATE TABLE tidegate.mine ()",
            "SELECT * FROM tidegate.product",
            "SELECT * FROM tidegate.submission",
            "INSERT INTO tidegate.submission (kind, domain, product, file_name, contract_text) VALUES ('apply', 'other', 'other.x', '', '')",
            "UPDATE tidegate.submissions SET state = 'applied'",
            "DELETE FROM tidegate.submissions",
            "UPDATE tidegate.my_domains SET review = 'never'",
            "SELECT * FROM tidegate.domain",
            "INSERT INTO tidegate.domain VALUES ('hr', 'note_team')",
            "SELECT * FROM tidegate.standards",
            "SELECT * FROM tidegate.principal_attribute",
            "SELECT * FROM tidegate.audit_event",
            "SELECT tidegate.in_team_of('postgres', 'postgres', 'team')",
            "SELECT * FROM other.thing",
            "SELECT tidegate.explain_access('postgres', 'team.note')",
            "SET ROLE tidegate_owner",
        ):
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectNotInPrerequisiteState)):
                teams.session.execute(statement)  # type: ignore[arg-type]

    def test_it_reads_only_its_own_submissions(self, teams: Teams) -> None:
        teams.submit(contract(ALLOW))
        theirs = teams.world.login(teams.world.role("theirs", "other_team"))
        assert list_submissions(theirs) == []
        with pytest.raises(UsageError, match="no submission 1"):
            outcome(theirs, 1)
        assert [one.submitted_by for one in list_submissions(teams.session)] == [teams.member]
        assert len(list_submissions(teams.admin)) == 1
        assert theirs.execute("SELECT domain FROM tidegate.my_domains").fetchall() == [("other",)]


class TestReview:
    def review(self, teams: Teams, setting: str) -> None:
        add_domain(teams.admin, "team", "note_team", setting)

    def test_always(self, teams: Teams) -> None:
        self.review(teams, "always")
        found = teams.publish(contract(ALLOW))
        assert found.state == "review"
        assert "waits for an administrator" in (found.text or "")
        assert teams.world.tide.one("SELECT count(*) FROM tidegate.product") == 0
        # Not by the controller, however often it looks.
        assert teams.controller.decide_waiting(teams.admin) == []
        ((_, decided),) = teams.controller.decide_waiting(teams.admin, reviewed=True)
        assert decided.state == "applied"
        assert teams.world.tide.one("SELECT applied_by FROM tidegate.product") == teams.member
        # What changes nothing needs nobody.
        assert teams.publish(contract(ALLOW)).state == "applied"

    def test_widens(self, teams: Teams) -> None:
        self.review(teams, "widens")
        assert teams.publish(contract(ALLOW)).state == "review"
        teams.controller.decide_waiting(teams.admin, reviewed=True)
        described = changed(version="1.0.1", description={"purpose": "Notes, better described."})
        assert teams.publish(described).state == "applied"
        assert teams.publish(contract({**ALLOW, "when": "row.price > 1"}, version="2.0.0")).state == "review"
        assert teams.world.tide.one("SELECT contract_version FROM tidegate.product") == "1.0.1"

    def test_refused_with_a_reason(self, teams: Teams) -> None:
        self.review(teams, "always")
        number = teams.submit(contract(ALLOW))
        teams.controller.decide_waiting(teams.admin)
        refuse(teams.admin, number, "not before the holidays")
        assert outcome(teams.session, number) == Outcome(
            "refused", "not before the holidays", outcome(teams.session, number).plan
        )
        assert teams.controller.decide(teams.admin, number, reviewed=True) is None
        with pytest.raises(Decided, match="does not wait for a decision: it is refused"):
            refuse(teams.admin, number, "again")


class TestRevoked:
    def test_a_pending_submission_of_who_is_no_member_any_more(self, teams: Teams) -> None:
        number = teams.submit(contract(ALLOW))
        teams.admin.execute(sql.SQL("REVOKE note_team FROM {}").format(sql.Identifier(teams.member)))
        teams.controller.decide_waiting(teams.admin, reviewed=True)
        row = teams.world.tide.rows("SELECT state, outcome FROM tidegate.submission WHERE submission_id = %s", number)
        assert row[0][0] == "refused"
        assert f'"{teams.member}" is not of the team of domain "team"' in row[0][1]
        assert teams.world.tide.one("SELECT count(*) FROM tidegate.product") == 0

    def test_between_its_plan_and_its_application(self, teams: Teams, monkeypatch: pytest.MonkeyPatch) -> None:
        plan = Controller._plan

        def revoked(self: Controller, *arguments: Any) -> Any:
            made = plan(self, *arguments)
            teams.admin.execute(sql.SQL("REVOKE note_team FROM {}").format(sql.Identifier(teams.member)))
            return made

        monkeypatch.setattr(Controller, "_plan", revoked)
        teams.submit(contract(ALLOW))
        ((_, found),) = teams.controller.decide_waiting(teams.admin)
        assert found.state == "refused"
        assert teams.world.tide.one("SELECT count(*) FROM tidegate.product") == 0

    def test_a_domain_without_team(self, teams: Teams) -> None:
        teams.submit(contract(ALLOW))
        remove_domain(teams.admin, "team")
        ((_, found),) = teams.controller.decide_waiting(teams.admin)
        assert (found.state, found.text) == ("refused", 'note.odcs.yaml: team.note: domain "team" has no team any more')


class TestDomains:
    def test_who_is_in_a_team(self, teams: Teams) -> None:
        found = {domain.domain: domain for domain in list_domains(teams.admin)}
        assert (found["team"].team_role, found["team"].members, found["team"].review) == (
            "note_team",
            [teams.member],
            "never",
        )

    @pytest.mark.parametrize("role", ["postgres", "tidegate_admin", "tidegate_owner", "pg_monitor"])
    def test_a_team_is_no_administrator(self, teams: Teams, role: str) -> None:
        with pytest.raises(UsageError, match="rights beyond a team's"):
            add_domain(teams.admin, "third", role, "never")

    def test_a_team_that_is_not_there(self, teams: Teams) -> None:
        with pytest.raises(UsageError, match='there is no role "nobodys"'):
            add_domain(teams.admin, "third", "nobodys", "never")
        with pytest.raises(UsageError, match='there is no domain "third"'):
            remove_domain(teams.admin, "third")

    def test_two_controllers_do_not_decide_the_same(self, teams: Teams) -> None:
        number = teams.submit(contract(ALLOW))
        other = teams.world.as_superuser()
        other.execute("SELECT pg_advisory_lock(hashtextextended('tidegate.submission', %s))", [number])
        assert teams.controller.decide(teams.admin, number) is None
        other.close()
        wait_until(lambda: teams.controller.decide(teams.admin, number), 10, "the other gave it back")
        assert outcome(teams.session, number).state == "applied"
