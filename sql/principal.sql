-- Who asks, and what is known of them. All SECURITY DEFINER: they read tidegate.principal_attribute, which
-- readers cannot read. None takes the principal as an argument, so nobody can ask on behalf of somebody else.
-- In the session of a gateway (token.sql) the caller is what her token says, and nothing else of the session counts.
CREATE OR REPLACE FUNCTION tidegate.session_role() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE current_setting('role') WHEN 'none' THEN session_user::text ELSE current_setting('role') END $$;
COMMENT ON FUNCTION tidegate.session_role() IS
    'The role whose rights apply: the one of SET ROLE, else the login. Definer only so that it also holds inside definers, where current_user is the owner.';

CREATE OR REPLACE FUNCTION tidegate.principal() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE WHEN tidegate.gateway() IS NULL THEN tidegate.session_role() ELSE tidegate.token_principal() END;
END
$$;
COMMENT ON FUNCTION tidegate.principal() IS
    'Who asks: the role whose rights apply; through a gateway the principal of the token, NULL without a good one. Definer as tidegate.session_role is.';

CREATE OR REPLACE FUNCTION tidegate.acts_as_of(principal text, role_name text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT pg_has_role(p.oid, r.oid, 'USAGE')
                     FROM pg_roles r JOIN pg_roles p ON p.rolname = acts_as_of.principal
                     WHERE r.rolname = role_name), false)
$$;
COMMENT ON FUNCTION tidegate.acts_as_of(text, text) IS
    'Whether this role has the privileges of that one. An unknown role: false. Definer; not for readers: it takes the principal.';

CREATE OR REPLACE FUNCTION tidegate.acts_as(role_name text) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    roles text[];
BEGIN
    IF tidegate.gateway() IS NULL THEN
        RETURN tidegate.acts_as_of(tidegate.session_role(), role_name);
    END IF;
    roles := tidegate.token_roles();
    -- NULL, not false, for nobody: "deny to ROLE" must hide from whom nothing is known of.
    RETURN CASE WHEN roles IS NOT NULL THEN tidegate.roles_act_as_of(roles, role_name) END;
END
$$;
COMMENT ON FUNCTION tidegate.acts_as(text) IS
    'Whether the caller has the privileges of this role, as a policy TO that role would see it. An unknown role: false; a gateway without a good token: NULL. Definer only so that policies need no more privileges than this one.';

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
CREATE OR REPLACE FUNCTION tidegate.attribute_texts_of(principal text, attribute_name text) RETURNS text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked oid := to_regrole(quote_ident(principal));
    own text[];
BEGIN
    SELECT a.attribute_values INTO own FROM tidegate.principal_attribute a
    WHERE a.principal = attribute_texts_of.principal AND a.attribute = attribute_name AND a.role_oid = asked;
    IF own IS NOT NULL THEN
        RETURN own;
    END IF;
    RETURN (SELECT array_agg(DISTINCT v.value)
            FROM tidegate.principal_attribute a
            JOIN pg_roles r ON r.oid = a.role_oid AND r.rolname = a.principal
            -- A superuser is a member of everything; only memberships that somebody granted count.
            JOIN pg_roles s ON s.rolname = attribute_texts_of.principal AND s.oid <> r.oid AND NOT s.rolsuper AND pg_has_role(s.oid, r.oid, 'USAGE')
            CROSS JOIN LATERAL unnest(a.attribute_values) AS v (value)
            WHERE a.attribute = attribute_name);
END
$$;
COMMENT ON FUNCTION tidegate.attribute_texts_of(text, text) IS
    'A role''s values of an attribute; NULL where there are none. Definer; not for readers: it takes the principal.';

CREATE OR REPLACE FUNCTION tidegate.attribute_texts(attribute_name text) RETURNS text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE WHEN tidegate.gateway() IS NULL THEN tidegate.attribute_texts_of(tidegate.session_role(), attribute_name)
                ELSE tidegate.token_attribute_texts(attribute_name) END;
END
$$;
COMMENT ON FUNCTION tidegate.attribute_texts(text) IS
    'The caller''s values of an attribute; NULL where there are none. Through a gateway those of the token only. Definer: reads the private table for the caller only.';

-- The only value as the type, or all of them; NULL where there is not exactly one, or one is malformed. That shows
-- nothing, and no error tells. Time zone and date style are pinned: a caller who sets her own must not move a
-- rule. NaN, greater than every number in Postgres, counts as malformed: it would pass every limit.
DO $do$
DECLARE
    typed text;
