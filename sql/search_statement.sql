-- The one statement of a search: per product the nearest chunks and those with the words, the caller's entitlement as
-- literals beside row-level security; then the best chunk of each row, in order, checked against the live rows.
--
-- As search_scope.sql says: expressions, not queries; a search waits for each.
DROP FUNCTION IF EXISTS tidegate.search_vectors(tidegate.search_target[], @extschema:vector@.vector, jsonb, boolean);

CREATE OR REPLACE FUNCTION tidegate.search_models(scope tidegate.search_target[], query @extschema:vector@.vector, vectors jsonb, named boolean)
RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target tidegate.search_target;
    models text[] := '{}';
    size int := CASE WHEN query IS NOT NULL THEN @extschema:vector@.vector_dims(query) END;
BEGIN
    IF vectors IS NOT NULL AND query IS NOT NULL THEN
        RAISE EXCEPTION 'query and vectors are both given' USING ERRCODE = 'invalid_parameter_value', HINT = 'vectors has the vector of every model; leave query out.';
    ELSIF vectors IS NOT NULL AND jsonb_typeof(vectors) <> 'object' THEN
        RAISE EXCEPTION 'vectors is no object' USING ERRCODE = 'invalid_parameter_value', HINT = 'It is {"model": [numbers], …}.';
    END IF;
    IF vectors IS NULL THEN
        FOREACH target IN ARRAY scope LOOP
            CONTINUE WHEN target.model = ANY (models) OR NOT (named OR target.dimension = size);
            models := models || target.model;
        END LOOP;
        IF cardinality(models) > 1 THEN
            RAISE EXCEPTION 'the products have several models: %', (SELECT string_agg(m, ', ' ORDER BY m) FROM unnest(models) AS m) USING ERRCODE = 'invalid_parameter_value',
                HINT = 'Pass the question''s vector of each model: vectors => ''{"model": [numbers], …}'', or name products of one model.';
        END IF;
        models := '{}';
    END IF;
    FOREACH target IN ARRAY scope LOOP
        CONTINUE WHEN target.model = ANY (models);
        IF vectors IS NULL THEN
            CONTINUE WHEN size <> target.dimension AND NOT named;
        ELSIF NOT vectors ? target.model THEN
            CONTINUE WHEN NOT named;
            -- A code of its own: who embedded the question before the product was switched to another model does it again.
            RAISE EXCEPTION 'vectors has none of model "%", product "%"', target.model, target.product USING ERRCODE = 'TG001',
                HINT = 'It has: ' || coalesce((SELECT string_agg(v, ', ') FROM jsonb_object_keys(vectors) AS v), 'none') || '.';
        ELSIF NOT vectors -> target.model @? 'strict $ ? (@.type() == "array" && @.size() > 0)' OR vectors -> target.model @? 'strict $[*] ? (@.type() != "number")' THEN
            RAISE EXCEPTION 'vectors: that of model "%" is no list of numbers', target.model USING ERRCODE = 'invalid_parameter_value';
        ELSE
            size := jsonb_array_length(vectors -> target.model);
        END IF;
        IF size <> target.dimension THEN
            RAISE EXCEPTION 'the query vector has % dimensions, product "%" has % (model "%")', size, target.product, target.dimension, target.model
                USING ERRCODE = 'data_exception', HINT = 'Embed the question with the product''s own model.';
        END IF;
        models := models || target.model;
    END LOOP;
    -- Where no products are named, those of other models are left out; all of them is a mistake.
    IF models = '{}' AND cardinality(scope) > 0 THEN
        IF vectors IS NULL THEN
            RAISE EXCEPTION 'the query vector has % dimensions, no product that you may search has so many', size
                USING ERRCODE = 'data_exception', HINT = (SELECT 'They have ' || string_agg(DISTINCT format('%s (model "%s")', s.dimension, s.model), ', ') || '.' FROM unnest(scope) AS s);
        END IF;
        RAISE EXCEPTION 'vectors has no model of a product that you may search'
            USING ERRCODE = 'TG001', HINT = (SELECT 'They have ' || string_agg(DISTINCT format('"%s"', s.model), ', ') || '.' FROM unnest(scope) AS s);
    END IF;
    RETURN models;
