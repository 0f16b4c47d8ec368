"""What people with SQL may try: settings, shadowed names, leaky functions, cached plans, other people's rights.

Each attack is also seen succeeding, against a database that was weakened for it (weaken.py).
"""

import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from tests.security.conftest import ALLOW, PASSWORD, VECTOR, World, contract, found, ids, seen
from tests.security.weaken import Edit, Weakening, attack, breach, refused

from tidegate.database import Connection
from tidegate.govern.principals import set_attributes
from tidegate.local import postgres

EVERYTHING = {"id": "readers", "effect": "allow", "to": ["note_reader"]}
DENIED = psycopg.errors.InsufficientPrivilege

NO_RLS = Weakening("no_rls", published=("ALTER TABLE rag_team.note DISABLE ROW LEVEL SECURITY",))
NO_ROLE_ASKED = Weakening(
    "no_role_asked",
    patches=(("tidegate.govern.policies._acts_as", lambda roles, asker: sql.Composed([sql.SQL("true")])),),
)
SETTINGS_BELIEVED = Weakening(
    "settings_believed",
    edits=(
        Edit(
            "tidegate.session_role()",
            "session_user::text",
            "coalesce(nullif(current_setting('tidegate.principal', true), ''), session_user)",
        ),
    ),
)
PATHS_OPEN = Weakening(
    "paths_open",
    control=(
        "DO $$ DECLARE f regprocedure; BEGIN FOR f IN SELECT oid FROM pg_proc WHERE pronamespace = 'tidegate'::regnamespace "
        "LOOP EXECUTE format('ALTER FUNCTION %s RESET ALL', f); END LOOP; END $$",
    ),
)
CONSTANT_ATTRIBUTES = Weakening(
    "constant_attributes",
    control=("ALTER FUNCTION tidegate.attribute_texts(text) IMMUTABLE",),
)


@pytest.fixture
def reader_role(published: World) -> str:
    """Sees note 1, not note 2; has a schema of her own."""
    role = published.role("reader", "note_reader", regions=["EU"])
    published.admin.execute(sql.SQL("CREATE SCHEMA mine AUTHORIZATION {}").format(sql.Identifier(role)))
    return role


@pytest.fixture
def reader(published: World, reader_role: str) -> Connection:
    return published.login(reader_role)


@attack(SETTINGS_BELIEVED)
def test_custom_settings_prove_nothing(published: World, reader: Connection) -> None:
    other = published.role("other", "note_reader", regions=["US"])
    for name in ("principal", "role", "user", "regions", "attributes", "jwt", "as", "worker"):
        reader.execute("SELECT set_config(%s, %s, false)", [f"tidegate.{name}", other])
        reader.execute("SELECT set_config(%s, 'US', false)", [f"request.{name}"])
    reader.execute("SET application_name = 'tidegate_worker'")
    breach(seen(reader) != {1}, "a custom setting moved what she sees")


@attack(Weakening("membership"))
def test_she_takes_no_role_that_is_not_hers(
    published: World, reader: Connection, reader_role: str, weakness: Weakening | None
) -> None:
    """SET ROLE, SET SESSION AUTHORIZATION, their settings, and a function that carries a role."""
    other = published.role("other", "note_reader", regions=["US"])
    if weakness is not None:
        published.admin.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(other), sql.Identifier(reader_role)))
    for role in (other, "tidegate_worker", "tidegate_owner", "tidegate_admin", "tidegate_emergency", "postgres"):
        name = sql.Identifier(role)
        for statement in (
            sql.SQL("SET ROLE {}").format(name),
            sql.SQL("SET LOCAL ROLE {}").format(name),
            sql.SQL("SET SESSION AUTHORIZATION {}").format(name),
            sql.SQL("SELECT set_config('role', {}, false)").format(sql.Literal(role)),
            sql.SQL("SELECT set_config('session_authorization', {}, false)").format(sql.Literal(role)),
        ):
            with refused(DENIED):
                reader.execute(statement)
    with refused(DENIED):
        reader.execute(
            sql.SQL(
                "CREATE FUNCTION mine.as_other() RETURNS bigint LANGUAGE sql SET role = {} "
                "AS 'SELECT id FROM rag_team.note'; "
                "SELECT mine.as_other()"
            ).format(sql.Literal(other))
        )
    breach(seen(reader) != {1}, "another role's rows")


@attack(NO_RLS)
def test_row_security_cannot_be_switched_off(reader: Connection) -> None:
    reader.execute("SET row_security = off")
    with refused(DENIED):
        ids(reader)


