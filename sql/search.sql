-- Search: vector order under the caller's own rights. @extschema:vector@ is the schema that pgvector is in.
DO $$
BEGIN
    IF to_regtype('tidegate.hit') IS NULL THEN
        CREATE TYPE tidegate.hit AS (
            product text, key jsonb, chunk_no int, content text, distance float8, committed_at timestamptz,
            indexed_at timestamptz, contract_version text, consistency text);
        COMMENT ON TYPE tidegate.hit IS 'One row of tidegate.search: the best chunk of a source row.';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION tidegate.search_targets(products text[], dimension int)
RETURNS TABLE (product text, chunk_table text, live_function text, key_columns text[], key_types text[], has_vector_index boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    named text;
    offered record;
BEGIN
    FOREACH named IN ARRAY coalesce(products, '{}') LOOP
        SELECT p.dimension, p.model, p.state, p.state_reason INTO offered FROM tidegate.product p
        WHERE p.product = named AND p.product_id IN (SELECT tidegate.offered_products());
        IF NOT FOUND THEN
            RAISE EXCEPTION 'product "%" is not published, or not offered to role "%"', named, coalesce(tidegate.principal(), tidegate.session_role())
                USING ERRCODE = 'undefined_object', HINT = 'SELECT product FROM tidegate.products lists what you may search.';
        ELSIF offered.state = 'suspended' THEN
            RAISE EXCEPTION 'product "%" is suspended: %', named, offered.state_reason
                USING ERRCODE = 'object_not_in_prerequisite_state';
        ELSIF offered.dimension <> search_targets.dimension THEN
            RAISE EXCEPTION 'the query vector has % dimensions, product "%" has % (model "%")', search_targets.dimension, named, offered.dimension, offered.model
                USING ERRCODE = 'data_exception', HINT = 'Embed the question with the product''s own model.';
        END IF;
    END LOOP;
    RETURN QUERY
    SELECT p.product, format('%I.%I', p.chunk_schema, p.chunk_table),
           CASE WHEN p.live_function IS NOT NULL THEN format('%I.%I', p.chunk_schema, p.live_function) END, p.key_columns,
           (SELECT array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY u.n)
            FROM unnest(p.key_columns) WITH ORDINALITY AS u(name, n)
            JOIN pg_attribute a ON a.attname = u.name AND a.attrelid = to_regclass(format('%I.%I', p.chunk_schema, p.chunk_table))),
           EXISTS (SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am a ON a.oid = x.relam
                   WHERE i.indrelid = to_regclass(format('%I.%I', p.chunk_schema, p.chunk_table)) AND a.amname = 'hnsw' AND i.indisvalid)
    FROM tidegate.product p
    WHERE p.state <> 'suspended' AND p.dimension = search_targets.dimension
      AND p.product_id IN (SELECT tidegate.offered_products())
      AND (products IS NULL OR p.product = ANY (products));
END
$$;
COMMENT ON FUNCTION tidegate.search_targets(text[], int) IS
    'The chunk tables that a search by the caller goes to. Definer: reads the catalog; shows only what the caller may select from.';

CREATE OR REPLACE FUNCTION tidegate.search_statement(
    products text[], dimension int, consistency text DEFAULT 'strict', exact boolean DEFAULT false)
RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target record;
    branches text[] := '{}';
    live_checks text := '';
    eventual text[] := '{}';