END
$$;
COMMENT ON FUNCTION tidegate.search_models(tidegate.search_target[], @extschema:vector@.vector, jsonb, boolean) IS
    'The models by whose vector of the question is searched. An error where products that were named have none that fits, or none at all has.';

CREATE OR REPLACE FUNCTION tidegate.model_scales(models text[]) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(jsonb_object_agg(m.model, round(m.distance::numeric, 2)) FILTER (WHERE m.distance >= 0.01), '{}')
    FROM tidegate.model_scale m WHERE m.model = ANY (models)
$$;
COMMENT ON FUNCTION tidegate.model_scales(text[]) IS
    'How far apart, in cosine distance, two chunks are under each of the models that have nothing to do with each other. Definer: no more than this is told of the figures.';

CREATE OR REPLACE FUNCTION tidegate.search_branch(
    place int, target tidegate.search_target, narrowed text, vector text, query_text text, filter jsonb, wanted int, exact boolean)
RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key_list text[] := '{}';
    shown text := '';
    same_key text[] := '{}';
    same_words text[] := '{}';
    column_ text;
    near text;
    words text;
    distance text := CASE WHEN vector IS NULL THEN 'NULL::float8'
                          ELSE format('(t.embedding OPERATOR(@extschema:vector@.<=>) (SELECT v.vector FROM vector_%s AS v))', place) END;
BEGIN
    FOR n IN 1 .. cardinality(target.key_columns) LOOP
        column_ := 't.' || quote_ident(target.key_columns[n]);
        key_list := key_list || column_;
        -- Under names that no column has.
        shown := shown || column_ || ' AS "key ' || n || '", ';
        same_key := same_key || (column_ || ' = c.' || quote_ident(target.key_columns[n]));
        same_words := same_words || format('%s = (w.key ->> %L)::%s', column_, target.key_columns[n], target.key_types[n]);
    END LOOP;
    shown := shown || 't.chunk_no, t.content, t.committed_at, t.indexed_at, t.contract_version';
    IF vector IS NOT NULL THEN
        near := CASE WHEN target.path = 'codes' AND NOT exact THEN format(
            -- The nearest by the signs of their numbers, from the index alone; then by their distance.
            E'vector_%1$s AS MATERIALIZED (SELECT %2$s::%3$s AS vector, @extschema:vector@.binary_quantize(%2$s::%3$s)::bit(%11$s) AS codes),\nnear_%1$s AS MATERIALIZED (\n    SELECT %4$s, %5$s AS distance\n'
            '    FROM (SELECT %6$s, t.chunk_no FROM %7$s AS t WHERE %8$s ORDER BY t.codes OPERATOR(@extschema:vector@.<~>) (SELECT v.codes FROM vector_%1$s AS v) LIMIT %9$s) AS c\n'
            '    JOIN %7$s AS t ON %10$s AND t.chunk_no = c.chunk_no ORDER BY distance LIMIT %12$s\n)',
            place, vector, target.embedding_type, shown, distance, array_to_string(key_list, ', '), target.chunk_table, narrowed, greatest(target.reranked, 2 * wanted),
            array_to_string(same_key, ' AND '),
            target.dimension, wanted)
        WHEN target.path = 'hnsw' AND NOT exact THEN format(
            -- The index has halves of the vectors; what it finds is ordered by the vectors themselves.
            E'vector_%1$s AS MATERIALIZED (SELECT %2$s::%3$s AS vector, @extschema:vector@.l2_normalize(%2$s::%3$s)::@extschema:vector@.halfvec(%4$s) AS half, set_config(''hnsw.iterative_scan'', ''relaxed_order'', true), set_config(''hnsw.ef_search'', ''%5$s'', true)),\n'
            'near_%1$s AS MATERIALIZED (\n    SELECT %6$s, %7$s AS distance FROM %8$s AS t WHERE %9$s\n'
            '    ORDER BY t.embedding::@extschema:vector@.halfvec(%4$s) OPERATOR(@extschema:vector@.<=>) (SELECT v.half FROM vector_%1$s AS v) LIMIT %10$s\n)',
            place, vector, target.embedding_type, target.dimension, target.ef_search, shown, distance, target.chunk_table, narrowed, wanted)
        ELSE format(
            E'vector_%1$s AS MATERIALIZED (SELECT %2$s::%3$s AS vector),\nnear_%1$s AS MATERIALIZED (\n    SELECT %4$s, %5$s AS distance FROM %6$s AS t WHERE %7$s\n    ORDER BY %5$s + 0 LIMIT %8$s\n)',
            place, vector, target.embedding_type, shown, distance, target.chunk_table, narrowed, wanted) END;
    END IF;
    IF query_text IS NOT NULL AND target.scanned_in IS NOT NULL THEN
        words := format(
            E'words_%1$s AS MATERIALIZED (\n    SELECT %2$s, %3$s AS distance, ts_rank(d.words, q.any_of, 1)::float8 AS rank\n'
            '    FROM %4$s AS t CROSS JOIN tidegate.words_query(%5$L, %6$L) AS q CROSS JOIN LATERAL to_tsvector(%5$L::regconfig, t.content) AS d (words)\n'
            '    WHERE %7$s AND d.words @@ q.any_of ORDER BY d.words @@ q.every DESC, rank DESC LIMIT %8$s\n)',
            place, shown, distance, target.chunk_table, target.scanned_in, query_text, narrowed, wanted);
    ELSIF query_text IS NOT NULL THEN
        words := format(
            E'words_%1$s AS MATERIALIZED (\n    SELECT %2$s, %3$s AS distance, w.rank FROM tidegate.find_words(%4$L, %5$L, %6$L, %7$s) AS w\n    JOIN %8$s AS t ON %9$s AND t.chunk_no = w.chunk_no WHERE %10$s\n)',
            place, shown, distance, target.product, query_text, filter, wanted, target.chunk_table,
            array_to_string(same_words, ' AND '), narrowed);
    END IF;
    RETURN CASE WHEN near IS NULL THEN words WHEN words IS NULL THEN near ELSE near || E',\n' || words END;