@attack(NO_RLS)
def test_copy_and_pg_dump_show_no_more(published: World, reader: Connection, reader_role: str) -> None:
    with reader.cursor().copy("COPY rag_team.note (id) TO STDOUT") as copied:
        breach([bytes(line) for line in copied] != [b"1\n"], "COPY TO shows hidden rows")
    dump = Path(postgres.psql_command()[0]).with_name("pg_dump")
    dsn = published.dsn(reader_role)
    for option, code in (("--enable-row-security", 0), ("--data-only", 1)):
        done = subprocess.run(
            [str(dump), "--data-only", option, "--table", "rag_team.note", "--dbname", dsn],
            capture_output=True, text=True, timeout=60, check=False, env={"PGPASSWORD": PASSWORD},
        )  # fmt: skip
        breach("note 2" in done.stdout, f"pg_dump {option} shows hidden rows")
        breach(done.returncode != code, f"pg_dump {option} ended with {done.returncode}: {done.stderr}")


@attack(PATHS_OPEN)
@pytest.mark.parametrize("where", ["mine", "pg_temp"])
def test_shadowed_names_prove_nothing(published: World, reader: Connection, reader_role: str, where: str) -> None:
    """Functions, operators, types and tables of her own, in front of everybody else's. Her attributes are inherited:
    that asks more of the catalog than her own do."""
    team = published.role("team_eu", "note_reader", regions=["EU"])
    published.admin.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(team), sql.Identifier(reader_role)))
    published.admin.execute("DELETE FROM tidegate.principal_attribute WHERE principal = %s", [reader_role])
    other = published.role("other", "note_reader", regions=["US"])
    if where == "pg_temp":
        reader.execute("CREATE TEMP TABLE opens_the_schema ()")
    else:
        reader.execute("GRANT USAGE ON SCHEMA mine TO PUBLIC")
    reader.execute(
        f"""
        CREATE FUNCTION {where}.principal() RETURNS text LANGUAGE sql AS 'SELECT ''postgres''::text';
        CREATE FUNCTION {where}.current_setting(text) RETURNS text LANGUAGE sql AS 'SELECT ''{other}''::text';
        CREATE FUNCTION {where}.acts_as(text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
        CREATE FUNCTION {where}.attribute_texts(text) RETURNS text[] LANGUAGE sql AS 'SELECT ''{{EU,US}}''::text[]';
        CREATE FUNCTION {where}.pg_has_role(text, oid, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
        CREATE FUNCTION {where}.note_live(bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true';
        CREATE FUNCTION {where}.eq(text, text) RETURNS boolean LANGUAGE sql
            AS 'SELECT $1 OPERATOR(pg_catalog.=) $2 OR $1 OPERATOR(pg_catalog.=) ''US''';
        CREATE OPERATOR {where}.= (FUNCTION = {where}.eq, LEFTARG = text, RIGHTARG = text);
        CREATE FUNCTION {where}.further(public.vector, public.vector) RETURNS float8 LANGUAGE sql AS 'SELECT 0::float8';
        CREATE OPERATOR {where}.<=> (FUNCTION = {where}.further, LEFTARG = public.vector, RIGHTARG = public.vector);
        CREATE DOMAIN {where}.hit AS text;
        CREATE TABLE {where}.principal_attribute (principal text, attribute text, attribute_values text[]);
        INSERT INTO {where}.principal_attribute VALUES (session_user, 'regions', '{{US}}');
        CREATE TABLE {where}.pg_roles AS SELECT CASE rolname WHEN '{reader_role}' THEN 10 ELSE oid END AS oid, rolname::text, false AS rolsuper
            FROM pg_catalog.pg_roles;
        GRANT SELECT ON {where}.pg_roles TO PUBLIC;
        """  # type: ignore[arg-type]
    )
    reader.execute(f"SET search_path = {where}, pg_catalog, tidegate, rag_team, public")  # type: ignore[arg-type]
    breach(ids(reader) != {1}, "a name of her own moved what she sees")
    assert seen(reader) == {1}
    assert reader.execute("SELECT attributes FROM tidegate.whoami()").fetchone() == ({"regions": ["EU"]},)
    published.admin.execute("DELETE FROM team.note WHERE id = 1")
    assert found(reader, "strict") == set()


NO_INDEX = "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off"
LEAKY = "CREATE FUNCTION mine.tell(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$"