BEGIN
    FOREACH typed IN ARRAY ARRAY['text', 'bigint', 'numeric', 'boolean', 'uuid', 'timestamptz', 'date'] LOOP
        EXECUTE format($fn$
            CREATE OR REPLACE FUNCTION tidegate.only_%1$s(texts text[]) RETURNS %1$s
            LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
            AS $$
            BEGIN
                RETURN CASE WHEN cardinality(texts) = 1 THEN nullif(texts[1]::%1$s::text, 'NaN')::%1$s END;
            EXCEPTION WHEN data_exception THEN
                RETURN NULL;
            END
            $$;
            COMMENT ON FUNCTION tidegate.only_%1$s(text[]) IS 'The only text, cast; NULL where it cannot be, or is not the only one.';
            CREATE OR REPLACE FUNCTION tidegate.all_%1$ss(texts text[]) RETURNS %1$s[]
            LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
            AS $$
            BEGIN
                RETURN CASE WHEN NOT coalesce('NaN' = ANY (texts::%1$s[]::text[]), false) THEN texts::%1$s[] END;
            EXCEPTION WHEN data_exception THEN
                RETURN NULL;
            END
            $$;
            COMMENT ON FUNCTION tidegate.all_%1$ss(text[]) IS 'The texts, cast; NULL where any of them cannot be.';
        $fn$, typed);
        EXECUTE format($fn$
            CREATE OR REPLACE FUNCTION tidegate.attribute_%1$s(attribute_name text) RETURNS %1$s
            LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            AS $$ SELECT tidegate.only_%1$s(tidegate.attribute_texts(attribute_name)) $$;
            CREATE OR REPLACE FUNCTION tidegate.attribute_%1$s_of(principal text, attribute_name text) RETURNS %1$s
            LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            AS $$ SELECT tidegate.only_%1$s(tidegate.attribute_texts_of(principal, attribute_name)) $$;
            COMMENT ON FUNCTION tidegate.attribute_%1$s(text) IS
                'The caller''s value of an attribute, cast; NULL unless there is exactly one, and it can be. Definer as tidegate.attribute_texts is.';
            COMMENT ON FUNCTION tidegate.attribute_%1$s_of(text, text) IS
                'A role''s value of an attribute, cast. Definer; not for readers: it takes the principal.';
        $fn$, typed);
        -- The texts themselves are there already: they are what the others are made of.
        IF typed <> 'text' THEN
            EXECUTE format($fn$
                CREATE OR REPLACE FUNCTION tidegate.attribute_%1$ss(attribute_name text) RETURNS %1$s[]
                LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
                AS $$ SELECT tidegate.all_%1$ss(tidegate.attribute_texts(attribute_name)) $$;
                CREATE OR REPLACE FUNCTION tidegate.attribute_%1$ss_of(principal text, attribute_name text) RETURNS %1$s[]
                LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
                AS $$ SELECT tidegate.all_%1$ss(tidegate.attribute_texts_of(principal, attribute_name)) $$;
                COMMENT ON FUNCTION tidegate.attribute_%1$ss(text) IS
                    'The caller''s values of an attribute, cast; NULL where any cannot be. Definer as tidegate.attribute_texts is.';
                COMMENT ON FUNCTION tidegate.attribute_%1$ss_of(text, text) IS
                    'A role''s values of an attribute, cast. Definer; not for readers: it takes the principal.';
            $fn$, typed);
        END IF;
    END LOOP;
END
$do$;

CREATE OR REPLACE FUNCTION tidegate.whoami(OUT principal text, OUT roles text[], OUT attributes jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT tidegate.principal(),
           (SELECT coalesce(array_agg(r.rolname::text ORDER BY r.rolname), '{}')
            FROM pg_roles r
            WHERE CASE WHEN tidegate.gateway() IS NULL
                       THEN pg_has_role(tidegate.session_role(), r.oid, 'USAGE') AND r.rolname <> tidegate.session_role()
                            AND NOT (SELECT s.rolsuper FROM pg_roles s WHERE s.rolname = tidegate.session_role())
                       ELSE r.rolname = ANY ((SELECT tidegate.token_roles())::text[]) END),
           (SELECT coalesce(jsonb_object_agg(n.attribute, to_jsonb(tidegate.attribute_texts(n.attribute)))
                            FILTER (WHERE tidegate.attribute_texts(n.attribute) IS NOT NULL), '{}')
            FROM (SELECT a.attribute FROM tidegate.principal_attribute a WHERE tidegate.gateway() IS NULL
                  UNION SELECT jsonb_object_keys(i.attribute_map) FROM tidegate.token_issuer i
                  WHERE i.issuer = (SELECT tidegate.verified_claims() ->> 'iss')) AS n)
$$;
COMMENT ON FUNCTION tidegate.whoami() IS
    'The caller as the policies see them: principal, roles, attributes. Definer: reads the private table for the caller only.';

CREATE OR REPLACE FUNCTION tidegate.breaks_glass_of(principal text, product text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM tidegate.break_glass b JOIN pg_roles r ON r.oid = b.role_oid AND r.rolname = b.principal
        WHERE b.principal = breaks_glass_of.principal AND b.ended_at IS NULL AND b.expires_at > clock_timestamp()
          AND (b.products IS NULL OR breaks_glass_of.product = ANY (b.products)))
$$;
COMMENT ON FUNCTION tidegate.breaks_glass_of(text, text) IS
    'Whether this role has an emergency grant for the product that has not expired. Definer; not for readers: it takes the principal.';

CREATE OR REPLACE FUNCTION tidegate.breaks_glass(product text) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Grants are for roles of this server; a token's principal only bears a name.
    RETURN tidegate.gateway() IS NULL AND tidegate.breaks_glass_of(tidegate.session_role(), product);
END
$$;
COMMENT ON FUNCTION tidegate.breaks_glass(text) IS
    'Whether the caller has an emergency grant for the product; through a gateway nobody. Definer: reads the private table for the caller only.';
