"""Who sees which rows: rules, attributes, membership, privileges. Each by SQL, eventual and strict search."""

import psycopg
import pytest
from psycopg import sql
from tests.security.conftest import World, contract, found, ids, seen, with_columns

from tidegate.database import Connection

EVERYTHING = {"id": "readers", "effect": "allow", "to": ["note_reader"]}
TENANT = {"name": "tenant", "logicalType": "string", "physicalType": "uuid"}
LEVEL = {"name": "level", "logicalType": "integer", "physicalType": "int"}
UUID = "00000000-0000-0000-0000-00000000000a"


def test_a_reader_sees_the_rows_of_her_regions(published: World) -> None:
    assert seen(published.login(published.role("eu", "note_reader", regions=["EU"]))) == {1}
    assert seen(published.login(published.role("all", "note_reader", regions=["EU", "US"]))) == {1, 2}


def test_without_an_allow_rule_nobody_sees_anything(world: World) -> None:
    world.publish(contract({"id": "some", "effect": "require", "when": "row.region = 'EU'"}))
    world.note(1)
    reader = world.login(world.role("reader", "note_reader", "tidegate_reader", regions=["EU"]))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ids(reader)
    assert found(reader, "eventual") == set()
    # Not even with a privilege that somebody gave by hand.
    world.admin.execute("GRANT USAGE ON SCHEMA rag_team TO note_reader; GRANT SELECT ON rag_team.note TO note_reader")
    assert ids(reader) == set()
    assert found(reader, "eventual") == set()


def test_a_role_that_no_rule_names_sees_nothing(published: World) -> None:
    other = published.login(published.role("other", "tidegate_reader", regions=["EU", "US"]))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ids(other)
    assert found(other, "eventual") == set()
    assert other.execute("SELECT count(*) FROM tidegate.products").fetchone() == (0,)
    # With SELECT given by hand there is still no policy that lets it see a row.
    published.admin.execute(
        "GRANT USAGE ON SCHEMA rag_team TO tidegate_reader; GRANT SELECT ON rag_team.note TO tidegate_reader"
    )
    assert ids(other) == set()


def test_null_in_a_rule_column_hides(world: World) -> None:
    """Under every shape of restriction: a row whose rule column is NULL is not shown, the others are."""
    by_region = ("row.region = 'EU'", "row.region in user.regions", "row.region != 'US'", "not row.region = 'US'")
    narrow = [("require", when, {1, 3}) for when in by_region]
    narrow += [("deny", "row.region = 'US'", {1, 3}), ("deny", "row.region in ['US', 'CA']", {1, 3})]
    narrow += [("require", "row.price < 10", {1, 2}), ("deny", "row.price >= 10", {1, 2})]
    world.publish(contract(EVERYTHING))
    world.note(1, region="EU", price=5)
    world.note(2, region=None, price=5, source=False)
    world.note(3, region="EU", price=None)
    world.note(4, region=None, price=None, source=False)
    reader = world.login(world.role("reader", "note_reader", regions=["EU"]))
    assert ids(reader) == {1, 2, 3, 4}
    for effect, when, shown in narrow:
        world.publish(contract(EVERYTHING, {"id": "narrow", "effect": effect, "when": when}))
        assert ids(reader) == shown, (effect, when)
        assert found(reader, "eventual") == shown, (effect, when)
    # In an allow rule as well.
    for when in by_region:
        world.publish(contract({**EVERYTHING, "when": when}))
        assert ids(reader) == {1, 3}, when


def test_a_missing_attribute_hides(published: World) -> None:
    assert seen(published.login(published.role("none", "note_reader"))) == set()
    assert seen(published.login(published.role("empty", "note_reader", regions=[]))) == set()
    assert seen(published.login(published.role("wrong", "note_reader", region=["EU"]))) == set()