END
$$;
COMMENT ON FUNCTION tidegate.search_branch(int, tidegate.search_target, text, text, text, jsonb, int, boolean) IS
    'The parts of the search statement that read one product: near_N by vector, an expression, words_N by keyword.';

CREATE OR REPLACE FUNCTION tidegate.compose_search(
    query @extschema:vector@.vector, k int, products text[], query_text text, filter jsonb, consistency text, vectors jsonb,
    wanted int DEFAULT NULL, exact boolean DEFAULT false, gathered boolean DEFAULT false, without jsonb DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    scope tidegate.search_target[];
    target tidegate.search_target;
    models text[] := '{}';
    scales jsonb := '{}';
    vector text;
    narrowed text;
    branch int := 0;
    hnsw boolean := false;
    by_vector boolean := query IS NOT NULL OR vectors IS NOT NULL;
    by_words boolean := query_text IS NOT NULL;
    parts text[] := '{}';
    near text[] := '{}';
    words text[] := '{}';
    alive text[] := '{}';
    counts text[] := '{}';
    labels text[] := '{}';
    hits text;
    column_ text;
    key_object text;
    listed text;
    live_keys text;
    checked int;
    -- Whether a list shows k rows that are live, and whether all that there is was looked at.
    live_rows constant text := CASE WHEN by_vector AND by_words THEN '(SELECT count(*) FROM alive AS a JOIN ordered AS o USING (branch, n) WHERE a.branch = %s AND o.%s) >= %s'
                                    ELSE '(SELECT count(*) FROM alive AS a WHERE a.branch = %1$s) >= %3$s' END;
    all_checked constant text := 'NOT EXISTS (SELECT FROM ordered AS o WHERE o.branch = %s AND o.n > %s)';
BEGIN
    IF NOT by_vector AND NOT by_words THEN
        RAISE EXCEPTION 'there is nothing to search for' USING ERRCODE = 'null_value_not_allowed',
            HINT = 'Pass query, the embedding of the question (or vectors), or query_text, or both.';
    ELSIF k IS NULL OR k < 1 OR k > 10000 THEN
        RAISE EXCEPTION 'k is %', k USING ERRCODE = 'invalid_parameter_value', HINT = 'It is 1 to 10000.';
    ELSIF consistency IS NULL OR consistency NOT IN ('strict', 'eventual') THEN
        RAISE EXCEPTION 'consistency is "%"', consistency USING ERRCODE = 'invalid_parameter_value', HINT = 'It is strict or eventual.';
    ELSIF query IS NOT NULL AND @extschema:vector@.vector_norm(query) = 0 THEN
        RAISE EXCEPTION 'the query vector is zero, and has no direction' USING ERRCODE = 'data_exception';
    END IF;
    wanted := coalesce(wanted, greatest(4 * k, 40));
    -- Dead rows are few; a search that was short of rows checks all that it has.
    checked := CASE WHEN exact THEN 2 * wanted ELSE 2 * k + 10 END;
    scope := tidegate.search_targets(products, filter);
    IF query IS NOT NULL AND vectors IS NULL AND cardinality(scope) = 1 AND scope[1].dimension = @extschema:vector@.vector_dims(query) THEN
        models := ARRAY[scope[1].model];
    ELSIF by_vector THEN
        models := tidegate.search_models(scope, query, vectors, products IS NOT NULL);
    END IF;
    -- Distances of several models are made comparable: 0 is the same text, 1 any other.
    IF cardinality(models) > 1 THEN
        scales := tidegate.model_scales(models);
    END IF;
    FOREACH target IN ARRAY scope LOOP
        -- Where the statement is run at once it takes the vectors as they are, not written out and read again.
        vector := CASE WHEN target.model <> ALL (models) THEN NULL
                       WHEN gathered THEN CASE WHEN vectors IS NULL THEN '$1' ELSE format('($2 ->> %L)', target.model) END
                       ELSE quote_literal(CASE WHEN vectors IS NULL THEN query::text ELSE vectors ->> target.model END) END;
        CONTINUE WHEN NOT by_words AND vector IS NULL;
        narrowed := CASE WHEN row_security_active(target.relation) AND current_user <> 'tidegate_worker' THEN target.condition ELSE 'true' END;
        IF filter IS NOT NULL THEN
            narrowed := narrowed || ' AND ' || target.filtered;
        END IF;
        IF without ->> 'product' = target.product THEN
            narrowed := narrowed || ' AND NOT (' || (
                SELECT string_agg(format('t.%I = %L::%s', u.name, without -> 'key' ->> u.name, u.type), ' AND ')
                FROM unnest(target.key_columns, target.key_types) AS u (name, type)) || ')';
        END IF;
        CONTINUE WHEN narrowed = 'false';
        branch := branch + 1;
        hnsw := target.path = 'hnsw' AND NOT exact;
        -- Where the table of that name is another one by now, nothing is read of it, and the -2 has the statement made anew.
        -- Folded to true when it is planned: by then the table is locked, and keeps its name.
        narrowed := format('%s AND %L::regclass = %s', narrowed, target.chunk_table, target.relation);
        counts := counts || format('CASE WHEN %L::regclass = %s THEN 0 ELSE -2 END', target.chunk_table, target.relation);
        parts := parts || tidegate.search_branch(branch, target, narrowed, vector, query_text, filter, wanted, exact);
        key_object := '';
        listed := '';
        live_keys := '';
        FOR n IN 1 .. cardinality(target.key_columns) LOOP
            IF n > 1 THEN
                key_object := key_object || ', ';
                listed := listed || ', ';
                live_keys := live_keys || ', ';
            END IF;
            column_ := 't."key ' || n || '"';
            key_object := key_object || quote_literal(target.key_columns[n]) || ', ' || column_;
            listed := listed || column_;
            live_keys := live_keys || format(
                CASE WHEN target.live_takes_all THEN '(SELECT array_agg((o.key ->> %L)::%s ORDER BY o.n) FROM ordered AS o WHERE o.branch = %s AND o.n <= %s)'
                     ELSE '(o.key ->> %L)::%s' END,
                target.key_columns[n], target.key_types[n], branch, checked);
        END LOOP;
        key_object := 'jsonb_build_object(' || key_object || ')';
        labels := labels || format('(%s, %L, %L)', branch, target.product, CASE WHEN target.elsewhere THEN 'eventual' ELSE consistency END);
        IF vector IS NOT NULL THEN
            near := near || format(
                E'    SELECT %1$s AS branch, %2$s AS key, t.chunk_no, t.content, t.distance, 1 - t.distance%4$s AS nearness, NULL::float8 AS rank, t.committed_at, t.indexed_at, t.contract_version\n    FROM (SELECT DISTINCT ON (%3$s) t.* FROM near_%1$s AS t ORDER BY %3$s, t.distance) AS t',
                branch, key_object, listed, ' / ' || (scales ->> target.model));
            -- A list is complete (0) where it shows all that there is, or k live rows; an HNSW scan that ended early says -1.
            counts := counts || format(
                CASE WHEN hnsw THEN 'CASE WHEN (SELECT count(*) FROM near_%1$s) < %2$s THEN -1 WHEN %3$s THEN 0 ELSE 1 END'
                     ELSE 'CASE WHEN (SELECT count(*) FROM near_%1$s) < %2$s AND %4$s THEN 0 WHEN %3$s THEN 0 ELSE 1 END' END,
                branch, wanted, format(live_rows, branch, 'by_vector', k), format(all_checked, branch, checked));
        END IF;
        IF by_words THEN
            words := words || format(
                E'    SELECT %1$s AS branch, %2$s AS key, t.chunk_no, t.content, t.distance, NULL::float8 AS nearness, t.rank::float8 AS rank, t.committed_at, t.indexed_at, t.contract_version\n    FROM (SELECT DISTINCT ON (%3$s) t.* FROM words_%1$s AS t ORDER BY %3$s, t.rank DESC) AS t',
                branch, key_object, listed);
            counts := counts || format('CASE WHEN (SELECT count(*) FROM words_%1$s) < %2$s AND %4$s THEN 0 WHEN %3$s THEN 0 ELSE 1 END',
                branch, wanted, format(live_rows, branch, 'by_words', k), format(all_checked, branch, checked));
        END IF;
        alive := alive || CASE
            WHEN consistency = 'eventual' OR target.elsewhere THEN format('    SELECT o.branch, o.n FROM ordered AS o WHERE o.branch = %s', branch)
            WHEN target.live_takes_all THEN format('    SELECT %s, l.n FROM %s(%s) AS l (n)', branch, target.live_function, live_keys)
            ELSE format('    SELECT o.branch, o.n FROM ordered AS o WHERE o.branch = %s AND %s(%s)', branch, target.live_function, live_keys) END;
    END LOOP;
    IF branch = 0 THEN
        RETURN CASE WHEN gathered THEN NULL ELSE 'SELECT (NULL::tidegate.hit).* WHERE false' END;
    END IF;
    IF cardinality(near || words) = 1 THEN
        -- Of the only list there is, the hits tell the same, without queries of their own.
        counts[2] := format(CASE WHEN hnsw AND cardinality(near) = 1 THEN 'CASE WHEN (SELECT count(*) FROM %1$s_1) < %2$s THEN -1 WHEN count(*) >= %4$s THEN 0 ELSE 1 END'
                                 ELSE 'CASE WHEN count(*) >= %4$s OR (SELECT count(*) FROM %1$s_1) <= %3$s THEN 0 ELSE 1 END' END,
                            CASE WHEN cardinality(near) = 1 THEN 'near' ELSE 'words' END, wanted, least(checked, wanted - 1), k);
    END IF;
    parts := parts || format(E'found AS (\n%s\n)', array_to_string(near || words, E'\n    UNION ALL\n'));
    parts := parts || CASE
        WHEN cardinality(near) > 0 AND by_words THEN
            E'ranked AS (\n    SELECT f.*, CASE WHEN f.nearness IS NULL THEN row_number() OVER (PARTITION BY f.nearness IS NULL ORDER BY f.rank DESC, f.branch, f.key)\n'
            '                     ELSE row_number() OVER (PARTITION BY f.nearness IS NULL ORDER BY f.nearness DESC, f.branch, f.key) END AS place FROM found AS f\n'
            '),\nscored AS (\n    -- Reciprocal rank fusion, k = 60; 1: first by vector and by words.\n'
            '    SELECT DISTINCT ON (r.branch, r.key) r.*, 30.5 * sum(1.0::float8 / (60 + r.place)) OVER (PARTITION BY r.branch, r.key) AS score,\n'
            '        bool_or(r.nearness IS NOT NULL) OVER (PARTITION BY r.branch, r.key) AS by_vector, bool_or(r.rank IS NOT NULL) OVER (PARTITION BY r.branch, r.key) AS by_words\n'
            '    FROM ranked AS r ORDER BY r.branch, r.key, r.nearness IS NULL' || E'\n)'
        WHEN by_words THEN 'scored AS (SELECT f.*, f.rank / (f.rank + 1) AS score, false AS by_vector, true AS by_words FROM found AS f)'
        ELSE 'scored AS (SELECT f.*, f.nearness AS score, true AS by_vector, false AS by_words FROM found AS f)' END;
    parts := parts || 'ordered AS MATERIALIZED (SELECT s.*, row_number() OVER (PARTITION BY s.branch ORDER BY s.score DESC, s.key)::int AS n FROM scored AS s)'::text;
    parts := parts || format(E'alive (branch, n) AS MATERIALIZED (\n%s\n)', array_to_string(alive, E'\n    UNION ALL\n'));
    hits := format(
        E'SELECT p.product, o.key, o.chunk_no, o.content, o.distance, o.committed_at, o.indexed_at, o.contract_version, p.consistency, o.score\n'
        '    FROM alive AS a JOIN ordered AS o USING (branch, n) JOIN (VALUES %s) AS p (branch, product, consistency) USING (branch)\n'
        '    ORDER BY o.score DESC, p.product, o.key LIMIT %s', array_to_string(labels, ', '), k);
    RETURN E'WITH ' || array_to_string(parts, E',\n') || CASE
        WHEN gathered THEN format(E'\nSELECT array_agg(ROW(h.*)::tidegate.hit), ARRAY[%s] FROM (%s) AS h', array_to_string(counts, ', '), hits)
        ELSE E',\nhits AS (\n    ' || hits || E'\n)\nSELECT * FROM hits ORDER BY score DESC, product, key' END;
END
$$;
COMMENT ON FUNCTION tidegate.compose_search(@extschema:vector@.vector, int, text[], text, jsonb, text, jsonb, int, boolean, boolean, jsonb) IS
    'The statement of a search by the caller, as text with all values in it as typed, quoted literals. wanted: candidates a product; exact: no approximate index; gathered: to be run with query and vectors as its parameters instead of literals, for one row, the hits and what each list says: 0 complete, 1 more is needed, -1 an approximate scan ended early, -2 the table is another one by now; without: a row to leave out.';

CREATE OR REPLACE FUNCTION tidegate.search_statement(
    query @extschema:vector@.vector DEFAULT NULL, k int DEFAULT 10, products text[] DEFAULT NULL, query_text text DEFAULT NULL,
    filter jsonb DEFAULT NULL, consistency text DEFAULT 'strict', vectors jsonb DEFAULT NULL)
RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT tidegate.compose_search(query, k, products, query_text, filter, consistency, vectors) $$;
COMMENT ON FUNCTION tidegate.search_statement(@extschema:vector@.vector, int, text[], text, jsonb, text, jsonb) IS
    'The one statement that tidegate.search runs for the caller with these arguments, for EXPLAIN and review: whole, with literals in place of all values, to be run as it is. The search itself passes the vector as a parameter, and has the rows gathered in one array.';