@attack(Weakening("leakproof"))
def test_a_leaky_function_is_not_called_with_hidden_rows(
    published: World, reader: Connection, weakness: Weakening | None
) -> None:
    """Cheap as it says it is, the planner may not run it before the policies."""
    told: list[str] = []
    reader.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
    reader.execute(LEAKY)
    with refused(DENIED):
        reader.execute("ALTER FUNCTION mine.tell(text) LEAKPROOF")
    if weakness is not None:
        published.admin.execute("ALTER FUNCTION mine.tell(text) LEAKPROOF")
    reader.execute(NO_INDEX)
    for statement in (
        "SELECT id FROM rag_team.note WHERE mine.tell(content)",
        "SELECT n.id FROM rag_team.note n JOIN rag_team.note m ON mine.tell(m.content) AND n.id = m.id",
        "SELECT max(id) FROM rag_team.note HAVING bool_or(mine.tell(content))",
        "SELECT id FROM rag_team.note ORDER BY mine.tell(content)",
    ):
        reader.execute(statement)  # type: ignore[arg-type]
    breach(set(told) != {"note 1"}, "her function was told of hidden rows")


@attack(
    Weakening(
        "leakproof_arithmetic",
        control=tuple(
            f"ALTER FUNCTION pg_catalog.{function} LEAKPROOF"
            for function in (
                "int48div(int4, int8)",
                "int84mi(int8, int4)",
                "int84gt(int8, int4)",
                "int48gt(int4, int8)",
            )
        ),
    )
)
def test_errors_do_not_tell_of_hidden_rows(reader: Connection) -> None:
    """Division by zero, bad casts, overflows: only of rows that may be seen."""
    reader.execute(NO_INDEX)
    for where in (
        "1 / (id - 2) > -5",
        "(CASE id WHEN 2 THEN 'x' ELSE '1' END)::int = 1",
        "id + 9223372036854775805 > 0",
    ):
        try:
            breach(ids(reader, where) != {1}, "hidden rows")
        except psycopg.DataError as error:
            breach(True, f"an error tells of a hidden row: {error}")


@attack(NO_RLS)
def test_cursors_and_subqueries_show_no_more(reader: Connection) -> None:
    for statement in (
        "TABLE rag_team.note",
        "SELECT * FROM ONLY rag_team.note",
        "SELECT * FROM rag_team.note TABLESAMPLE BERNOULLI (100)",
        "WITH n AS MATERIALIZED (SELECT * FROM rag_team.note) SELECT * FROM n",
        "SELECT (n).* FROM (SELECT n FROM rag_team.note n) AS x",
        "SELECT * FROM rag_team.note WHERE ctid = ANY (ARRAY['(0,1)', '(0,2)', '(0,3)']::tid[])",
    ):
        shown = [row[0] for row in reader.execute(statement).fetchall()]  # type: ignore[arg-type]
        breach(shown != [1], statement)
    with reader.cursor().copy("COPY (SELECT id FROM rag_team.note) TO STDOUT") as copied:
        breach([bytes(line) for line in copied] != [b"1\n"], "COPY (SELECT …)")


PRIVATE = (
    *("principal_attribute", "product", "contract_version", "ledger", "dead_letter", "rule", "standards"),
    *("token_key", "token_issuer", "break_glass", "audit_event", "mask_key", "domain", "submission"),
)


@attack(
    Weakening("attributes_readable", control=("GRANT SELECT ON tidegate.principal_attribute TO tidegate_reader",)),
    Weakening("keys_readable", control=("GRANT SELECT (outer_pad) ON tidegate.token_key TO tidegate_reader",)),
)
def test_control_tables_are_closed(reader: Connection) -> None:
    for table in PRIVATE:
        row = reader.execute("SELECT has_any_column_privilege(%s, 'SELECT, INSERT, UPDATE')", [f"tidegate.{table}"])
        breach(row.fetchone() != (False,), f"some privilege on tidegate.{table}")
        with refused(DENIED):
            reader.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier("tidegate", table)))


@attack(Weakening("asked_of_others", control=("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tidegate TO tidegate_reader",)))
def test_nobody_asks_on_behalf_of_others(published: World, reader: Connection) -> None:
    other = published.role("other", "note_reader", regions=["US"])
    for statement in (
        "SELECT tidegate.attribute_texts_of(%s, 'regions')",
        "SELECT tidegate.attribute_uuid_of(%s, 'regions')",
        "SELECT tidegate.acts_as_of(%s, 'note_reader')",
        "SELECT tidegate.breaks_glass_of(%s, 'team.note')",
    ):
        with refused(DENIED):
            reader.execute(statement, [other])


