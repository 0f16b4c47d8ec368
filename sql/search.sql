-- Search: what the caller may see, in the order of nearness, words or both. @extschema:vector@ is pgvector's schema.
DROP FUNCTION IF EXISTS tidegate.search(@extschema:vector@.vector, int, text[], text), tidegate.search_statement(text[], int, text, boolean),
    tidegate.search_targets(text[], int), tidegate.run_search(@extschema:vector@.vector, int, text[], text, jsonb, text, jsonb, jsonb);

CREATE OR REPLACE FUNCTION tidegate.search_hits(
    query @extschema:vector@.vector, k int, products text[], query_text text, filter jsonb, consistency text, vectors jsonb, without jsonb DEFAULT NULL)
RETURNS tidegate.hit[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET hnsw.iterative_scan = 'relaxed_order' SET hnsw.ef_search = '200'
AS $$
DECLARE
    hits tidegate.hit[];
    lists int[];
    wanted int := greatest(4 * k, 40);
    exact boolean := false;
    statement text;
BEGIN
    LOOP
        statement := tidegate.compose_search(query, k, products, query_text, filter, consistency, vectors, wanted, exact, true, without);
        EXIT WHEN statement IS NULL;
        EXECUTE statement INTO hits, lists USING query, vectors;
        CONTINUE WHEN -2 = ANY (lists);  -- a table changed places in between
        -- Each list by itself: another product's rows, or the words', are no reason to miss nearer ones. Exact from now
        -- on, and wider, until each shows k rows that are live, or all there is.
        EXIT WHEN NOT (lists && '{-1,1}');
        exact := true;
        wanted := wanted * 8;
    END LOOP;
    RETURN hits;
END
$$;
COMMENT ON FUNCTION tidegate.search_hits(@extschema:vector@.vector, int, text[], text, jsonb, text, jsonb, jsonb) IS
    'Runs the search''s statement; where it shows too few rows, a wider one. SECURITY INVOKER.';

CREATE OR REPLACE FUNCTION tidegate.search(
    query @extschema:vector@.vector DEFAULT NULL, k int DEFAULT 10, products text[] DEFAULT NULL, query_text text DEFAULT NULL,
    filter jsonb DEFAULT NULL, consistency text DEFAULT 'strict', vectors jsonb DEFAULT NULL)
RETURNS SETOF tidegate.hit
LANGUAGE sql STABLE
AS $$
    -- In a SELECT of its own: the planner evaluates an argument of unnest, to estimate how long the array is.
    SELECT * FROM pg_catalog.unnest((SELECT tidegate.search_hits(query, k, products, query_text, filter, consistency, vectors)))
$$;
COMMENT ON FUNCTION tidegate.search(@extschema:vector@.vector, int, text[], text, jsonb, text, jsonb) IS
    'The k best source rows of those that the caller may see: one hit a row, its best chunk. query: nearest first (cosine distance), the embedding of the question; vectors, {"model": [numbers]}, where products have several models. query_text: by words, as web searches write them; with a vector both, fused by rank. filter: {"column": value, [values], null or {"gte": …, "lt": …, "ne": …}}, columns that the contracts offer. strict: checked against the live source row, where that is in this database; eventual: index only. SECURITY INVOKER: row-level security applies.';

CREATE OR REPLACE FUNCTION tidegate.similar(
    product text, key jsonb, k int DEFAULT 10, products text[] DEFAULT NULL, filter jsonb DEFAULT NULL, consistency text DEFAULT 'strict')
RETURNS SETOF tidegate.hit
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    origin tidegate.search_target;
    matches text;
    mean text;
    there boolean;
    seen boolean := true;
BEGIN
    SELECT * INTO origin FROM tidegate.search_scope(ARRAY["similar".product]) AS s;
    IF jsonb_typeof(key) <> 'object' AND cardinality(origin.key_columns) = 1 THEN
        key := jsonb_build_object(origin.key_columns[1], key);
    END IF;
    IF key IS NULL OR jsonb_typeof(key) <> 'object' OR NOT key ?& origin.key_columns OR (SELECT count(*) FROM jsonb_object_keys(key)) <> cardinality(origin.key_columns)
        OR jsonb_path_exists(key, '$.* ? (@ == null)') THEN
        RAISE EXCEPTION 'key % does not fit product "%": its key is (%)', key, product, array_to_string(origin.key_columns, ', ')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    BEGIN
        EXECUTE (SELECT 'SELECT ' || string_agg(format('%L::%s', key ->> u.name, u.type), ', ') FROM unnest(origin.key_columns, origin.key_types) AS u (name, type));
    EXCEPTION WHEN data_exception THEN
        RAISE EXCEPTION 'key % does not fit product "%": %', key, product, SQLERRM USING ERRCODE = 'invalid_parameter_value';
    END;
    SELECT string_agg(format('t.%I = %L::%s', u.name, key ->> u.name, u.type), ' AND ') INTO matches
    FROM unnest(origin.key_columns, origin.key_types) AS u (name, type);
    -- Under row-level security; a row of several chunks is what they have in common.
    FOR attempt IN 1..3 LOOP
        EXECUTE format('SELECT @extschema:vector@.avg(t.embedding)::text, %1$L::regclass = %2$s FROM %1$s AS t WHERE %3$s AND %1$L::regclass = %2$s',
                       origin.relation::regclass, origin.relation::oid, matches) INTO mean, there;
        EXIT WHEN there;
    END LOOP;
    IF mean IS NOT NULL AND consistency = 'strict' AND NOT origin.elsewhere THEN
        EXECUTE format(CASE WHEN origin.live_takes_all THEN 'SELECT EXISTS (SELECT FROM %s(%s))' ELSE 'SELECT %s(%s)' END, origin.live_function, (
            SELECT string_agg(format(CASE WHEN origin.live_takes_all THEN 'ARRAY[%L::%s]' ELSE '%L::%s' END, key ->> u.name, u.type), ', ' ORDER BY u.place)
            FROM unnest(origin.key_columns, origin.key_types) WITH ORDINALITY AS u (name, type, place))) INTO seen;
    END IF;
    IF mean IS NULL OR NOT seen THEN
        RAISE EXCEPTION 'product "%" has no row %, or none that "%" may see', product, key, coalesce(tidegate.principal(), tidegate.session_role())
            USING ERRCODE = 'no_data_found';
    END IF;
    RETURN QUERY SELECT * FROM unnest((SELECT tidegate.search_hits(
        NULL, k, products, NULL, filter, consistency, jsonb_build_object(origin.model, mean::jsonb), jsonb_build_object('product', product, 'key', key))));
END
$$;
COMMENT ON FUNCTION tidegate.similar(text, jsonb, int, text[], jsonb, text) IS
    'The k rows nearest to a row that the caller may see, without itself; of all products with its model, or of those named. SECURITY INVOKER.';
