-- Callers for questions about somebody else, resolved once to roles and attributes (of a role, given, or claimed by a
-- token), and the conditions of rules rendered with these. For administrators only.
CREATE OR REPLACE FUNCTION tidegate.caller_of(principal text) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked record;
    gateway boolean;
    held text[] := '{}';
    known jsonb := '{}';
BEGIN
    SELECT r.rolcanlogin, r.rolsuper, r.rolbypassrls INTO asked FROM pg_roles r WHERE r.rolname = caller_of.principal;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no role "%"', principal USING ERRCODE = 'undefined_object',
            HINT = 'For people who come through a gateway, give the roles and attributes of their token.';
    END IF;
    -- A superuser is a member of everything; she is no gateway for that.
    gateway := NOT asked.rolsuper AND tidegate.acts_as_of(principal, 'tidegate_gateway');
    IF NOT gateway THEN
        SELECT coalesce(array_agg(r.rolname::text ORDER BY r.rolname), '{}') INTO held
        FROM pg_roles r WHERE tidegate.acts_as_of(principal, r.rolname);
        SELECT coalesce(jsonb_object_agg(n.name, to_jsonb(n.texts)) FILTER (WHERE n.texts IS NOT NULL), '{}') INTO known
        FROM (SELECT d.name, tidegate.attribute_texts_of(principal, d.name) AS texts
              FROM (SELECT p.piece ->> 'attribute' AS name
                    FROM tidegate.rule u CROSS JOIN jsonb_array_elements(u.condition) AS p (piece)
                    WHERE p.piece ? 'attribute'
                    UNION SELECT a.attribute FROM tidegate.principal_attribute a) AS d) AS n;
    END IF;
    RETURN jsonb_build_object(
        'kind', CASE WHEN gateway THEN 'gateway' ELSE 'role' END, 'role', principal,
        'principal', CASE WHEN NOT gateway THEN principal END,
        'login', asked.rolcanlogin, 'superuser', asked.rolsuper, 'bypassrls', asked.rolbypassrls,
        'roles', to_jsonb(held), 'attributes', known);
END
$$;
COMMENT ON FUNCTION tidegate.caller_of(text) IS
    'A role as the policies see it in its own session: roles, attributes. A gateway''s login is nobody without a token. Definer: reads the private attributes.';

CREATE OR REPLACE FUNCTION tidegate.given_caller_of(roles text[], attributes jsonb, principal text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'kind', 'given', 'principal', principal,
        -- A token's role has what it inherits; a superuser's does not count.
        'roles', (SELECT coalesce(jsonb_agg(r.rolname ORDER BY r.rolname), '[]') FROM pg_roles r
                  WHERE EXISTS (SELECT FROM pg_roles g WHERE g.rolname = ANY (given_caller_of.roles) AND NOT g.rolsuper AND pg_has_role(g.oid, r.oid, 'USAGE'))),
        'attributes', (SELECT coalesce(jsonb_object_agg(a.name, CASE jsonb_typeof(a.value) WHEN 'array' THEN a.value ELSE jsonb_build_array(a.value) END)
                                       FILTER (WHERE jsonb_typeof(a.value) <> 'null'), '{}')
                       FROM jsonb_each(coalesce(given_caller_of.attributes, '{}')) AS a (name, value)))
$$;
COMMENT ON FUNCTION tidegate.given_caller_of(text[], jsonb, text) IS
    'A caller who has these roles and attributes, as one with a token has. Definer: looks up memberships.';