@attack(Weakening("owned_by_her"))
def test_she_changes_no_policy(
    published: World, reader: Connection, reader_role: str, weakness: Weakening | None
) -> None:
    if weakness is not None:
        published.admin.execute(sql.SQL("ALTER TABLE rag_team.note OWNER TO {}").format(sql.Identifier(reader_role)))
    for statement in (
        "CREATE POLICY mine ON rag_team.note FOR SELECT USING (true)",
        "ALTER POLICY tidegate_allow_readers ON rag_team.note USING (true)",
        "DROP POLICY tidegate_allow_readers ON rag_team.note",
        "ALTER TABLE rag_team.note NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE rag_team.note DISABLE ROW LEVEL SECURITY",
        "CREATE TABLE mine.child () INHERITS (rag_team.note)",
        "CREATE TRIGGER t BEFORE INSERT ON rag_team.note FOR EACH ROW EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()",
        "CREATE RULE r AS ON INSERT TO rag_team.note DO ALSO NOTHING",
        "CREATE PUBLICATION p FOR TABLE rag_team.note",
        "INSERT INTO rag_team.note (id) VALUES (3)",
        "UPDATE rag_team.note SET region = 'EU'",
        "DELETE FROM rag_team.note",
        "TRUNCATE rag_team.note",
    ):
        with refused(DENIED):
            reader.execute(statement)  # type: ignore[arg-type]


class TestCachedPlans:
    STATEMENT = "PREPARE p AS SELECT id FROM rag_team.note ORDER BY id"

    def _ids(self, session: Connection) -> list[int]:
        return [row[0] for row in session.execute("EXECUTE p").fetchall()]

    @attack(NO_RLS)
    @pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
    def test_follow_set_role(self, published: World, mode: str) -> None:
        europe = published.role("europe", "note_reader", regions=["EU"])
        states = published.role("states", "note_reader", regions=["US"])
        session = published.login(published.role("person", europe, states))
        session.execute(f"SET plan_cache_mode = {mode}; {self.STATEMENT}")  # type: ignore[arg-type]
        for role, expected in ((europe, [1]), (states, [2]), (europe, [1])):
            session.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            for _ in range(6):
                breach(self._ids(session) != expected, f"the plan of before, as {role}")
        session.execute("RESET ROLE")
        assert self._ids(session) == [1, 2]  # inherits of both

    @attack(CONSTANT_ATTRIBUTES)
    def test_follow_changed_attributes(self, published: World) -> None:
        person = published.role("person", "note_reader", regions=["EU", "US"])
        session = published.login(person)
        session.execute("SET plan_cache_mode = force_generic_plan; " + self.STATEMENT)
        assert self._ids(session) == [1, 2]
        set_attributes(published.admin, person, {"regions": ["US"]})
        breach(self._ids(session) != [2], "the attributes of before")

    @attack(NO_ROLE_ASKED)
    def test_follow_a_revoked_role(self, world: World) -> None:
        """The plan was made while she was in both roles; the privilege to select stays with the other one."""
        world.publish(
            contract(EVERYTHING, {"id": "few", "effect": "allow", "to": ["few_reader"], "when": "row.region = 'US'"})
        )
        world.note(1, region="EU")
        world.note(2, region="US")
        person = world.role("person", "note_reader", "few_reader")
        session = world.login(person)
        session.execute("SET plan_cache_mode = force_generic_plan; " + self.STATEMENT)
        assert self._ids(session) == [1, 2]
        world.admin.execute(sql.SQL("REVOKE note_reader FROM {}").format(sql.Identifier(person)))
        breach(self._ids(session) != [2], "rows of a role that was revoked")
        assert seen(session) == {2}

    def test_follow_a_role_that_is_denied_from_now_on(self, world: World) -> None:
        world.publish(
            contract(EVERYTHING, {"id": "few", "effect": "deny", "to": ["few_denied"], "when": "row.region = 'US'"})
        )
        world.note(1, region="EU")
        world.note(2, region="US")
        person = world.role("person", "note_reader")
        session = world.login(person)
        session.execute("SET plan_cache_mode = force_generic_plan; " + self.STATEMENT)
        assert self._ids(session) == [1, 2]
        world.admin.execute(sql.SQL("GRANT few_denied TO {}").format(sql.Identifier(person)))
        assert self._ids(session) == [1]
        assert seen(session) == {1}

    def test_follow_a_changed_contract(self, published: World, reader: Connection) -> None:
        reader.execute("SET plan_cache_mode = force_generic_plan; " + self.STATEMENT)
        assert self._ids(reader) == [1]
        published.publish(contract({**ALLOW, "when": "row.region in user.regions and row.price < 1"}))
        assert self._ids(reader) == []


