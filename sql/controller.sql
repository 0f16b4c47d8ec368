-- may_publish --
-- Whether this session can act as the owner of what a contract makes; a team's login cannot. Without that role
-- nothing is initialised, and whoever goes on is told so.
SELECT coalesce((SELECT pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER') FROM pg_catalog.pg_roles r WHERE r.rolname = 'tidegate_owner'), true);

-- waiting --
SELECT s.submission_id FROM tidegate.submission s
WHERE s.state = 'submitted' OR (s.state = 'review' AND %(reviewed)s)
ORDER BY s.submission_id;

-- take --
SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('tidegate.submission', %(id)s));

-- give_back --
SELECT pg_catalog.pg_advisory_unlock(pg_catalog.hashtextextended('tidegate.submission', %(id)s));

-- submission --
SELECT s.submission_id, s.kind, s.domain, s.product, s.file_name, s.contract_text, s.rebuild, s.submitted_by, s.state, d.team_role, d.review
FROM tidegate.submission s LEFT JOIN tidegate.domain d USING (domain)
WHERE s.submission_id = %(id)s;

-- refuse --
UPDATE tidegate.submission
SET state = 'refused', outcome = %(outcome)s, decided_by = session_user, decided_at = clock_timestamp()
WHERE submission_id = %(id)s AND state IN ('submitted', 'review');

-- outcome --
SELECT s.state, s.outcome, s.plan FROM tidegate.submissions s WHERE s.submission_id = %(id)s;

-- submit --
SELECT tidegate.submit(%(kind)s, %(domain)s, %(product)s, %(file_name)s, %(text)s, %(rebuild)s);

-- still_in_team --
SELECT EXISTS (SELECT FROM pg_catalog.pg_roles l JOIN pg_catalog.pg_roles t ON t.rolname = %(team)s
               WHERE l.rolname = %(login)s AND pg_catalog.pg_has_role(l.oid, t.oid, 'MEMBER'));

-- team_table --
-- Whose a table is: the team's, where the team has the rights of its owner.
SELECT c.relowner::regrole::text, c.relkind::text, c.relrowsecurity,
       pg_catalog.pg_has_role(t.oid, c.relowner, 'USAGE') AS owned,
       n.nspname = %(domain)s OR pg_catalog.pg_has_role(t.oid, n.nspowner, 'USAGE') AS in_schema
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_roles t ON t.rolname = %(team)s
WHERE n.nspname = %(schema)s AND c.relname = %(table)s;

-- foreign_types --
-- Types that run somebody's code where a value is made or cast: domains with checks, and what is no enum of the team's.
SELECT a.attname, pg_catalog.format_type(a.atttypid, NULL)
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_type e ON e.oid = CASE WHEN t.typelem <> 0 AND t.typcategory = 'A' THEN t.typelem ELSE t.oid END
WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND a.attname = ANY (%(columns)s)
  AND e.typnamespace <> 'pg_catalog'::regnamespace AND e.typtype <> 'e'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = e.oid AND d.deptype = 'e');

-- dangerous_roles --
SELECT r.rolname FROM pg_catalog.pg_roles r
WHERE r.rolname = ANY (%(roles)s)
  AND (r.rolsuper OR r.rolbypassrls OR r.rolreplication OR r.rolcreaterole OR r.rolcreatedb
       OR r.rolname ~ '^(pg|tidegate)_'
       OR EXISTS (SELECT FROM pg_catalog.pg_roles g WHERE (g.rolname IN ('tidegate_owner', 'tidegate_worker', 'tidegate_admin') OR g.rolname ~ '^pg_')
                  AND pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER')));

-- published_spec --
SELECT p.contract FROM tidegate.product p WHERE p.product = %(product)s;

-- decide --
UPDATE tidegate.submission
SET state = %(state)s, outcome = %(outcome)s, plan = %(plan)s, decided_by = session_user, decided_at = clock_timestamp()
WHERE submission_id = %(id)s;

-- credit --
-- The controller's login ran it; the submitter published it.
WITH product AS (
    UPDATE tidegate.product SET applied_by = %(actor)s WHERE product = %(product)s
)
UPDATE tidegate.contract_version SET applied_by = %(actor)s
WHERE product = %(product)s AND version = %(version)s AND contract_sha256 = encode(sha256(convert_to(%(text)s, 'UTF8')), 'hex');

-- submissions --
SELECT s.submission_id, s.kind, s.domain, s.product, s.file_name, s.rebuild, s.submitted_by, s.submitted_at, s.state, s.outcome, s.decided_by, s.decided_at, s.plan
FROM tidegate.submissions s
WHERE (%(open)s AND s.state IN ('submitted', 'review')) OR NOT %(open)s
ORDER BY s.submission_id;

-- domain_add --
INSERT INTO tidegate.domain AS d (domain, team_role, review) VALUES (%(domain)s, %(role)s, %(review)s)
ON CONFLICT (domain) DO UPDATE SET team_role = excluded.team_role, review = excluded.review, added_by = session_user, added_at = clock_timestamp();

-- domain_remove --
DELETE FROM tidegate.domain WHERE domain = %(domain)s;

-- domain_list --
SELECT d.domain, d.team_role, d.review, d.added_by, d.added_at,
       (SELECT count(*) FROM tidegate.product p WHERE p.domain = d.domain AND p.beside IS NULL) AS products,
       ARRAY(SELECT m.rolname::text FROM pg_catalog.pg_roles m JOIN pg_catalog.pg_roles t ON t.rolname = d.team_role
             WHERE m.rolcanlogin AND NOT m.rolsuper AND pg_catalog.pg_has_role(m.oid, t.oid, 'MEMBER') ORDER BY m.rolname) AS members
FROM tidegate.domain d ORDER BY d.domain;