BEGIN
    IF consistency NOT IN ('strict', 'eventual') THEN
        RAISE EXCEPTION 'consistency is "%"', consistency USING ERRCODE = 'invalid_parameter_value', HINT = 'It is strict or eventual.';
    END IF;
    FOR target IN SELECT * FROM tidegate.search_targets(products, dimension) LOOP
        IF target.live_function IS NULL THEN
            -- The rows are in another database, which no function here can ask.
            eventual := eventual || target.product;
        END IF;
        live_checks := live_checks || CASE WHEN target.live_function IS NULL THEN format(E'\n        WHEN %L THEN true', target.product) ELSE (
            SELECT format(E'\n        WHEN %L THEN %s(%s)', target.product, target.live_function,
                          string_agg(format('(o.key ->> %L)::%s', k, t), ', ' ORDER BY n))
            FROM unnest(target.key_columns, target.key_types) WITH ORDINALITY AS u(k, t, n)) END;
        branches := branches || format(
            $branch$
    SELECT %L::text AS product, jsonb_build_object(%s) AS key, c.chunk_no, c.content, c.distance, c.committed_at,
           c.indexed_at, c.contract_version
    FROM (SELECT t.*, t.embedding OPERATOR(@extschema:vector@.<=>) $1 AS distance
          FROM %s AS t ORDER BY %s LIMIT $2) AS c$branch$,
            target.product,
            (SELECT string_agg(format('%L, c.%I', k, k), ', ' ORDER BY n) FROM unnest(target.key_columns) WITH ORDINALITY AS u(k, n)),
            target.chunk_table,
            -- Adding zero keeps the planner from the HNSW index: exact order over what the caller may see.
            CASE WHEN exact OR NOT target.has_vector_index THEN '(t.embedding OPERATOR(@extschema:vector@.<=>) $1) + 0'
                 ELSE 't.embedding OPERATOR(@extschema:vector@.<=>) $1' END);
    END LOOP;
    IF cardinality(branches) = 0 THEN
        RETURN NULL;
    END IF;
    RETURN format(
        $statement$WITH candidate AS MATERIALIZED (%s
), best AS (
    SELECT DISTINCT ON (c.product, c.key) c.* FROM candidate AS c ORDER BY c.product, c.key, c.distance
), ordered AS MATERIALIZED (
    SELECT b.* FROM best AS b ORDER BY b.distance, b.product, b.key
), top AS (
    -- Live checks run down the order and end with the k-th row that is live.
    SELECT o.* FROM ordered AS o WHERE %s LIMIT $3
)
SELECT array_agg(ROW(t.product, t.key, t.chunk_no, t.content, t.distance, t.committed_at, t.indexed_at, t.contract_version, %s)::tidegate.hit
                 ORDER BY t.distance, t.product, t.key),
       (SELECT coalesce(max(n.candidates), 0) FROM (SELECT count(*) AS candidates FROM candidate AS c GROUP BY c.product) AS n)
FROM top AS t$statement$, array_to_string(branches, E'\n    UNION ALL'),
        CASE consistency WHEN 'strict' THEN format('CASE o.product%s END', live_checks) ELSE 'true' END,
        CASE WHEN eventual = '{}' THEN format('%L', consistency)
             ELSE format('CASE WHEN t.product = ANY (%L) THEN ''eventual'' ELSE %L END', eventual, consistency) END);
END
$$;
COMMENT ON FUNCTION tidegate.search_statement(text[], int, text, boolean) IS
    'The statement that tidegate.search runs for the caller, for EXPLAIN and review. $1 query vector, $2 candidates per product, $3 k.';

CREATE OR REPLACE FUNCTION tidegate.search(
    query @extschema:vector@.vector, k int DEFAULT 10, products text[] DEFAULT NULL, consistency text DEFAULT 'strict')
RETURNS SETOF tidegate.hit
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET hnsw.iterative_scan = 'relaxed_order' SET hnsw.ef_search = '200'
AS $$
DECLARE
    hits tidegate.hit[];
    candidates bigint;
    wanted bigint := greatest(4 * k, 40);
    exact boolean := false;
    statement text;
BEGIN
    IF query IS NULL THEN
        RAISE EXCEPTION 'query is NULL' USING ERRCODE = 'null_value_not_allowed', HINT = 'Pass the embedding of the question.';
    ELSIF k IS NULL OR k < 1 OR k > 10000 THEN
        RAISE EXCEPTION 'k is %', k USING ERRCODE = 'invalid_parameter_value', HINT = 'It is 1 to 10000.';
    END IF;
    LOOP
        statement := tidegate.search_statement(products, @extschema:vector@.vector_dims(query), consistency, exact);
        EXIT WHEN statement IS NULL;
        EXECUTE statement INTO hits, candidates USING query, wanted, k;
        EXIT WHEN coalesce(cardinality(hits), 0) >= k;
        -- Too few. An approximate scan may have given up early: go exact. An exact one that saw all there
        -- is has shown all there is; one that was cut (chunks of one row, rows no longer live) looks further.
        IF exact THEN
            EXIT WHEN candidates < wanted;
            wanted := wanted * 8;
        ELSE
            exact := true;
        END IF;
    END LOOP;
    RETURN QUERY SELECT (unnest(hits)).*;
END
$$;
COMMENT ON FUNCTION tidegate.search(@extschema:vector@.vector, int, text[], text) IS
    'The k source rows nearest to the query (cosine distance), of those that the caller may see: one hit a row, its best chunk. strict: checked against the live source row, where that is in this database; eventual: index only, and so says the hit. SECURITY INVOKER: row-level security applies.';
