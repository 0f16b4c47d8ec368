import psycopg, pytest
from tests.security.conftest import *
from tests.security.test_search import search, unit, found
from psycopg.types.json import Jsonb

def test_keep_words_runs_reader_code_as_owner(published):
    r = published.login(published.role("mallory", "note_reader", regions=["EU"]))
    for s in [
        "CREATE TYPE pg_temp.evil AS (a text)",
        """CREATE FUNCTION pg_temp.run(pg_temp.evil) RETURNS text LANGUAGE plpgsql AS $$
           BEGIN
             RAISE NOTICE 'I am %', current_user;
             EXECUTE 'GRANT SELECT ON ALL TABLES IN SCHEMA tidegate TO PUBLIC';
             EXECUTE 'ALTER TABLE rag_team.note DISABLE ROW LEVEL SECURITY';
             RETURN current_user::text; END $$""",
        "CREATE CAST (pg_temp.evil AS text) WITH FUNCTION pg_temp.run(pg_temp.evil) AS IMPLICIT",
        "CREATE TEMP TABLE mine (id int, chunk_no int, content pg_temp.evil)",
        "CREATE TRIGGER t AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION tidegate.keep_words('english', 'id')",
    ]:
        r.execute(s)
    r.add_notice_handler(lambda d: print("NOTICE", d.message_primary))
    assert ids(r) == {1}
    r.execute("INSERT INTO mine VALUES (1, 0, ROW('x'))")
    print(r.execute("SELECT count(*) FROM tidegate.principal_attribute").fetchall(), ids(r))
    assert ids(r) == {1}
