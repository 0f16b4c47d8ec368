-- published --
-- Each index under its own embedding: of two that stand beside each other only one is the contract's.
SELECT product_id, contract || CASE WHEN own_embedding IS NULL THEN '{}' ELSE jsonb_build_object('embedding', own_embedding) END
                            || CASE WHEN beside IS NULL THEN '{}' ELSE '{"beside": true}'::jsonb END, dimension, state, source_server,
       hash_model, built_from, beside
FROM tidegate.product;

-- mask_key --
SELECT key FROM tidegate.mask_key;

-- guard_reads --
SELECT pg_catalog.set_config(s.name, CASE s.name WHEN 'row_security' THEN 'off' ELSE 'view, foreign-table' END, true)
FROM pg_catalog.pg_settings s
WHERE s.name IN ('row_security', 'restrict_nonsystem_relation_kind')
  AND EXISTS (SELECT FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
              JOIN tidegate.product p ON 'rag_' || p.domain = n.nspname AND p.live_function = f.proname
              WHERE p.product_id = %(product_id)s
                AND EXISTS (SELECT FROM unnest(f.proconfig) AS c (setting) WHERE c.setting LIKE s.name || '=%%'));

-- source_columns --
SELECT a.attname
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND a.attnum > 0 AND NOT a.attisdropped;

-- ledger_lookup --
SELECT key, position::text, document_hash, state, chunks
FROM tidegate.ledger
WHERE product_id = %(product_id)s AND key = ANY (%(keys)s);

-- share_product --
-- Writers of rows share the product; a truncate has it alone: none of them can write an older row after it.
SELECT pg_advisory_xact_lock_shared(1953064807, %(product_id)s);

-- own_product --
SELECT pg_advisory_xact_lock(1953064807, %(product_id)s);

-- product_place --
SELECT chunk_schema FROM tidegate.product WHERE product_id = %(product_id)s;

-- ledger_advance --
-- The fence. No row back: a newer version, or a truncate, is already there. The row lock orders the writers
-- of one key. A parked or waiting row may be written again at its own position: that is the retry.
INSERT INTO tidegate.ledger AS l (product_id, key, position, document_hash, chunks, state)
SELECT %(product_id)s, n.key, ARRAY[n.after_commit, n.change], n.document_hash, n.chunks, n.state
FROM unnest(%(keys)s::text[], %(after_commits)s::pg_lsn[], %(changes)s::pg_lsn[], %(hashes)s::bytea[], %(chunks)s::int[],
            %(states)s::text[]) AS n (key, after_commit, change, document_hash, chunks, state)
WHERE EXISTS (SELECT FROM tidegate.product p WHERE p.product_id = %(product_id)s
                AND coalesce(p.truncated_at < ARRAY[n.after_commit, n.change], true)
                -- Deleted keys up to there are forgotten (index/purge.py).
                AND (coalesce(p.purged_to < ARRAY[n.after_commit, n.change], true)
                     OR EXISTS (SELECT FROM tidegate.ledger k WHERE k.product_id = p.product_id AND k.key = n.key)))
ORDER BY n.key
ON CONFLICT (product_id, key) DO UPDATE
SET position = excluded.position, document_hash = excluded.document_hash, chunks = excluded.chunks,
    state = excluded.state, written_at = clock_timestamp()
WHERE l.position < excluded.position OR (l.position = excluded.position AND l.state IN ('parked', 'waiting'))
RETURNING l.key;

-- ledger_forget --
-- The position stays: nothing older may bring the row back.
UPDATE tidegate.ledger SET state = 'deleted', document_hash = NULL, chunks = 0, written_at = clock_timestamp()
WHERE product_id = %(product_id)s AND key = ANY (%(keys)s);

-- purge_worthwhile --
SELECT EXISTS (SELECT FROM tidegate.ledger l
               JOIN tidegate.product p USING (product_id)
               JOIN tidegate.lane_watermark w ON w.lane = p.model AND w.source = p.source_server
               WHERE l.product_id = %(product_id)s AND l.state = 'deleted' AND p.state = 'live' AND l.written_at < w.as_of - %(keep)s);

-- purge --
-- See index/purge.py for the rule.
WITH forgettable AS MATERIALIZED (
    SELECT l.key, l.position FROM tidegate.ledger l
    JOIN tidegate.product p USING (product_id)
    JOIN tidegate.lane_watermark w ON w.lane = p.model AND w.source = p.source_server
    WHERE l.product_id = %(product_id)s AND l.state = 'deleted' AND p.state = 'live' AND l.written_at < w.as_of - %(keep)s
    ORDER BY l.written_at LIMIT %(most)s
), fenced AS (
    UPDATE tidegate.product p SET purged_to = greatest(p.purged_to, (SELECT max(f.position) FROM forgettable f))
    WHERE p.product_id = %(product_id)s AND EXISTS (SELECT FROM forgettable)
)
DELETE FROM tidegate.ledger l USING forgettable f WHERE l.product_id = %(product_id)s AND l.key = f.key;

-- ledger_lock --
-- All keys of the transaction, in the order of ledger_advance: so no two writers wait for each other.
SELECT key, document_hash, state, position::text FROM tidegate.ledger
WHERE product_id = %(product_id)s AND key = ANY (%(keys)s)
ORDER BY key FOR UPDATE;

-- dead_letters_clear --
DELETE FROM tidegate.dead_letter WHERE product_id = %(product_id)s AND key = ANY (%(keys)s);