def test_an_attribute_that_is_no_single_uuid_hides_without_an_error(world: World) -> None:
    world.admin.execute(f"ALTER TABLE team.note ADD tenant uuid DEFAULT '{UUID}'")
    world.publish(with_columns(contract({**EVERYTHING, "when": "row.tenant = user.tenant"}), TENANT))
    world.note(1, tenant=UUID)
    for attribute in ([UUID], [UUID.upper()]):
        assert seen(world.login(world.role("reader", "note_reader", tenant=attribute))) == {1}, attribute
    for attribute in (["nonsense"], [""], [UUID + "0"], [UUID, UUID.replace("a", "b")], [], ["' OR true --"]):
        assert seen(world.login(world.role("reader", "note_reader", tenant=attribute))) == set(), attribute


def test_a_clearance_that_is_no_number_shows_nothing(world: World) -> None:
    world.admin.execute("ALTER TABLE team.note ADD level int")
    world.publish(with_columns(contract({**EVERYTHING, "when": "row.level <= user.clearance"}), LEVEL))
    for number in (1, 2, 3):
        world.note(number, level=number)
    world.admin.execute("UPDATE team.note SET level = id")
    assert seen(world.login(world.role("reader", "note_reader", clearance=["2"]))) == {1, 2}
    for attribute in (["NaN"], ["Infinity"], ["two"], ["1", "2"], ["99999999999999999999"], ["2; SELECT 1"]):
        assert seen(world.login(world.role("reader", "note_reader", clearance=attribute))) == set(), attribute


class TestInheritance:
    def test_from_a_role_and_through_roles(self, published: World) -> None:
        europe = published.role("europe", regions=["EU"])
        team = published.role("team", europe)
        assert seen(published.login(published.role("member", "note_reader", team))) == {1}

    def test_the_union_of_several(self, published: World) -> None:
        europe, states = published.role("europe", regions=["EU"]), published.role("states", regions=["US"])
        assert seen(published.login(published.role("both", "note_reader", europe, states))) == {1, 2}

    def test_own_values_stand_alone(self, published: World) -> None:
        states = published.role("states", regions=["US"])
        assert seen(published.login(published.role("own", "note_reader", states, regions=["EU"]))) == {1}
        assert seen(published.login(published.role("emptied", "note_reader", states, regions=[]))) == set()

    def test_not_through_a_membership_without_inherit(self, published: World) -> None:
        europe = published.role("europe", "note_reader", regions=["EU"])
        person = published.role("person", "note_reader")
        published.admin.execute(
            sql.SQL("GRANT {} TO {} WITH INHERIT FALSE").format(sql.Identifier(europe), sql.Identifier(person))
        )
        session = published.login(person)
        assert seen(session) == set()
        session.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(europe)))
        assert seen(session) == {1}

    def test_a_scalar_with_two_inherited_values_hides(self, world: World) -> None:
        world.publish(contract({**EVERYTHING, "when": "row.region = user.region"}))
        world.note(1)
        europe, states = world.role("europe", region=["EU"]), world.role("states", region=["US"])
        assert seen(world.login(world.role("one", "note_reader", europe))) == {1}
        assert seen(world.login(world.role("both", "note_reader", europe, states))) == set()

    def test_not_by_a_superuser(self, published: World) -> None:
        """Who is a member of everything has nobody's attributes."""
        published.role("europe", regions=["EU", "US"])
        superuser = published.as_superuser()
        assert superuser.execute("SELECT tidegate.attribute_texts('regions')").fetchone() == (None,)
        assert superuser.execute("SELECT roles, attributes FROM tidegate.whoami()").fetchone() == ([], {})
        assert found(superuser, "strict") == set()

    def test_a_role_that_takes_another_has_the_others_rights_only(self, published: World) -> None:
        europe = published.role("europe", "note_reader", regions=["EU"])
        person = published.role("person", "note_reader", europe, regions=["US"])
        session = published.login(person)
        assert seen(session) == {2}
        session.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(europe)))
        assert seen(session) == {1}
        assert session.execute("SELECT principal FROM tidegate.whoami()").fetchone() == (europe,)


