-- What a caller's privileges and each rule say of a row that was judged (judged_row.sql), in the source and in the index.
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
    chunks int;
    parked text;
    there boolean;
    passes boolean;
    bypasses boolean := coalesce((caller ->> 'superuser')::boolean OR (caller ->> 'bypassrls')::boolean, false);
    live boolean;
    may boolean;
    sees boolean;
BEGIN
    SELECT * INTO p FROM tidegate.product o WHERE o.product = verdict_of.product;
    SELECT l.state, l.chunks, d.kind || ': ' || d.reason INTO ledger_state, chunks, parked
    FROM tidegate.product_key_of(product, key) AS k
    LEFT JOIN tidegate.ledger l ON l.product_id = p.product_id AND l.key = k.written
    LEFT JOIN tidegate.dead_letter d ON d.product_id = p.product_id AND d.key = k.written;
    there := CASE WHEN indexed IS NULL THEN -- What waits for a model, or a budget, keeps its chunks.
                              coalesce(ledger_state = 'indexed' OR ledger_state = 'waiting' AND chunks > 0, false) ELSE (indexed ->> 'found')::boolean END;
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
