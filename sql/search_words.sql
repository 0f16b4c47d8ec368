-- The words of chunks: kept by triggers on the chunk tables, found by a definer function, of the rows that its caller
-- may see.
CREATE OR REPLACE FUNCTION tidegate.keep_words() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    language text := TG_ARGV[0];
    row_name text := CASE WHEN TG_LEVEL = 'ROW' THEN '($3)' ELSE 't' END;
    key text := (SELECT 'jsonb_build_object(' || string_agg(format('%L, %s.%I', TG_ARGV[n], row_name, TG_ARGV[n]), ', ' ORDER BY n) || ')'
                 FROM generate_series(1, TG_NARGS - 1) AS n);
BEGIN
    -- On a table of somebody else's, casts and operators of hers would run with the owner's rights.
    IF (SELECT c.relowner FROM pg_class c WHERE c.oid = TG_RELID) IS DISTINCT FROM to_regrole('tidegate_owner')::oid THEN
        RAISE EXCEPTION 'tidegate.keep_words is for chunk tables only' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF TG_OP = 'DELETE' THEN
        EXECUTE format('DELETE FROM tidegate.chunk_words AS w USING gone AS t WHERE w.relation = $1 AND w.key = %s AND w.chunk_no = t.chunk_no', key)
        USING TG_RELID;
    ELSE
        IF TG_OP = 'UPDATE' THEN
            EXECUTE format('DELETE FROM tidegate.chunk_words AS w WHERE w.relation = $1 AND w.key = %s AND w.chunk_no = ($3).chunk_no', key)
            USING TG_RELID, language, OLD;
        END IF;
        EXECUTE format('INSERT INTO tidegate.chunk_words AS w (relation, key, chunk_no, words) SELECT $1, %1$s, %2$s.chunk_no, to_tsvector($2::regconfig, %2$s.content) %3$s '
                       'ON CONFLICT (relation, key, chunk_no) DO UPDATE SET words = excluded.words',
                       key, row_name, CASE WHEN TG_LEVEL = 'ROW' THEN '' ELSE 'FROM fresh AS t' END)
        USING TG_RELID, language, NEW;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tidegate.keep_words() IS
    'Keeps tidegate.chunk_words in step with a chunk table. Arguments: text search configuration, key columns. Definer: nobody but the owner writes words.';

CREATE OR REPLACE FUNCTION tidegate.words_query(language regconfig, query_text text, OUT every tsquery, OUT any_of tsquery, OUT terms tsquery[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    every := websearch_to_tsquery(language, query_text);
    -- A question in whole sentences: rows with some of its words will do, where none has them all. What was excluded stays so.
    any_of := CASE WHEN strpos(every::text, '!') > 0 THEN every ELSE replace(every::text, ' & ', ' | ')::tsquery END;
    terms := ARRAY(SELECT quote_literal(l.lexeme)::tsquery FROM unnest(to_tsvector(language, query_text)) AS l);
END
$$;
COMMENT ON FUNCTION tidegate.words_query(regconfig, text) IS 'A text as queries: all of its words, any of them, each of them.';

CREATE OR REPLACE FUNCTION tidegate.find_words(product text, query_text text, filter jsonb, wanted int) RETURNS TABLE (key jsonb, chunk_no int, rank float8)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target tidegate.search_target;
    query record;
    statement text;
    looked_at int;
BEGIN
    SELECT * INTO target FROM tidegate.search_scope(ARRAY[find_words.product], filter) AS s;
    SELECT q.* INTO query FROM tidegate.product p
    CROSS JOIN LATERAL tidegate.words_query(coalesce(p.contract -> 'embedding' ->> 'language', 'english')::regconfig, query_text) AS q
    WHERE p.product = target.product AND p.beside IS NULL;
    IF target.product IS NULL OR target.scanned_in IS NOT NULL OR numnode(query.every) = 0 THEN
        RETURN;
    END IF;
    looked_at := greatest(2000, 4 * wanted);
    -- The chunk table is read under its own row-level security: what the caller may not see is not counted, either.
    -- Rank: the words' frequency in the chunk, each weighted by how few of the visible chunks have it.
    statement := format(
        $statement$
        WITH matched AS MATERIALIZED (
            SELECT w.key, w.chunk_no, w.words FROM tidegate.chunk_words AS w JOIN %1$s AS t ON %2$s AND t.chunk_no = w.chunk_no
            WHERE w.relation = %3$s AND w.words @@ $1 AND (%4$s) AND (%5$s) LIMIT greatest(20000, $3)
        ), found AS MATERIALIZED (
            -- Of too many, those that have the words most; only then is this looked at.
            SELECT m.* FROM matched AS m ORDER BY CASE WHEN (SELECT count(*) FROM matched) > $3 THEN ts_rank(m.words, $1, 1) END DESC LIMIT $3
        ), visible AS MATERIALIZED (
            SELECT count(*) AS chunks FROM (SELECT FROM %1$s AS t WHERE (%4$s) AND (%5$s) LIMIT 10000) AS t
        ), term AS MATERIALIZED (
            SELECT u.term, ln(1 + (greatest(v.chunks, count(*)) - count(*) FILTER (WHERE f.words @@ u.term) + 0.5) / (count(*) FILTER (WHERE f.words @@ u.term) + 0.5)) AS weight
            FROM unnest($2) AS u (term) CROSS JOIN found AS f CROSS JOIN visible AS v GROUP BY u.term, v.chunks
        )
        SELECT f.key, f.chunk_no, (SELECT sum(s.weight * ts_rank('{1,1,1,1}', f.words, s.term, 1)) FROM term AS s)::float8 AS rank
        FROM found AS f ORDER BY rank DESC NULLS LAST, f.key, f.chunk_no LIMIT $4
        $statement$,
        target.chunk_table, (SELECT string_agg(format('t.%I = (w.key ->> %L)::%s', u.name, u.name, u.type), ' AND ') FROM unnest(target.key_columns, target.key_types) AS u (name, type)),
        target.relation, target.condition, target.filtered);
    RETURN QUERY EXECUTE statement USING query.every, query.terms, looked_at, wanted;
    GET DIAGNOSTICS looked_at = ROW_COUNT;
    IF looked_at < wanted AND query.any_of <> query.every THEN
        -- Those with all words are among those with some; each is given once, by its better rank.
        RETURN QUERY EXECUTE statement USING query.any_of, query.terms, greatest(2000, 4 * wanted), wanted;
    END IF;
END
$$;
COMMENT ON FUNCTION tidegate.find_words(text, text, jsonb, int) IS
    'The chunks with these words that the caller may see, the best first. Of more than 2,000 those with the words most often are ranked; of more than 20,000 that many, whichever the index gives. Definer: reads the words of all chunks, by their index, and joins them to the chunks that the caller may see, under row-level security, before anything is counted or given.';