class TestLentRights:
    """Views and SECURITY DEFINER functions of one person, used by another: nobody gains what neither may see.

    Postgres applies the policies of the owner's roles; the attributes are those of who asks."""

    DEFINER = (
        "CREATE FUNCTION {}.lent() RETURNS SETOF bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT id FROM rag_team.note'"
    )
    VIEW = "CREATE VIEW {}.shown AS SELECT id FROM rag_team.note"

    def _lend(self, world: World, lender: str) -> None:
        schema = sql.Identifier(lender)
        world.admin.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(schema, schema))
        session = world.login(lender)
        for statement in (self.DEFINER, self.VIEW):
            session.execute(sql.SQL(statement).format(schema))
        session.execute(
            sql.SQL("GRANT USAGE ON SCHEMA {} TO PUBLIC; GRANT SELECT ON {}.shown TO PUBLIC").format(schema, schema)
        )

    def _borrow(self, session: Connection, lender: str) -> list[set[int]]:
        answers = []
        for statement in ("SELECT * FROM {}.lent()", "SELECT * FROM {}.shown"):
            try:
                rows = session.execute(sql.SQL(statement).format(sql.Identifier(lender))).fetchall()
                answers.append({row[0] for row in rows})
            except psycopg.errors.InsufficientPrivilege:
                answers.append(set())
        return answers

    @attack(NO_ROLE_ASKED)
    def test_a_role_is_not_lent(self, published: World) -> None:
        """The lender has the role and no region, the borrower the region and no role."""
        lender = published.role("lender", "note_reader")
        self._lend(published, lender)
        assert self._borrow(published.login(lender), lender) == [set(), set()]
        borrower = published.login(published.role("borrower", "tidegate_reader", regions=["US"]))
        breach(self._borrow(borrower, lender) != [set(), set()], "the lender's role with the borrower's region")
        assert self._borrow(published.login(published.role("stranger", regions=["US"])), lender) == [set(), set()]

    def test_a_denial_is_not_escaped(self, world: World) -> None:
        """The borrower is denied the row, the lender does not hold the denied role, and lacks the region."""
        world.publish(
            contract(ALLOW, {"id": "few", "effect": "deny", "to": ["few_denied"], "when": "row.region = 'US'"})
        )
        world.note(1, region="EU")
        world.note(2, region="US")
        lender = world.role("lender", "note_reader", regions=["EU"])
        self._lend(world, lender)
        borrower = world.login(world.role("borrower", "note_reader", "few_denied", regions=["US"]))
        assert seen(borrower) == set()
        assert self._borrow(borrower, lender) == [set(), set()]

    def test_who_may_see_a_row_sees_it_through_a_view(self, published: World) -> None:
        lender = published.role("lender", "note_reader")
        self._lend(published, lender)
        allowed = published.login(published.role("allowed", "note_reader", regions=["US"]))
        assert self._borrow(allowed, lender) == [{2}, {2}]

    def test_the_worker_cannot_be_pretended(self, published: World, reader: Connection) -> None:
        """A restrictive rule exempts who *is* the worker; a role of a like name, or her own object, is not."""
        published.publish(contract(EVERYTHING, {"id": "eu", "effect": "require", "when": "row.region = 'EU'"}))
        reader.execute("CREATE VIEW mine.v AS SELECT id FROM rag_team.note")
        assert [row[0] for row in reader.execute("SELECT * FROM mine.v")] == [1]
        assert seen(reader) == {1}


def test_text_that_looks_like_sql_stays_text(published: World) -> None:
    """Attribute values, product names, keys."""
    evil = published.role("evil", "note_reader", regions=["EU' OR '1'='1", "US') OR true --", "{EU,US}", '"', "\\"])
    session = published.login(evil)
    assert seen(session) == set()
    for product in ("team.note' OR true --", 'team.note"; DROP TABLE rag_team.note --', "", "{team.note}"):
        with pytest.raises(psycopg.errors.UndefinedObject):
            found(session, products=[product])
    for consistency in ("none", "strict' OR true --", ""):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            session.execute(
                "SELECT * FROM tidegate.search(%s::public.vector, 1, consistency => %s)", [VECTOR, consistency]
            )