CREATE OR REPLACE FUNCTION tidegate.claims_caller_of(claims jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    i tidegate.token_issuer;
BEGIN
    SELECT * INTO i FROM tidegate.token_issuer t WHERE t.issuer = claims ->> 'iss';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'issuer % is not known: such a token is nobody''s', coalesce('"' || (claims ->> 'iss') || '"', '(no iss)')
            USING ERRCODE = 'undefined_object', HINT = 'SELECT issuer FROM tidegate.token_issuer lists who is.';
    END IF;
    RETURN tidegate.given_caller_of(
        ARRAY(SELECT i.role_map ->> r.claim FROM unnest(tidegate.claim_texts_of(claims, i.roles_claim)) AS r (claim) WHERE i.role_map ? r.claim),
        (SELECT coalesce(jsonb_object_agg(m.name, to_jsonb(tidegate.claim_texts_of(claims, m.path))), '{}') FROM jsonb_each_text(i.attribute_map) AS m (name, path)),
        tidegate.token_principal_of(claims, i.principal_claim));
END
$$;
COMMENT ON FUNCTION tidegate.claims_caller_of(jsonb) IS
    'The caller that a token with these claims would make, by its issuer''s mapping; the signature is not asked for. Definer: reads the issuers.';

CREATE OR REPLACE FUNCTION tidegate.attribute_sql_of(piece jsonb, caller jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN piece ->> 'function' = 'attribute_texts' THEN format('(SELECT %L::text[])', v.texts)
        ELSE format('(SELECT tidegate.%I(%L::text[]))',
                    regexp_replace(piece ->> 'function', '^attribute_', CASE WHEN piece ->> 'function' LIKE '%s' THEN 'all_' ELSE 'only_' END),
                    v.texts) END
    FROM (SELECT CASE WHEN caller -> 'attributes' ? (piece ->> 'attribute')
                      THEN ARRAY(SELECT jsonb_array_elements_text(caller -> 'attributes' -> (piece ->> 'attribute'))) END AS texts) AS v
$$;
COMMENT ON FUNCTION tidegate.attribute_sql_of(jsonb, jsonb) IS
    'SQL for a caller''s typed value of an attribute, as the policies'' own accessors type it.';

CREATE OR REPLACE FUNCTION tidegate.attribute_problem_of(piece jsonb, caller jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    texts jsonb := caller -> 'attributes' -> (piece ->> 'attribute');
    unusable boolean;
BEGIN
    IF texts IS NULL THEN
        RETURN 'missing';
    END IF;
    EXECUTE 'SELECT ' || tidegate.attribute_sql_of(piece, caller) || ' IS NULL' INTO unusable;
    RETURN CASE WHEN NOT unusable THEN NULL
                WHEN piece ->> 'function' NOT LIKE '%s' AND jsonb_array_length(texts) <> 1
                THEN format('has %s values where the rule needs one', jsonb_array_length(texts))
                ELSE format('is no %s', rtrim(regexp_replace(piece ->> 'function', '^attribute_', ''), 's')) END;
END
$$;
COMMENT ON FUNCTION tidegate.attribute_problem_of(jsonb, jsonb) IS
    'Why a rule cannot use a caller''s attribute: missing, not one value, malformed; NULL where it can.';

CREATE OR REPLACE FUNCTION tidegate.rule_sql_of(condition jsonb, caller jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    piece jsonb;
    rendered text := '';
BEGIN
    FOR piece IN SELECT p.piece FROM jsonb_array_elements(condition) WITH ORDINALITY AS p (piece, place) ORDER BY p.place LOOP
        IF jsonb_typeof(piece) = 'string' THEN
            rendered := rendered || (piece #>> '{}');
        ELSIF piece ? 'attribute' THEN
            rendered := rendered || tidegate.attribute_sql_of(piece, caller);
        ELSIF piece ? 'role' THEN
            rendered := rendered || CASE WHEN caller -> 'roles' ? (piece ->> 'role') THEN 'true' ELSE 'false' END;
        ELSIF piece ? 'many_of' THEN
            rendered := rendered || format('CASE WHEN (SELECT %1$s(%5$L)) THEN %2$s(%5$L, %4$s) ELSE %4$s = ANY ((SELECT %3$s(%5$L))::%6$s[]) END',
                piece ->> 'many_of', piece ->> 'has_of', piece ->> 'of', piece ->> 'column', caller ->> 'principal', piece ->> 'type');
        ELSIF piece ? 'member' THEN
            rendered := rendered || format('%s = ANY ((SELECT %s(%L))::%s[])', piece ->> 'column', piece ->> 'of', caller ->> 'principal', piece ->> 'type');
        ELSE
            RAISE EXCEPTION 'a rule''s condition has a part that this release does not know: %', piece;
        END IF;
    END LOOP;
    RETURN rendered;
END
$$;
COMMENT ON FUNCTION tidegate.rule_sql_of(jsonb, jsonb) IS
    'A rule''s stored condition as SQL over the row t, with a caller''s values in its places.';
