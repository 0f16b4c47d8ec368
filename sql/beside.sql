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
    beside, own_embedding, built_from, hash_model)
SELECT %(name)s, s.domain, s.contract_version, s.contract, s.contract_text, s.source_schema, s.source_table, s.source_server,
    %(chunk_schema)s, s.chunk_table, s.live_function, s.key_columns, %(model)s, %(dimension)s, s.latency_ms, s.latency_percentile,
    'pending', session_user, s.product_id, %(own_embedding)s, CASE WHEN %(copied)s THEN 'chunks' ELSE 'source' END,
    CASE WHEN %(copied)s THEN coalesce(s.hash_model, s.model) END
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

-- copied_page --
-- Of the first index, what the second does not have yet, or only older.
SELECT l.key, l.position, l.state, l.document_hash, l.chunks
FROM tidegate.ledger l
WHERE l.product_id = %(first)s AND l.key > %(after)s AND l.state <> 'deleted' AND l.position[2] <= %(through)s::pg_lsn
  AND NOT EXISTS (SELECT FROM tidegate.ledger s WHERE s.product_id = %(second)s AND s.key = l.key AND s.position >= l.position)
ORDER BY l.key LIMIT %(rows)s

-- copied_rows --
-- Rows and chunks of the index that is searched.
SELECT count(*), coalesce(sum(l.chunks), 0)::bigint
FROM tidegate.ledger l JOIN tidegate.product p USING (product_id)
WHERE p.product = %(product)s AND l.state = 'indexed' AND l.chunks > 0;

-- copies_begin --
UPDATE tidegate.product SET state = 'backfilling', state_reason = NULL WHERE state = 'pending' AND built_from = 'chunks' AND source_server = %(source)s;

-- copies_due --
-- With when the contract of the first index was applied.
SELECT s.product_id, f.applied_at
FROM tidegate.product s JOIN tidegate.product f ON f.product_id = s.beside
WHERE s.state = 'backfilling' AND s.built_from = 'chunks' AND s.source_server = %(source)s;

-- copy_state --
-- Whether the second index is still to be filled, and from what: a first one that is whole, under the contract of this moment.
SELECT s.state = 'backfilling' AND s.built_from = 'chunks', f.state = 'live', f.applied_at
FROM tidegate.product s JOIN tidegate.product f ON f.product_id = s.beside
WHERE s.product_id = %(second)s;

-- copy_reaches --
-- Whether the first index has everything that was committed before.
SELECT EXISTS (SELECT FROM tidegate.lane_watermark w WHERE w.lane = %(lane)s AND w.source = %(source)s AND w.lsn >= %(through)s::pg_lsn);

-- copy_reason --
UPDATE tidegate.product SET state_reason = %(reason)s
WHERE product_id = %(second)s AND state = 'backfilling' AND state_reason IS DISTINCT FROM %(reason)s;

-- copy_done --
UPDATE tidegate.product SET state = 'live', backfilled_at = clock_timestamp(), state_reason = NULL
WHERE product_id = %(second)s AND state = 'backfilling' AND built_from = 'chunks';

-- copy_given_up --
-- The first index is cut otherwise by now: the rows come from the source.
UPDATE tidegate.product SET state = 'pending', state_reason = NULL, built_from = 'source'
WHERE product_id = %(second)s AND state = 'backfilling' AND built_from = 'chunks';