def test_a_change_of_attributes_or_roles_holds_from_the_next_statement(published: World) -> None:
    person = published.role("person", "note_reader", regions=["EU"])
    session = published.login(person)
    assert seen(session) == {1}
    published.admin.execute(
        "UPDATE tidegate.principal_attribute SET attribute_values = '{US}' WHERE principal = %s", [person]
    )
    assert seen(session) == {2}
    published.admin.execute(sql.SQL("REVOKE note_reader FROM {}").format(sql.Identifier(person)))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ids(session)


class TestPrivileges:
    @pytest.fixture
    def reader(self, published: World) -> Connection:
        return published.login(published.role("reader", "note_reader", regions=["EU"]))

    def test_a_reader_reads_no_source_and_no_control_table(self, published: World, reader: Connection) -> None:
        tables = published.tide.rows(
            "SELECT relname FROM pg_class WHERE relnamespace = 'tidegate'::regnamespace AND relkind IN ('r', 'p')"
        )
        assert len(tables) >= 11
        for relation in ("team.note", *(f"tidegate.{name}" for (name,) in tables)):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(f"SELECT 1 FROM {relation}")  # type: ignore[arg-type]

    def test_some_views_are_all_that_a_reader_reads(self, reader: Connection) -> None:
        readable = reader.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = 'tidegate' AND c.relkind IN ('r', 'v', 'm', 'p', 'f', 'S') "
            "AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1"
        ).fetchall()
        assert readable == [("freshness",), ("lineage",), ("my_domains",), ("products",), ("submissions",)]

    def test_a_reader_changes_nothing(self, reader: Connection) -> None:
        for statement in (
            "INSERT INTO rag_team.note (id) SELECT id FROM rag_team.note",
            "UPDATE rag_team.note SET content = 'mine'",
            "UPDATE rag_team.note SET region = 'EU'",
            "DELETE FROM rag_team.note",
            "TRUNCATE rag_team.note",
            "ALTER TABLE rag_team.note DISABLE ROW LEVEL SECURITY",
            "DROP POLICY tidegate_allow_readers ON rag_team.note",
            "CREATE POLICY mine ON rag_team.note USING (true)",
            "CREATE TRIGGER t BEFORE INSERT ON rag_team.note EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "CREATE TABLE rag_team.mine ()",
            "CREATE TABLE tidegate.mine ()",
            "CREATE FUNCTION tidegate.principal() RETURNS text LANGUAGE sql AS 'SELECT 1'",
            "INSERT INTO tidegate.principal_attribute VALUES ('x', 'regions', '{EU}')",
            "INSERT INTO tidegate.signal VALUES ('1', 'execute-snapshot', '{}')",
            "DO $$ BEGIN LOCK TABLE rag_team.note IN ACCESS EXCLUSIVE MODE; END $$",
            "SET ROLE tidegate_worker",
            "SET ROLE tidegate_owner",
            "SET SESSION AUTHORIZATION tidegate_worker",
            "SET session_replication_role = replica",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(statement)  # type: ignore[arg-type]

    def test_functions_are_nobodys_by_default(self, published: World) -> None:
        """Whoever holds no role of tidegate can execute none of its functions."""
        rows = published.tide.rows(
            "SELECT p.oid::regprocedure::text FROM pg_proc p "
            "WHERE p.pronamespace IN ('tidegate'::regnamespace, 'rag_team'::regnamespace) "
            "AND has_function_privilege(%s, p.oid, 'EXECUTE')",
            published.role("stranger"),
        )
        assert rows == []

    def test_a_reader_of_other_products_cannot_ask_for_the_life_of_a_row(self, published: World) -> None:
        other = published.login(published.role("other", "tidegate_reader"))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            other.execute("SELECT rag_team.note_live(1)")

    def test_every_definer_pins_its_path_and_belongs_to_the_owner(self, published: World) -> None:
        rows = published.tide.rows(
            "SELECT p.oid::regprocedure::text, p.proowner::regrole::text, p.proconfig FROM pg_proc p "
            "WHERE p.pronamespace IN ('tidegate'::regnamespace, 'rag_team'::regnamespace) AND p.prosecdef"
        )
        assert len(rows) >= 15
        for name, owner, config in rows:
            assert owner == "tidegate_owner", name
            assert "search_path=pg_catalog, pg_temp" in config, name

    def test_the_attributes_of_others_show_nowhere(self, published: World, reader: Connection) -> None:
        published.role("secretive", "note_reader", clearance=["very-secret-value"])
        for statement in (
            "SELECT tidegate.whoami()::text",
            "SELECT tidegate.attribute_texts('clearance')::text",
            "SELECT string_agg(most_common_vals::text || coalesce(histogram_bounds::text, ''), '') FROM pg_stats",
        ):
            published.admin.execute("ANALYZE tidegate.principal_attribute")
            assert "very-secret" not in str(reader.execute(statement).fetchall())  # type: ignore[arg-type]

    def test_statistics_of_hidden_rows_show_nowhere(self, published: World, reader: Connection) -> None:
        published.admin.execute("ANALYZE rag_team.note")
        assert reader.execute("SELECT count(*) FROM pg_stats WHERE schemaname = 'rag_team'").fetchone() == (0,)

    def test_the_owner_of_the_chunk_table_sees_nothing(self, published: World) -> None:
        session = published.as_superuser()
        session.execute("SET ROLE tidegate_owner")
        assert ids(session) == set()

    def test_switching_row_security_off_is_refused(self, reader: Connection) -> None:
        reader.execute("SET row_security = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            ids(reader)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            found(reader)


class TestStrangers:
    """A login without any role of tidegate."""

    def test_sees_nothing_and_is_told_so(self, published: World) -> None:
        session = published.login(published.role("stranger", regions=["EU"]))
        for ask in (
            ids,
            found,
            lambda c: c.execute("SELECT * FROM tidegate.products"),
            lambda c: c.execute("SELECT tidegate.whoami()"),
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                ask(session)

    def test_the_client_says_what_to_do(self, published: World) -> None:
        from tidegate.errors import UsageError
        from tidegate.query.client import Client

        stranger = published.role("stranger", regions=["EU"])
        with Client(published.dsn(stranger), published.tide.settings, embedders=published.tide.embedders) as client:
            for call in (client.search, client.ask):
                with pytest.raises(UsageError, match=f'role "{stranger}" may not use tidegate.*grants it the role'):
                    call("anything")


class TestProductsThatAreNotOffered:
    """Hidden and absent products give the same answer."""

    def test_in_sql(self, published: World) -> None:
        other = published.login(published.role("other", "tidegate_reader"))
        messages = []
        for product in ("team.note", "team.none"):
            for statement in (
                "SELECT * FROM tidegate.search('[1,2]'::public.vector, products => ARRAY[%s])",
                "SELECT tidegate.wait_for('0/0', '1ms', ARRAY[%s])",
                "SELECT tidegate.search_statement('[1,2]'::public.vector, products => ARRAY[%s])",
            ):
                with pytest.raises(psycopg.Error) as caught:
                    other.execute(statement, [product])  # type: ignore[arg-type]
                messages.append(str(caught.value).replace(product, "PRODUCT"))
        assert messages[:3] == messages[3:]

    def test_in_python(self, published: World) -> None:
        from tidegate.errors import UsageError
        from tidegate.query.client import Client

        other = published.role("other", "tidegate_reader")
        with Client(published.dsn(other), published.tide.settings, embedders=published.tide.embedders) as client:
            messages = []
            for product in ("team.note", "team.none"):
                with pytest.raises(UsageError) as caught:
                    client.search("anything", products=[product])
                messages.append(str(caught.value).replace(product, "PRODUCT"))
            assert messages[0] == messages[1]
            assert client.search("anything") == []

    def test_a_wait_does_not_depend_on_them(self, published: World) -> None:
        """A pending product that the caller may not search: how far it is, is not hers to know."""
        other = published.login(published.role("other", "tidegate_reader"))
        assert other.execute("SELECT tidegate.wait_for('F/0', '1ms')").fetchone() == (True,)
        reader = published.login(published.role("reader", "note_reader"))
        assert reader.execute("SELECT tidegate.wait_for('F/0', '1ms')").fetchone() == (False,)
        assert other.execute("SELECT count(*) FROM tidegate.freshness").fetchone() == (0,)


class TestStrict:
    """The worker is not there; the source row changed, its chunks did not."""

    @pytest.fixture
    def reader(self, published: World) -> Connection:
        return published.login(published.role("reader", "note_reader", regions=["EU"]))

    def test_a_deleted_row_is_no_ghost(self, published: World, reader: Connection) -> None:
        published.admin.execute("DELETE FROM team.note WHERE id = 1")
        assert found(reader, "eventual") == {1}
        assert found(reader, "strict") == set()

    def test_a_row_that_was_reclassified_is_gone_at_once(self, published: World, reader: Connection) -> None:
        published.admin.execute("UPDATE team.note SET region = 'US' WHERE id = 1")
        assert found(reader, "eventual") == {1}
        assert found(reader, "strict") == set()

    def test_a_reclassified_row_does_not_appear_before_its_chunks_say_so(
        self, published: World, reader: Connection
    ) -> None:
        published.admin.execute("UPDATE team.note SET region = 'EU' WHERE id = 2")
        assert found(reader, "strict") == {1}

    def test_a_row_in_an_open_transaction_still_counts(self, published: World, reader: Connection) -> None:
        with published.admin.transaction(force_rollback=True):
            published.admin.execute("DELETE FROM team.note WHERE id = 1")
            assert found(reader, "strict") == {1}

    def test_ghosts_do_not_push_out_rows_that_are_there(self, published: World, reader: Connection) -> None:
        for number in range(100, 400):
            published.note(number)
        published.admin.execute("DELETE FROM team.note WHERE id BETWEEN 100 AND 398")
        rows = reader.execute(
            "SELECT key FROM tidegate.search(%s::public.vector, 2)", ["[" + "1," * 383 + "1]"]
        ).fetchall()
        assert {row[0]["id"] for row in rows} == {1, 399}

    def test_the_live_check_says_the_same_of_hidden_and_absent_rows(self, published: World, reader: Connection) -> None:
        answers = reader.execute(
            "SELECT rag_team.note_live(1), rag_team.note_live(2), rag_team.note_live(3), rag_team.note_live(NULL::bigint)"
        )
        assert answers.fetchone() == (True, False, False, False)


def test_a_role_made_anew_does_not_inherit_the_attributes_of_its_namesake(admin: Connection) -> None:
    admin.execute("DROP ROLE IF EXISTS passing_by; CREATE ROLE passing_by")
    admin.execute(
        "INSERT INTO tidegate.principal_attribute (principal, attribute, attribute_values) VALUES ('passing_by', 'regions', '{EU}')"
    )
    admin.execute("GRANT tidegate_reader TO passing_by; SET ROLE passing_by")
    assert admin.execute("SELECT tidegate.attribute_texts('regions')").fetchone() == (["EU"],)
    admin.execute("RESET ROLE; DROP ROLE passing_by; CREATE ROLE passing_by; GRANT tidegate_reader TO passing_by")
    admin.execute("SET ROLE passing_by")
    assert admin.execute("SELECT tidegate.attribute_texts('regions')").fetchone() == (None,)
    admin.execute("RESET ROLE; DROP ROLE passing_by")