-- dead_letter_add --
INSERT INTO tidegate.dead_letter AS d (product_id, key, position, kind, reason, retry_at)
VALUES (%(product_id)s, %(key)s, %(position)s, %(kind)s, %(reason)s, clock_timestamp() + %(retry_in)s)
ON CONFLICT (product_id, key) DO UPDATE
SET position = excluded.position, kind = excluded.kind, reason = excluded.reason, attempts = d.attempts + 1,
    last_at = clock_timestamp(),
    -- A row that waits for tomorrow waits until then, however often it changed.
    retry_at = clock_timestamp() + %(retry_in)s * CASE excluded.kind WHEN 'budget' THEN 1 ELSE power(2, least(d.attempts, 7)) END;

-- dead_letters_due --
-- What waits for tomorrow's budget is due as soon as there is room: the budget was raised, or its figures put right.
-- Those that were taken just now come back within ten minutes anyway.
SELECT d.key, d.position::text, d.attempts
FROM tidegate.dead_letter d
WHERE d.product_id = %(product_id)s
  AND (d.retry_at <= clock_timestamp()
       OR (%(room)s AND d.kind = 'budget' AND d.retry_at > d.last_at + interval '10 minutes'))
ORDER BY d.retry_at LIMIT 200;

-- dead_letters_taken --
-- Should the worker die with them in hand, they come back later.
UPDATE tidegate.dead_letter SET last_at = clock_timestamp(), retry_at = clock_timestamp() + interval '10 minutes'
WHERE product_id = %(product_id)s AND key = ANY (%(keys)s);

-- truncate_ledger --
DELETE FROM tidegate.ledger WHERE product_id = %(product_id)s AND position < %(position)s::pg_lsn[];

-- truncate_dead_letters --
DELETE FROM tidegate.dead_letter WHERE product_id = %(product_id)s AND position < %(position)s::pg_lsn[];

-- truncate_mark --
UPDATE tidegate.product SET truncated_at = %(position)s::pg_lsn[]
WHERE product_id = %(product_id)s AND coalesce(truncated_at < %(position)s::pg_lsn[], true);

-- watermark_move --
-- A message has no commit time: it moves the lsn only.
INSERT INTO tidegate.watermark AS w (lane, source, partition, lsn, as_of)
SELECT m.lane, m.source, m.partition, m.lsn, coalesce(m.as_of, h.as_of)
FROM (VALUES (%(lane)s::text, %(source)s::text, %(partition)s::int, %(lsn)s::pg_lsn, %(as_of)s::timestamptz)) AS m (lane, source, partition, lsn, as_of)
LEFT JOIN tidegate.watermark h USING (lane, source, partition)
WHERE coalesce(m.as_of, h.as_of) IS NOT NULL
ON CONFLICT (lane, source, partition) DO UPDATE
SET lsn = greatest(w.lsn, excluded.lsn), as_of = greatest(w.as_of, excluded.as_of), updated_at = clock_timestamp();

-- now --
SELECT clock_timestamp();

-- freshness_add --
INSERT INTO tidegate.freshness_bucket AS f (product_id, minute, bucket, events)
SELECT p.product_id, n.minute, n.bucket, n.events
FROM unnest(%(product_ids)s::int[], %(minutes)s::timestamptz[], %(buckets)s::int[], %(events)s::bigint[])
         AS n (product_id, minute, bucket, events)
JOIN tidegate.product p USING (product_id)
ON CONFLICT (product_id, minute, bucket) DO UPDATE SET events = f.events + excluded.events;

-- freshness_forget --
DELETE FROM tidegate.freshness_bucket WHERE minute < clock_timestamp() - interval '24 hours';

-- backfills_pending --
SELECT product_id, source_schema, source_table FROM tidegate.product WHERE state = 'pending' AND source_server = '' AND built_from = 'source';

-- backfills_interrupted --
-- Asked for, but the engine's own state (kept with its offset) does not know of it: it was killed in between.
SELECT p.product_id, p.source_schema, p.source_table
FROM tidegate.product p
WHERE p.state = 'backfilling' AND p.source_server = '' AND p.built_from = 'source'
  AND NOT EXISTS (SELECT FROM tidegate.debezium_offset o
                  WHERE o.offset_val::jsonb ->> 'incremental_snapshot_collections' LIKE '%%' || p.source_schema || '.' || p.source_table || '"%%');

-- backfill_number --
SELECT nextval('tidegate.backfill_number');

-- backfills_asked --
UPDATE tidegate.product SET state = 'backfilling', state_reason = NULL, backfill = %(backfill)s
WHERE product_id = ANY (%(product_ids)s) AND state IN ('pending', 'backfilling') AND built_from = 'source';

-- backfill_signal --
INSERT INTO tidegate.signal (id, type, data) VALUES (%(id)s, %(type)s, %(data)s);

-- signals_forget --
DELETE FROM tidegate.signal;

-- backfill_awaited --
SELECT 1 FROM tidegate.product
WHERE product_id = %(product_id)s AND state = 'backfilling' AND built_from = 'source' AND backfill <= %(backfill)s;

-- backfill_done --
UPDATE tidegate.product SET state = 'live', backfilled_at = clock_timestamp()
WHERE product_id = %(product_id)s AND state = 'backfilling' AND built_from = 'source' AND backfill <= %(backfill)s;

-- backfill_again --
-- It failed, or nobody knows which it was (0).
UPDATE tidegate.product SET state = 'pending', backfill = 0
WHERE product_id = ANY (%(product_ids)s) AND state IN ('pending', 'backfilling') AND built_from = 'source' AND (backfill <= %(backfill)s OR %(backfill)s = 0);

-- versions --
SELECT product_id, contract_version FROM tidegate.product WHERE product_id = ANY (%(product_ids)s);

-- suspend --
UPDATE tidegate.product SET state = 'suspended', state_reason = %(reason)s WHERE product_id = %(product_id)s;

-- suspend_source --
UPDATE tidegate.product SET state = 'suspended', state_reason = %(reason)s WHERE source_server = %(source)s AND state <> 'suspended';
