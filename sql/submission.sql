-- Contracts that domain teams hand in. A team's login has no right on any control table: it calls these.
CREATE OR REPLACE FUNCTION tidegate.in_team_of(login text, acting text, domain text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    -- The login, so that it can be asked again later; and the role of SET ROLE, so that less rights are less.
    SELECT EXISTS (SELECT FROM tidegate.domain d JOIN pg_roles t ON t.rolname = d.team_role
                   JOIN pg_roles l ON l.rolname = in_team_of.login JOIN pg_roles a ON a.rolname = in_team_of.acting
                   WHERE d.domain = in_team_of.domain AND pg_has_role(l.oid, t.oid, 'MEMBER') AND pg_has_role(a.oid, t.oid, 'USAGE'))
$$;
COMMENT ON FUNCTION tidegate.in_team_of(text, text, text) IS
    'Whether a login, acting as a role, is of the domain''s team. Definer: reads the domains; not for readers: it takes who asks.';

CREATE OR REPLACE FUNCTION tidegate.in_team(domain text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT tidegate.in_team_of(session_user, tidegate.session_role(), domain) $$;
COMMENT ON FUNCTION tidegate.in_team(text) IS 'Whether the caller is of the domain''s team. Definer as tidegate.in_team_of is.';

CREATE OR REPLACE FUNCTION tidegate.submit(
    kind text, domain text, product text, file_name text, contract_text text, rebuild boolean DEFAULT false) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    number bigint;
BEGIN
    IF NOT coalesce(tidegate.in_team(submit.domain), false) THEN
        RAISE EXCEPTION 'role "%" is not of the team of domain "%"', tidegate.session_role(), submit.domain
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'An administrator names a domain''s team with "tidegate domain add", and admits people with GRANT <team role> TO <login>.';
    ELSIF submit.kind IS NULL OR submit.kind NOT IN ('plan', 'apply') THEN
        RAISE EXCEPTION 'kind is "%"', submit.kind USING ERRCODE = 'invalid_parameter_value', HINT = 'It is plan or apply.';
    ELSIF submit.product IS NULL OR split_part(submit.product, '.', 1) <> submit.domain THEN
        RAISE EXCEPTION 'product "%" is not of domain "%"', submit.product, submit.domain USING ERRCODE = 'invalid_parameter_value';
    ELSIF octet_length(submit.contract_text) > 1000000 THEN
        RAISE EXCEPTION 'the contract of "%" has more than a million bytes', submit.product USING ERRCODE = 'program_limit_exceeded';
    END IF;
    INSERT INTO tidegate.submission AS s (kind, domain, product, file_name, contract_text, rebuild, submitted_by)
    VALUES (submit.kind, submit.domain, submit.product, submit.file_name, submit.contract_text, coalesce(submit.rebuild, false), session_user)
    RETURNING s.submission_id INTO number;
    PERFORM pg_notify('tidegate_submission', number::text);
    RETURN number;
END
$$;
COMMENT ON FUNCTION tidegate.submit(text, text, text, text, text, boolean) IS
    'Hands a contract in, to be planned or applied by "tidegate run" or an administrator; returns its number. For the domain''s team. Definer: writes for those who may write nothing.';

CREATE OR REPLACE FUNCTION tidegate.oversees() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT pg_has_role(tidegate.session_role(), 'tidegate_admin', 'USAGE') $$;
COMMENT ON FUNCTION tidegate.oversees() IS 'Whether the caller is an administrator. Definer as tidegate.session_role is.';

CREATE OR REPLACE VIEW tidegate.submissions WITH (security_barrier) AS
SELECT s.submission_id, s.kind, s.domain, s.product, s.file_name, s.rebuild, s.submitted_by, s.submitted_at, s.state, s.outcome, s.plan, s.decided_by, s.decided_at
FROM tidegate.submission s
WHERE tidegate.in_team(s.domain) OR tidegate.oversees();
COMMENT ON VIEW tidegate.submissions IS 'What became of the contracts that the caller''s team handed in; administrators see all.';

CREATE OR REPLACE VIEW tidegate.my_domains WITH (security_barrier) AS
SELECT d.domain, d.team_role, d.review FROM tidegate.domain d
WHERE tidegate.in_team(d.domain);
COMMENT ON VIEW tidegate.my_domains IS 'The domains of whose team the caller is.';
