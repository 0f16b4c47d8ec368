-- What a search gives. Types come first: the functions name them.
DO $$
BEGIN
    IF to_regtype('tidegate.hit') IS NULL THEN
        CREATE TYPE tidegate.hit AS (
            product text, key jsonb, chunk_no int, content text, distance float8, committed_at timestamptz,
            indexed_at timestamptz, contract_version text, consistency text, score float8);
    ELSIF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = 'tidegate.hit'::regclass AND a.attname = 'score' AND NOT a.attisdropped) THEN
        ALTER TYPE tidegate.hit ADD ATTRIBUTE score float8;
    END IF;
    COMMENT ON TYPE tidegate.hit IS 'One row of tidegate.search: the best chunk of a source row. distance: cosine, NULL without a vector. score: higher is better, and compares over products. By vector 1 - distance, with several models 1 - distance / (that of two chunks of the model at random); by words rank / (rank + 1); by both reciprocal rank fusion, 1 where a row is first by each. committed_at: when the change that is shown was committed; of a row that a backfill, a repair or a retried dead letter read from the source, the moment of that read.';
    -- Of an earlier release: its functions go with it and are made below.
    IF to_regtype('tidegate.search_target') IS NOT NULL AND (
        SELECT string_agg(a.attname, ' ' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a WHERE a.attrelid = to_regclass('tidegate.search_target') AND NOT a.attisdropped)
        <> 'product relation chunk_table key_columns key_types model dimension embedding_type live_function live_takes_all elsewhere condition filtered visible path reranked ef_search scanned_in' THEN
        DROP TYPE tidegate.search_target CASCADE;
    END IF;
    IF to_regtype('tidegate.search_target') IS NULL THEN
        CREATE TYPE tidegate.search_target AS (
            product text, relation oid, chunk_table text, key_columns text[], key_types text[], model text, dimension int, embedding_type text,
            live_function text, live_takes_all boolean, elsewhere boolean, condition text, filtered text, visible float8, path text, reranked int, ef_search int, scanned_in text);
    END IF;
    COMMENT ON TYPE tidegate.search_target IS 'One row of tidegate.search_scope: a chunk table that a search goes to, the caller''s entitlement to it (condition) and her filter, about how many chunks these leave, by which path the nearest of them are found, and the language in which words are looked for in the chunks themselves, where others'' policies bind the caller.';
END
$$;
