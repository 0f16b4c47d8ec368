-- The group roles, the extension and the two things that tidegate_owner needs to own its schemas.
-- Run by the administrator who calls `tidegate init`; safe to repeat.
DO $$
DECLARE
    group_role text;
BEGIN
    FOREACH group_role IN ARRAY ARRAY['tidegate_owner', 'tidegate_worker', 'tidegate_reader', 'tidegate_admin', 'tidegate_gateway', 'tidegate_emergency']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = group_role) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', group_role);
        END IF;
    END LOOP;
    -- From 16 on, who makes a role may grant it but not yet act as it.
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        EXECUTE pg_catalog.format(
            'GRANT tidegate_owner, tidegate_worker TO %I' || CASE WHEN current_setting('server_version_num')::int >= 160000
            THEN ' WITH INHERIT TRUE, SET TRUE' ELSE '' END, current_user);
    END IF;
    EXECUTE pg_catalog.format('GRANT CREATE ON DATABASE %I TO tidegate_owner', pg_catalog.current_database());
END
$$;
GRANT tidegate_reader TO tidegate_worker;
GRANT tidegate_reader TO tidegate_admin;
GRANT tidegate_reader TO tidegate_gateway;
GRANT tidegate_reader TO tidegate_emergency;
-- So that tidegate.break_glass_begin() may grant it, whoever of tidegate_admin calls.
GRANT tidegate_emergency TO tidegate_owner WITH ADMIN OPTION;
CREATE EXTENSION IF NOT EXISTS vector;
CREATE SCHEMA IF NOT EXISTS tidegate AUTHORIZATION tidegate_owner;
COMMENT ON SCHEMA tidegate IS 'tidegate: control schema; readers may use its functions and views, not its tables';
