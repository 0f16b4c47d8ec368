-- indexes --
-- The product's indexes, each under what it really embeds; the second one is named in its own way.
SELECT p.beside IS NOT NULL AS second,
       p.contract || CASE WHEN p.own_embedding IS NULL THEN '{}' ELSE jsonb_build_object('embedding', p.own_embedding) END
                  || CASE WHEN p.beside IS NULL THEN '{}' ELSE '{"beside": true}'::jsonb END,
       p.dimension, p.state
FROM tidegate.product p
WHERE p.product = %(product)s OR p.beside = (SELECT s.product_id FROM tidegate.product s WHERE s.product = %(product)s);

-- publish_beside --
INSERT INTO tidegate.product AS p (product, domain, contract_version, contract, contract_text, source_schema, source_table, source_server,
    chunk_schema, chunk_table, live_function, key_columns, model, dimension, latency_ms, latency_percentile, state, applied_by,
    beside, own_embedding)
SELECT %(name)s, s.domain, s.contract_version, s.contract, s.contract_text, s.source_schema, s.source_table, s.source_server,
    %(chunk_schema)s, s.chunk_table, s.live_function, s.key_columns, %(model)s, %(dimension)s, s.latency_ms, s.latency_percentile,
    'pending', session_user, s.product_id, %(own_embedding)s
FROM tidegate.product s WHERE s.product = %(product)s
ON CONFLICT (beside) DO UPDATE
SET contract_version = excluded.contract_version, contract = excluded.contract, contract_text = excluded.contract_text,
    source_schema = excluded.source_schema, source_table = excluded.source_table, source_server = excluded.source_server,
    key_columns = excluded.key_columns, latency_ms = excluded.latency_ms, latency_percentile = excluded.latency_percentile,
    own_embedding = excluded.own_embedding, applied_by = session_user, applied_at = clock_timestamp(),
    state = CASE WHEN %(backfill)s THEN 'pending' ELSE p.state END,
    built_from = CASE WHEN %(backfill)s THEN 'source' ELSE p.built_from END,
    state_reason = CASE WHEN %(backfill)s THEN NULL ELSE p.state_reason END;

-- forget_beside --
DELETE FROM tidegate.product b USING tidegate.product s WHERE b.beside = s.product_id AND s.product = %(product)s;
