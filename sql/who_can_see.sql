-- Everybody who may see a row: what explain.sql says of each role, and of what a token issuer may give.
CREATE OR REPLACE FUNCTION tidegate.seers_of(product text, key jsonb, indexed jsonb)
RETURNS TABLE (role text, how text, login boolean, rules text[], sees boolean, finds boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    allowed text[];
    candidate record;
    caller jsonb;
    explained jsonb;
BEGIN
    SELECT coalesce(array_agg(DISTINCT o.name), '{}') INTO allowed
    FROM tidegate.rule r JOIN tidegate.product p USING (product_id) CROSS JOIN LATERAL unnest(r.roles) AS o (name)
    WHERE p.product = seers_of.product AND r.effect = 'allow';
    FOR candidate IN
        SELECT r.rolname::text AS name, r.rolcanlogin, r.rolsuper, r.rolbypassrls, tidegate.breaks_glass_of(r.rolname, product) AS glass FROM pg_roles r
        WHERE r.rolname !~ '^pg_' AND (r.rolsuper OR r.rolbypassrls OR tidegate.breaks_glass_of(r.rolname, product)
              OR EXISTS (SELECT FROM unnest(allowed) AS a (name) WHERE tidegate.acts_as_of(r.rolname, a.name)))
        ORDER BY r.rolname
    LOOP
        caller := tidegate.caller_of(candidate.name);
        explained := tidegate.access_of(product, caller, key, indexed);
        role := candidate.name;
        how := CASE WHEN candidate.rolsuper THEN 'superuser' WHEN candidate.rolbypassrls THEN 'bypassrls' WHEN candidate.glass THEN 'break-glass' ELSE 'rule' END;
        login := candidate.rolcanlogin;
        rules := ARRAY(SELECT u ->> 'rule' FROM jsonb_array_elements(explained -> 'rules') AS u WHERE how NOT IN ('superuser', 'bypassrls') AND u ->> 'outcome' = 'lets her');
        sees := (explained ->> 'sees')::boolean;
        finds := (explained ->> 'finds')::boolean;
        IF sees THEN
            RETURN NEXT;
        END IF;
    END LOOP;
    -- People with tokens are not listed anywhere: which of the roles that an issuer may give could open it.
    FOR candidate IN SELECT i.issuer, i.role_map FROM tidegate.token_issuer i ORDER BY i.issuer LOOP
        caller := tidegate.given_caller_of(ARRAY(SELECT m.value FROM jsonb_each_text(candidate.role_map) AS m (claim, value)), '{}', NULL);
        rules := ARRAY(SELECT r.rule_id FROM tidegate.rule r JOIN tidegate.product p USING (product_id)
                       WHERE p.product = seers_of.product AND r.effect = 'allow' AND EXISTS (SELECT FROM unnest(r.roles) AS n WHERE caller -> 'roles' ? n) ORDER BY r.place);
        IF rules <> '{}' THEN
            role := candidate.issuer;
            how := 'token issuer';
            login := NULL;
            sees := NULL;
            finds := NULL;
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tidegate.seers_of(text, jsonb, jsonb) IS
    'Behind tidegate.who_can_see. Definer: reads rules, catalog and source for an administrator.';

CREATE OR REPLACE FUNCTION tidegate.who_can_see(product text, key jsonb)
RETURNS TABLE (role text, how text, login boolean, rules text[], sees boolean, finds boolean)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT * FROM tidegate.seers_of(product, key, tidegate.indexed_row(product, key)) $$;
COMMENT ON FUNCTION tidegate.who_can_see(text, jsonb) IS
    'All roles that see the row now and by which rule, superusers and BYPASSRLS among them; token issuers whose roles could. sees: by plain SQL; finds: by a strict search too. For administrators.';
