-- Who asks, and what is known of them. All SECURITY DEFINER: they read tidegate.principal_attribute, which
-- readers cannot read. None takes the principal as an argument, so nobody can ask on behalf of somebody else.
CREATE OR REPLACE FUNCTION tidegate.principal() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE current_setting('role') WHEN 'none' THEN session_user::text ELSE current_setting('role') END $$;
COMMENT ON FUNCTION tidegate.principal() IS
    'The role whose rights apply: the one of SET ROLE, else the login. Definer only so that it also holds inside definers, where current_user is the owner.';

CREATE OR REPLACE FUNCTION tidegate.has_role(role_name text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT pg_has_role(tidegate.principal(), r.oid, 'USAGE') FROM pg_roles r WHERE r.rolname = role_name), false)
$$;
COMMENT ON FUNCTION tidegate.has_role(text) IS
    'Whether the caller has the privileges of this role, as a policy TO that role would see it. An unknown role: false. Definer only so that policies need no more privileges than this one.';

CREATE OR REPLACE FUNCTION tidegate.principal_attribute_role() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT r.oid INTO NEW.role_oid FROM pg_roles r WHERE r.rolname = NEW.principal;
    IF NEW.role_oid IS NULL THEN
        RAISE EXCEPTION 'there is no role "%"', NEW.principal USING ERRCODE = 'undefined_object';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION tidegate.principal_attribute_role() IS
    'Ties attributes to the role itself: a later role of the same name does not inherit them.';
CREATE OR REPLACE TRIGGER principal_attribute_role BEFORE INSERT OR UPDATE ON tidegate.principal_attribute
    FOR EACH ROW EXECUTE FUNCTION tidegate.principal_attribute_role();

-- Own values stand alone; a principal without own values inherits the union of those of its roles.
CREATE OR REPLACE FUNCTION tidegate.attribute_texts(attribute_name text) RETURNS text[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH own AS (
        SELECT a.attribute_values
        FROM tidegate.principal_attribute a
        JOIN pg_roles r ON r.oid = a.role_oid AND r.rolname = a.principal
        WHERE a.principal = tidegate.principal() AND a.attribute = attribute_name
    ), inherited AS (
        SELECT array_agg(DISTINCT v.value) AS attribute_values
        FROM tidegate.principal_attribute a
        JOIN pg_roles r ON r.oid = a.role_oid AND r.rolname = a.principal
        CROSS JOIN LATERAL unnest(a.attribute_values) AS v(value)
        WHERE a.attribute = attribute_name
          AND a.principal <> tidegate.principal()
          -- A superuser is a member of everything; only memberships that somebody granted count.
          AND NOT (SELECT s.rolsuper FROM pg_roles s WHERE s.rolname = tidegate.principal())
          AND pg_has_role(tidegate.principal(), r.oid, 'USAGE')
    )
    SELECT coalesce((SELECT attribute_values FROM own), (SELECT attribute_values FROM inherited))
$$;
COMMENT ON FUNCTION tidegate.attribute_texts(text) IS
    'The caller''s values of an attribute; NULL where there are none. Definer: reads the private table for the caller only.';

CREATE OR REPLACE FUNCTION tidegate.attribute_text(attribute_name text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT v[1] FROM (SELECT tidegate.attribute_texts(attribute_name) AS v) AS a WHERE cardinality(v) = 1
$$;
COMMENT ON FUNCTION tidegate.attribute_text(text) IS
    'The caller''s value of an attribute; NULL unless there is exactly one. Definer as tidegate.attribute_texts is.';

-- The typed twins. A malformed value gives NULL, which shows nothing, and no error that tells. Time zone and
-- date style are pinned: a caller who sets her own must not move a rule. NaN, greater than every number in
-- Postgres, counts as malformed: it would pass every limit.
DO $do$
DECLARE
    typed text[];
BEGIN
    FOREACH typed SLICE 1 IN ARRAY ARRAY[
        ['bigint', 'bigint'], ['numeric', 'numeric'], ['boolean', 'boolean'], ['uuid', 'uuid'],
        ['timestamptz', 'timestamptz'], ['date', 'date']]
    LOOP
        EXECUTE format($fn$
            CREATE OR REPLACE FUNCTION tidegate.attribute_%1$s(attribute_name text) RETURNS %2$s
            LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
            AS $$
            BEGIN
                RETURN nullif(tidegate.attribute_text(attribute_name)::%2$s::text, 'NaN')::%2$s;
            EXCEPTION WHEN data_exception THEN
                RETURN NULL;
            END
            $$;
            COMMENT ON FUNCTION tidegate.attribute_%1$s(text) IS 'tidegate.attribute_text, cast; NULL where it cannot be.';
            CREATE OR REPLACE FUNCTION tidegate.attribute_%1$ss(attribute_name text) RETURNS %2$s[]
            LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
            AS $$
            BEGIN
                IF 'NaN' = ANY (tidegate.attribute_texts(attribute_name)::%2$s[]::text[]) THEN
                    RETURN NULL;
                END IF;
                RETURN tidegate.attribute_texts(attribute_name)::%2$s[];
            EXCEPTION WHEN data_exception THEN
                RETURN NULL;
            END
            $$;
            COMMENT ON FUNCTION tidegate.attribute_%1$ss(text) IS 'tidegate.attribute_texts, cast; NULL where any value cannot be.';
        $fn$, typed[1], typed[2]);
    END LOOP;
END
$do$;

CREATE OR REPLACE FUNCTION tidegate.whoami(OUT principal text, OUT roles text[], OUT attributes jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT tidegate.principal(),
           (SELECT coalesce(array_agg(r.rolname::text ORDER BY r.rolname), '{}')
            FROM pg_roles r
            WHERE pg_has_role(tidegate.principal(), r.oid, 'USAGE') AND r.rolname <> tidegate.principal()
              AND NOT (SELECT s.rolsuper FROM pg_roles s WHERE s.rolname = tidegate.principal())),
           (SELECT coalesce(jsonb_object_agg(n.attribute, to_jsonb(tidegate.attribute_texts(n.attribute)))
                            FILTER (WHERE tidegate.attribute_texts(n.attribute) IS NOT NULL), '{}')
            FROM (SELECT DISTINCT attribute FROM tidegate.principal_attribute) AS n)
$$;
COMMENT ON FUNCTION tidegate.whoami() IS
    'The caller as the policies see them: principal, roles, attributes. Definer: reads the private table for the caller only.';
