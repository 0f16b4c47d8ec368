-- Who may see what, and why: one mechanism for every question about somebody else. A caller (caller.sql) meets the
-- conditions of the rules in force, evaluated over the row (judged_row.sql), with what follows (verdict.sql).
-- Functions that end in _of take the caller and are for administrators only.
CREATE OR REPLACE FUNCTION tidegate.access_of(product text, caller jsonb, key jsonb, indexed jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    p tidegate.product;
    judged jsonb;
    index_judged jsonb;
    verdict jsonb;
    rules jsonb;
    groups jsonb;
    because text[] := '{}';
    nowhere boolean := false;
    glass boolean := caller ->> 'kind' = 'role' AND tidegate.breaks_glass_of(caller ->> 'principal', product);
BEGIN
    SELECT * INTO p FROM tidegate.product o WHERE o.product = access_of.product;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'product "%" is not published', product USING ERRCODE = 'undefined_object',
            HINT = 'SELECT product FROM tidegate.product lists what is.';
    END IF;
    IF p.source_server <> '' AND (key IS NULL OR indexed IS NULL) THEN
        RAISE EXCEPTION 'the rows of product "%" are in another database, "%", which cannot be asked from here', product, p.source_server
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Ask of one row by its key, with a login that may be tidegate_worker: the indexed row is explained then.';
    END IF;
    IF key IS NULL THEN
        groups := tidegate.counted_rows_of(product, caller);
        verdict := jsonb_build_object(
            'privileges', tidegate.privileges_of(product, caller),
            'rows', (SELECT coalesce(sum((g ->> 'rows')::bigint), 0) FROM jsonb_array_elements(groups) AS g),
            'visible_rows', (SELECT coalesce(sum((g ->> 'rows')::bigint) FILTER (WHERE tidegate.decided_of(product, caller, g -> 'truths', false)), 0)
                             FROM jsonb_array_elements(groups) AS g));
    ELSE
        IF (indexed ->> 'found')::boolean THEN
            index_judged := tidegate.judged_row_of(product, caller, key, indexed -> 'row');
        END IF;
        -- Searches take the index's word where the source is another database, and so does this.
        judged := CASE WHEN p.source_server = '' THEN tidegate.judged_row_of(product, caller, key) ELSE index_judged END;
        verdict := tidegate.verdict_of(product, caller, key, indexed, judged, index_judged);
        nowhere := judged IS NULL AND NOT (verdict -> 'index' ->> 'found')::boolean;
    END IF;
    rules := tidegate.explained_rules_of(product, caller, judged, index_judged);
    IF key IS NULL THEN
        SELECT jsonb_agg(r.rule || jsonb_build_object('rows', jsonb_build_object(
                   'true', (SELECT coalesce(sum((g ->> 'rows')::bigint), 0) FROM jsonb_array_elements(groups) AS g WHERE (g -> 'truths' ->> (r.place - 1)::int) = 'true'),
                   'false', (SELECT coalesce(sum((g ->> 'rows')::bigint), 0) FROM jsonb_array_elements(groups) AS g WHERE (g -> 'truths' ->> (r.place - 1)::int) = 'false'),
                   'unknown', (SELECT coalesce(sum((g ->> 'rows')::bigint), 0) FROM jsonb_array_elements(groups) AS g WHERE (g -> 'truths' ->> (r.place - 1)::int) IS NULL)))
                   ORDER BY r.place)
        INTO rules FROM jsonb_array_elements(rules) WITH ORDINALITY AS r (rule, place);
    END IF;
    because := because
        || CASE WHEN nowhere THEN format('there is no row of the key %s: not in the %sindex', key #>> '{}', CASE WHEN p.source_server = '' THEN 'source, and not in the ' ELSE '' END) END
        || CASE WHEN caller ->> 'kind' = 'gateway' THEN format('role "%s" is a gateway: without a verified token it is nobody', caller ->> 'role') END
        || CASE WHEN (caller ->> 'superuser')::boolean THEN 'a superuser: row-level security does not apply' WHEN (caller ->> 'bypassrls')::boolean THEN 'BYPASSRLS: row-level security does not apply' END
        || CASE WHEN NOT (verdict -> 'privileges' ->> 'login')::boolean THEN format('role "%s" cannot log in; this is what its members see after SET ROLE', caller ->> 'role') END
        || CASE WHEN NOT (verdict -> 'privileges' ->> 'usage')::boolean THEN format('no USAGE on schema %s', p.chunk_schema) END
        || CASE WHEN NOT (verdict -> 'privileges' ->> 'select')::boolean THEN format('no SELECT on %s.%s', p.chunk_schema, p.chunk_table) END
        || CASE WHEN NOT (verdict -> 'privileges' ->> 'reader')::boolean THEN 'no member of tidegate_reader: may not search' END
        || CASE WHEN NOT (verdict -> 'privileges' ->> 'row_security')::boolean THEN format('row-level security is off on %s.%s: run "tidegate drift"', p.chunk_schema, p.chunk_table) END
        || CASE WHEN jsonb_array_length(verdict -> 'privileges' -> 'foreign_policies') > 0 THEN format('policies that tidegate did not make may say otherwise: %s', (SELECT string_agg(f, ', ') FROM jsonb_array_elements_text(verdict -> 'privileges' -> 'foreign_policies') AS f)) END
        || CASE WHEN glass THEN 'break-glass is open for her' || CASE WHEN caller -> 'roles' ? 'tidegate_emergency' THEN '' ELSE ', but she is no member of tidegate_emergency' END END
        || CASE WHEN p.state = 'suspended' THEN format('the product is suspended: %s', p.state_reason) END;
    IF key IS NOT NULL THEN
        because := because
            || CASE WHEN p.source_server <> '' THEN format('its row is in another database, "%s": this is what the index has of it', p.source_server)
                    WHEN NOT nowhere AND NOT (verdict -> 'source' ->> 'found')::boolean THEN 'the row is not in the source' END
            || CASE WHEN verdict -> 'index' ->> 'parked' IS NOT NULL THEN format('the row is parked as a dead letter: %s', verdict -> 'index' ->> 'parked')
                    WHEN NOT nowhere AND NOT (verdict -> 'index' ->> 'found')::boolean THEN 'the row is not in the index' END
            || CASE WHEN verdict -> 'index' -> 'differs' <> '{}' THEN format('the index has other values than the source: %s',
                    (SELECT string_agg(format('%s is %s, in the source %s', d.name, coalesce(d.entry ->> 'index', 'NULL'), coalesce(d.entry ->> 'source', 'NULL')), '; ' ORDER BY d.name) FROM jsonb_each(verdict -> 'index' -> 'differs') AS d (name, entry))) END
            || CASE WHEN NOT (verdict -> 'index' ->> 'compared')::boolean THEN 'the indexed row was not compared: your login may not be tidegate_worker' END
            || ARRAY(SELECT format('rule %s %s: %s', r ->> 'rule', r ->> 'outcome', coalesce(nullif(r ->> 'why', ''), 'always')) FROM jsonb_array_elements(rules) WITH ORDINALITY AS u (r, place)
                     WHERE r ->> 'outcome' IN ('lets her', 'stops her') ORDER BY place);
    END IF;
    because := because
        || CASE WHEN NOT EXISTS (SELECT FROM jsonb_array_elements(rules) AS r WHERE r ->> 'effect' = 'allow') THEN 'no rule allows anybody anything'
                WHEN NOT EXISTS (SELECT FROM jsonb_array_elements(rules) AS r WHERE r ->> 'effect' = 'allow' AND r -> 'matched' <> '[]') THEN 'no allow rule is for a role of hers'
                WHEN key IS NOT NULL AND NOT nowhere AND NOT EXISTS (SELECT FROM jsonb_array_elements(rules) AS r WHERE r ->> 'outcome' = 'lets her') THEN 'no allow rule opens the row to her' END;
    RETURN jsonb_build_object(
        'product', p.product, 'contract_version', p.contract_version, 'state', p.state, 'key', key,
        'caller', (caller - 'roles') || jsonb_build_object(
            'break_glass', glass,
            -- Of a superuser's roles, which are all, only those that matter.
            'roles', (SELECT coalesce(jsonb_agg(r ORDER BY r), '[]') FROM jsonb_array_elements_text(caller -> 'roles') AS r
                      WHERE r <> coalesce(caller ->> 'role', '') AND (NOT coalesce((caller ->> 'superuser')::boolean, false) OR EXISTS (
                          SELECT FROM tidegate.rule u WHERE u.product_id = p.product_id AND r = ANY (u.roles))))),
        'missing_attributes', (SELECT coalesce(jsonb_agg(DISTINCT a.name), '[]') FROM jsonb_array_elements(rules) AS r CROSS JOIN jsonb_each(r -> 'attributes') AS a (name, entry) WHERE a.entry ->> 'problem' = 'missing'),
        'rules', coalesce(rules, '[]'), 'because', to_jsonb(array_remove(because, NULL))) || verdict;
END
$$;
COMMENT ON FUNCTION tidegate.access_of(text, jsonb, jsonb, jsonb) IS
    'The whole explanation for a resolved caller. Definer: reads rules, catalog and source for an administrator.';

CREATE OR REPLACE FUNCTION tidegate.indexed_row(product text, key jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
AS $$
DECLARE
    p tidegate.product;
    shown text;
    matches text;
    found_row jsonb;
BEGIN
    SELECT * INTO p FROM tidegate.product o WHERE o.product = indexed_row.product;
    IF key IS NULL OR p.product_id IS NULL OR NOT pg_has_role(session_user, 'tidegate_worker',
            CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END) THEN
        RETURN NULL;
    END IF;
    SELECT k.matches INTO matches FROM tidegate.product_key_of(product, key) AS k;
    SELECT string_agg(format('t.%I', c.name), ', ' ORDER BY c.name) INTO shown
    FROM (SELECT unnest(r.columns) AS name FROM tidegate.rule r WHERE r.product_id = p.product_id UNION SELECT unnest(p.key_columns)) AS c;
    -- Nobody else reads all chunks, not even their owner. The exception's subtransaction, or the end, gives the role back.
    DECLARE
        before text := current_setting('role');
    BEGIN
        PERFORM set_config('role', 'tidegate_worker', true);
        EXECUTE format('SELECT to_jsonb(c) FROM (SELECT %s FROM %I.%I AS t WHERE %s LIMIT 1) AS c', shown, p.chunk_schema, p.chunk_table, matches) INTO found_row;
        PERFORM set_config('role', before, true);
    EXCEPTION WHEN insufficient_privilege OR undefined_table OR undefined_column THEN
        RETURN NULL;
    END;
    RETURN jsonb_build_object('found', found_row IS NOT NULL, 'row', found_row);
END
$$;
COMMENT ON FUNCTION tidegate.indexed_row(text, jsonb) IS
    'The rules'' columns of an indexed row, for those who may be tidegate_worker; NULL for others. SECURITY INVOKER.';

CREATE OR REPLACE FUNCTION tidegate.explain_access(principal text, product text, key jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT tidegate.access_of(product, tidegate.caller_of(principal), key, tidegate.indexed_row(product, key)) $$;
COMMENT ON FUNCTION tidegate.explain_access(text, text, jsonb) IS
    'Which rule lets this role see the row, which stops it, with the values that decided; without a key: which rules apply, and how many rows it sees. For administrators.';

CREATE OR REPLACE FUNCTION tidegate.explain_access_as(roles text[], attributes jsonb, product text, key jsonb DEFAULT NULL, principal text DEFAULT NULL) RETURNS jsonb
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT tidegate.access_of(product, tidegate.given_caller_of(roles, attributes, principal), key, tidegate.indexed_row(product, key)) $$;
COMMENT ON FUNCTION tidegate.explain_access_as(text[], jsonb, text, jsonb, text) IS
    'The same for somebody with these roles and attributes, as people with tokens have them. For administrators.';

CREATE OR REPLACE FUNCTION tidegate.explain_access_with(claims jsonb, product text, key jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT tidegate.access_of(product, tidegate.claims_caller_of(claims), key, tidegate.indexed_row(product, key)) $$;
COMMENT ON FUNCTION tidegate.explain_access_with(jsonb, text, jsonb) IS
    'The same for whoever comes with a token that makes these claims. For administrators.';
