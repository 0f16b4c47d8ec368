-- source_estimate --
SELECT greatest(c.reltuples, 0)::bigint FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s;

-- state --
SELECT state, state_reason FROM tidegate.product WHERE product_id = %(product_id)s;

-- begun --
-- One at a time; the connection holds it.
SELECT pg_try_advisory_lock(1953064810, %(product_id)s);

-- ended --
SELECT pg_advisory_unlock(1953064810, %(product_id)s);

-- reached --
SELECT lsn >= %(lsn)s::pg_lsn, lsn::text FROM tidegate.lane_watermark WHERE lane = %(lane)s AND source = %(source)s;

-- resume --
SELECT stage, after, compared FROM tidegate.verification
WHERE product_id = %(product_id)s AND contract_version = %(version)s AND finished_at IS NULL;

-- start --
INSERT INTO tidegate.verification AS v (product_id, contract_version, stage) VALUES (%(product_id)s, %(version)s, 'source')
ON CONFLICT (product_id) DO UPDATE
SET contract_version = excluded.contract_version, stage = excluded.stage, after = NULL, compared = 0,
    started_at = clock_timestamp(), updated_at = clock_timestamp(), finished_at = NULL;

-- forget_findings --
DELETE FROM tidegate.verification_finding WHERE product_id = %(product_id)s;

-- progress --
UPDATE tidegate.verification
SET stage = %(stage)s, after = %(after)s, compared = %(compared)s, updated_at = clock_timestamp(),
    finished_at = CASE WHEN %(finished)s THEN clock_timestamp() END
WHERE product_id = %(product_id)s;

-- found --
INSERT INTO tidegate.verification_finding AS f (product_id, key, problem, columns, repaired)
SELECT %(product_id)s, n.key, n.problem, n.columns::text[], n.repaired
FROM unnest(%(keys)s::text[], %(problems)s::text[], %(columns)s::text[], %(repaired)s::boolean[]) AS n (key, problem, columns, repaired)
ON CONFLICT (product_id, key) DO UPDATE SET problem = excluded.problem, columns = excluded.columns, repaired = excluded.repaired;

-- findings --
SELECT key, problem, columns, repaired FROM tidegate.verification_finding WHERE product_id = %(product_id)s ORDER BY finding_id;

-- take_unrepaired --
DELETE FROM tidegate.verification_finding WHERE product_id = %(product_id)s AND NOT repaired RETURNING key;

-- parked --
SELECT count(*) FROM tidegate.dead_letter WHERE product_id = %(product_id)s AND kind <> 'repair';

-- repair_mark --
-- A row that is to be repaired is parked where it stands, and only if it still stands there: what wrote it meanwhile
-- has repaired it, or made it another's business. A row that the ledger does not know gets the first place that is
-- still let through.
INSERT INTO tidegate.ledger AS l (product_id, key, position, document_hash, chunks, state)
SELECT p.product_id, n.key,
       CASE WHEN n.position IS NOT NULL THEN n.position::pg_lsn[]
            ELSE ARRAY[f.after_commit, f.change + 1] END, NULL, 0, 'parked'
FROM unnest(%(keys)s::text[], %(positions)s::text[]) AS n (key, position)
JOIN tidegate.product p ON p.product_id = %(product_id)s
CROSS JOIN LATERAL (SELECT m.floor[1], m.floor[2] FROM (SELECT coalesce(greatest(p.truncated_at, p.purged_to), '{0/0,0/0}') AS floor) AS m)
               AS f (after_commit, change)
ORDER BY n.key
ON CONFLICT (product_id, key) DO UPDATE SET state = 'parked', document_hash = NULL, written_at = clock_timestamp()
WHERE l.position = excluded.position
RETURNING l.key, l.position::text;

-- repair_letter --
-- Should the repair die with them in hand, the worker tries them by and by.
INSERT INTO tidegate.dead_letter AS d (product_id, key, position, kind, reason, retry_at)
SELECT %(product_id)s, n.key, n.position::pg_lsn[], 'repair', 'differed from its source; is being repaired', clock_timestamp() + interval '2 minutes'
FROM unnest(%(keys)s::text[], %(positions)s::text[]) AS n (key, position)
ON CONFLICT (product_id, key) DO UPDATE SET retry_at = excluded.retry_at;
