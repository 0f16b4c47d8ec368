-- Who may see what, and why: one mechanism for every question about somebody else. A caller (caller.sql) meets the
-- conditions of the rules in force, evaluated over the row. Functions that end in _of take the caller and are for
-- administrators only.
CREATE OR REPLACE FUNCTION tidegate.product_key_of(product text, key jsonb) RETURNS TABLE (matches text, written text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    names text[];
    given text;
BEGIN
    SELECT p.key_columns INTO names FROM tidegate.product p WHERE p.product = product_key_of.product;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'product "%" is not published', product USING ERRCODE = 'undefined_object',
            HINT = 'SELECT product FROM tidegate.product lists what is.';
    ELSIF jsonb_typeof(key) <> 'object' AND cardinality(names) = 1 THEN
        key := jsonb_build_object(names[1], key);
    END IF;
    IF jsonb_typeof(key) <> 'object' OR ARRAY(SELECT k FROM jsonb_object_keys(key) AS k ORDER BY k) <> ARRAY(SELECT n FROM unnest(names) AS n ORDER BY n) THEN
        RAISE EXCEPTION 'key % does not fit product "%": its key is (%)', key, product, array_to_string(names, ', ')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- The types passed the contract's whitelist; values are literals.
    SELECT string_agg(format('t.%I = %L::%s', k.name, key ->> k.name, c.type), ' AND ' ORDER BY k.place),
           'SELECT ''{'' || concat_ws('','', ' || string_agg(format('%L || to_json(%L::%s)::text', to_json(k.name)::text || ':', key ->> k.name, c.type), ', ' ORDER BY k.place) || ') || ''}'''
    INTO matches, given
    FROM unnest(names) WITH ORDINALITY AS k (name, place)
    JOIN (SELECT e.column_ ->> 'name' AS name, e.column_ ->> 'physical_type' AS type
          FROM tidegate.product p CROSS JOIN jsonb_array_elements(p.contract -> 'columns') AS e (column_)
          WHERE p.product = product_key_of.product) AS c USING (name);
    EXECUTE given INTO written;
    RETURN NEXT;
EXCEPTION WHEN data_exception THEN
    RAISE EXCEPTION 'key % does not fit product "%": %', key, product, SQLERRM USING ERRCODE = 'invalid_parameter_value';
END
$$;
COMMENT ON FUNCTION tidegate.product_key_of(text, jsonb) IS
    'A key as a condition on the row t, and as the ledger writes it. Definer: reads the catalog.';

CREATE OR REPLACE FUNCTION tidegate.judged_row_of(product text, caller jsonb, key jsonb, indexed jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
AS $$
DECLARE
    p tidegate.product;
    conditions text;
    shown text;
    judged jsonb;
BEGIN
    SELECT * INTO p FROM tidegate.product o WHERE o.product = judged_row_of.product;
    SELECT coalesce(string_agg('(' || tidegate.rule_sql_of(r.condition, caller) || ')', ', ' ORDER BY r.place), '') INTO conditions
    FROM tidegate.rule r WHERE r.product_id = p.product_id;
    SELECT string_agg(format('t.%I', c.name), ', ' ORDER BY c.name) INTO shown
    FROM (SELECT unnest(r.columns) AS name FROM tidegate.rule r WHERE r.product_id = p.product_id
          UNION SELECT unnest(p.key_columns)) AS c;
    EXECUTE format(
        'SELECT jsonb_build_object(''row'', (SELECT to_jsonb(c) FROM (SELECT %s) AS c), ''truths'', to_jsonb(ARRAY[%s]::boolean[])) FROM %s AS t WHERE %s',
        shown, conditions,
        CASE WHEN indexed IS NULL THEN format('%I.%I', p.source_schema, p.source_table)
             ELSE format('jsonb_populate_record(NULL::%I.%I, $1)', p.chunk_schema, p.chunk_table) END,
        CASE WHEN indexed IS NULL THEN (SELECT k.matches FROM tidegate.product_key_of(product, key) AS k) ELSE 'true' END)
    INTO judged USING indexed;
    RETURN judged;
EXCEPTION WHEN undefined_table OR undefined_column OR insufficient_privilege THEN
    RAISE EXCEPTION 'the source of product "%" cannot be read: %', product, SQLERRM
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Apply its contract again.';
END
$$;
COMMENT ON FUNCTION tidegate.judged_row_of(text, jsonb, jsonb, jsonb) IS
    'The rules'' columns of a row and whether each rule''s condition is true, false or unknown of it, in the rules'' order: of the source row, or of the row given. NULL: there is no such row. Definer: reads the source for an administrator.';

CREATE OR REPLACE FUNCTION tidegate.decided_of(product text, caller jsonb, truths jsonb, live boolean) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH asked AS (
        SELECT caller ->> 'kind' = 'role' AND tidegate.breaks_glass_of(caller ->> 'principal', decided_of.product) AS glass,
               ARRAY(SELECT jsonb_array_elements_text(caller -> 'roles')) AS roles
    ), rule AS (
        SELECT r.effect, r.roles, (truths ->> (r.place - 1))::boolean AS truth
        FROM tidegate.rule r JOIN tidegate.product p USING (product_id) WHERE p.product = decided_of.product
    )
    -- Break-glass opens what no rule allows only for those whom the policy is for; the live check has no roles.
    SELECT (a.glass AND (live OR 'tidegate_emergency' = ANY (a.roles)))
        OR (coalesce(bool_or(r.truth) FILTER (WHERE r.effect = 'allow' AND r.roles && a.roles), false)
            AND (a.glass
                 OR coalesce(bool_and(coalesce(r.truth, false)) FILTER (WHERE r.effect = 'require'), true)
                    AND coalesce(bool_and(r.truth IS FALSE) FILTER (WHERE r.effect = 'deny' AND (r.roles = '{}' OR r.roles && a.roles)), true)))
    FROM asked a LEFT JOIN rule r ON true GROUP BY a.glass, a.roles
$$;
COMMENT ON FUNCTION tidegate.decided_of(text, jsonb, jsonb, boolean) IS
    'What the policies together say of a row whose conditions are known; live: what the check of the source row says. Definer: reads the rules.';

CREATE OR REPLACE FUNCTION tidegate.counted_rows_of(product text, caller jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    p tidegate.product;
    conditions text;
    tuples text;
    counted jsonb;
BEGIN
    SELECT * INTO p FROM tidegate.product o WHERE o.product = counted_rows_of.product;
    SELECT string_agg('(' || tidegate.rule_sql_of(r.condition, caller) || ')', ', ' ORDER BY r.place) INTO conditions
    FROM tidegate.rule r WHERE r.product_id = p.product_id;
    -- Rows with the same answers to every rule are decided together.
    EXECUTE format(
        'SELECT jsonb_agg(to_jsonb(g)) FROM (SELECT to_jsonb(ARRAY[%s]::boolean[]) AS truths, count(*) AS rows FROM %I.%I AS t GROUP BY 1) AS g',
        coalesce(conditions, ''), p.source_schema, p.source_table) INTO counted;
    RETURN coalesce(counted, '[]');
END
$$;
COMMENT ON FUNCTION tidegate.counted_rows_of(text, jsonb) IS
    'The rows of the source, counted by the truths of the rules'' conditions. Definer: reads the source for an administrator.';

CREATE OR REPLACE FUNCTION tidegate.explained_rules_of(product text, caller jsonb, judged jsonb, indexed jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH rule AS (
        SELECT r.*, (judged -> 'truths' ->> (r.place - 1))::boolean AS truth, (indexed -> 'truths' ->> (r.place - 1))::boolean AS index_truth,
               ARRAY(SELECT o FROM unnest(r.roles) AS o WHERE caller -> 'roles' ? o) AS matched
        FROM tidegate.rule r JOIN tidegate.product p USING (product_id) WHERE p.product = explained_rules_of.product
    ), reason AS (
        SELECT r.place,
               (SELECT coalesce(jsonb_object_agg(c, coalesce(judged, indexed) -> 'row' -> c), '{}') FROM unnest(r.columns) AS c) AS row_values,
               (SELECT coalesce(jsonb_object_agg(a.name, jsonb_build_object('values', caller -> 'attributes' -> a.name, 'problem', a.problem)), '{}')
                FROM (SELECT DISTINCT ON (1) p.piece ->> 'attribute' AS name, tidegate.attribute_problem_of(p.piece, caller) AS problem
                      FROM jsonb_array_elements(r.condition) AS p (piece) WHERE p.piece ? 'attribute' ORDER BY 1, 2 NULLS LAST) AS a) AS attributes
        FROM rule r
    ), outcome AS (
        SELECT r.place, v.row_values, v.attributes,
               CASE WHEN r.effect <> 'require' AND r.roles <> '{}' AND r.matched = '{}' THEN 'not for her'
                    WHEN judged IS NULL AND indexed IS NULL THEN 'applies'
                    WHEN r.effect = 'allow' THEN CASE WHEN r.shown_truth THEN 'lets her' ELSE 'does not let her' END
                    WHEN r.effect = 'require' THEN CASE WHEN r.shown_truth THEN 'passes' ELSE 'stops her' END
                    ELSE CASE WHEN r.shown_truth IS FALSE THEN 'passes' ELSE 'stops her' END END AS outcome,
               (SELECT string_agg(w.text, '; ' ORDER BY w.place, w.text) FROM (
                    SELECT 1 AS place, format('user.%s %s', a.name, CASE WHEN a.entry ->> 'problem' = 'missing' THEN 'is missing' WHEN a.entry ->> 'problem' IS NOT NULL THEN a.entry ->> 'problem'
                               ELSE '= ' || (SELECT string_agg(x, ',') FROM jsonb_array_elements_text(a.entry -> 'values') AS x) END) AS text
                    FROM jsonb_each(v.attributes) AS a (name, entry)
                    UNION ALL
                    SELECT 2, format('row.%s %s', c.name, CASE WHEN jsonb_typeof(c.value) = 'null' THEN 'is NULL' ELSE '= ' || (c.value #>> '{}') END)
                    FROM jsonb_each(v.row_values) AS c (name, value) WHERE judged IS NOT NULL OR indexed IS NOT NULL
                    UNION ALL
                    SELECT 0, 'she has none of its roles: ' || array_to_string(r.roles, ', ') WHERE r.effect <> 'require' AND r.roles <> '{}' AND r.matched = '{}'
               ) AS w) AS why
        FROM (SELECT r.*, CASE WHEN judged IS NULL THEN r.index_truth ELSE r.truth END AS shown_truth FROM rule r) AS r JOIN reason v USING (place)
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'rule', r.rule_id, 'origin', r.origin, 'effect', r.effect, 'roles', to_jsonb(r.roles), 'matched', to_jsonb(r.matched), 'when', r.when_text,
               'condition', r.truth, 'indexed_condition', r.index_truth, 'row', o.row_values, 'attributes', o.attributes,
               'outcome', o.outcome, 'why', o.why, 'policy', r.policy) ORDER BY r.place), '[]')
    FROM rule r JOIN outcome o USING (place)
$$;
COMMENT ON FUNCTION tidegate.explained_rules_of(text, jsonb, jsonb, jsonb) IS
    'Each rule in force, what it says to this caller of this row, and the values that decided. Definer: reads the rules.';

CREATE OR REPLACE FUNCTION tidegate.privileges_of(product text, caller jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    -- Whoever comes with a token has the gateway's privileges.
    SELECT jsonb_build_object(
        'login', coalesce((caller ->> 'login')::boolean, true),
        'usage', coalesce(has_schema_privilege(a.role, n.oid, 'USAGE'), false),
        'select', coalesce(has_table_privilege(a.role, c.oid, 'SELECT'), false),
        'reader', tidegate.acts_as_of(a.role, 'tidegate_reader'),
        'row_security', c.relrowsecurity,
        'foreign_policies', (SELECT coalesce(jsonb_agg(o.polname ORDER BY o.polname), '[]') FROM pg_policy o WHERE o.polrelid = c.oid
                             AND o.polcmd IN ('r', '*') AND o.polname <> 'tidegate_worker'
                             AND coalesce(obj_description(o.oid, 'pg_policy'), '') !~ '^tidegate[ :]'))
    FROM (SELECT coalesce(caller ->> 'role', 'tidegate_gateway') AS role) AS a
    CROSS JOIN tidegate.product p
    LEFT JOIN pg_namespace n ON n.nspname = p.chunk_schema
    LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.chunk_table
    WHERE p.product = privileges_of.product
$$;
COMMENT ON FUNCTION tidegate.privileges_of(text, jsonb) IS
    'What a caller may do with a chunk table before any rule is asked. Definer: looks into schemas that the administrator may not.';

CREATE OR REPLACE FUNCTION tidegate.verdict_of(product text, caller jsonb, key jsonb, indexed jsonb, judged jsonb, index_judged jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    p tidegate.product;
    privileges jsonb := tidegate.privileges_of(product, caller);
    ledger_state text;
    parked text;
    there boolean;
    passes boolean;
    bypasses boolean := coalesce((caller ->> 'superuser')::boolean OR (caller ->> 'bypassrls')::boolean, false);
    live boolean;
    may boolean;
    sees boolean;
BEGIN
    SELECT * INTO p FROM tidegate.product o WHERE o.product = verdict_of.product;
    SELECT l.state, d.kind || ': ' || d.reason INTO ledger_state, parked
    FROM tidegate.product_key_of(product, key) AS k
    LEFT JOIN tidegate.ledger l ON l.product_id = p.product_id AND l.key = k.written
    LEFT JOIN tidegate.dead_letter d ON d.product_id = p.product_id AND d.key = k.written;
    there := CASE WHEN indexed IS NULL THEN coalesce(ledger_state = 'indexed', false) ELSE (indexed ->> 'found')::boolean END;
    -- Where the indexed row could not be read, it is taken to be as the source row is.
    passes := tidegate.decided_of(product, caller, coalesce(index_judged, judged) -> 'truths', false);
    live := judged IS NOT NULL AND tidegate.decided_of(product, caller, judged -> 'truths', true);
    may := (privileges ->> 'usage')::boolean AND (privileges ->> 'select')::boolean;
    sees := may AND there AND (bypasses OR NOT (privileges ->> 'row_security')::boolean OR passes);
    RETURN jsonb_build_object(
        'sees', sees,
        'finds', sees AND live AND (privileges ->> 'reader')::boolean AND p.state <> 'suspended',
        'privileges', privileges,
        'source', jsonb_build_object('found', judged IS NOT NULL, 'rules_let_her', live),
        'index', jsonb_build_object('state', coalesce(ledger_state, 'unknown'), 'parked', parked, 'compared', indexed IS NOT NULL, 'found', there,
            'rules_let_her', there AND passes,
            'differs', (SELECT coalesce(jsonb_object_agg(s.name, jsonb_build_object('source', s.value, 'index', index_judged -> 'row' -> s.name)), '{}')
                        FROM jsonb_each(judged -> 'row') AS s (name, value)
                        WHERE index_judged IS NOT NULL AND s.value IS DISTINCT FROM index_judged -> 'row' -> s.name)));
END
$$;
COMMENT ON FUNCTION tidegate.verdict_of(text, jsonb, jsonb, jsonb, jsonb, jsonb) IS
    'Whether a caller sees an indexed row by plain SQL, and finds it by a strict search, which asks the source row too. Definer: reads ledger and catalog.';

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
                    WHEN NOT (verdict -> 'source' ->> 'found')::boolean THEN 'the row is not in the source' END
            || CASE WHEN verdict -> 'index' ->> 'parked' IS NOT NULL THEN format('the row is parked as a dead letter: %s', verdict -> 'index' ->> 'parked')
                    WHEN NOT (verdict -> 'index' ->> 'found')::boolean THEN 'the row is not in the index' END
            || CASE WHEN verdict -> 'index' -> 'differs' <> '{}' THEN format('the index has other values than the source: %s',
                    (SELECT string_agg(format('%s is %s, in the source %s', d.name, coalesce(d.entry ->> 'index', 'NULL'), coalesce(d.entry ->> 'source', 'NULL')), '; ' ORDER BY d.name) FROM jsonb_each(verdict -> 'index' -> 'differs') AS d (name, entry))) END
            || CASE WHEN NOT (verdict -> 'index' ->> 'compared')::boolean THEN 'the indexed row was not compared: your login may not be tidegate_worker' END
            || ARRAY(SELECT format('rule %s %s: %s', r ->> 'rule', r ->> 'outcome', coalesce(nullif(r ->> 'why', ''), 'always')) FROM jsonb_array_elements(rules) WITH ORDINALITY AS u (r, place)
                     WHERE r ->> 'outcome' IN ('lets her', 'stops her') ORDER BY place);
    END IF;
    because := because
        || CASE WHEN NOT EXISTS (SELECT FROM jsonb_array_elements(rules) AS r WHERE r ->> 'effect' = 'allow') THEN 'no rule allows anybody anything'
                WHEN NOT EXISTS (SELECT FROM jsonb_array_elements(rules) AS r WHERE r ->> 'effect' = 'allow' AND r -> 'matched' <> '[]') THEN 'no allow rule is for a role of hers'
                WHEN key IS NOT NULL AND NOT EXISTS (SELECT FROM jsonb_array_elements(rules) AS r WHERE r ->> 'outcome' = 'lets her') THEN 'no allow rule opens the row to her' END;
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

CREATE OR REPLACE FUNCTION tidegate.who_can_see(product text, key jsonb)
RETURNS TABLE (role text, how text, login boolean, rules text[], sees boolean, finds boolean)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT * FROM tidegate.seers_of(product, key, tidegate.indexed_row(product, key)) $$;
COMMENT ON FUNCTION tidegate.who_can_see(text, jsonb) IS
    'All roles that see the row now and by which rule, superusers and BYPASSRLS among them; token issuers whose roles could. sees: by plain SQL; finds: by a strict search too. For administrators.';
