-- A row judged by the rules in force, for a caller (caller.sql): the rules' conditions evaluated over it, and what they
-- say together.
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
    BEGIN
        EXECUTE given INTO written;
    EXCEPTION WHEN data_exception THEN
        RAISE EXCEPTION 'key % does not fit product "%": %', key, product, SQLERRM USING ERRCODE = 'invalid_parameter_value';
    END;
    RETURN NEXT;
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
