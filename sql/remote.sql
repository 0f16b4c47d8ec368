-- read_by --
-- Writes down which index reads the source. A row back: another one does.
WITH taken AS (
    INSERT INTO tidegate.read_by (slot) VALUES (%(slot)s) ON CONFLICT DO NOTHING
)
SELECT r.slot FROM tidegate.read_by r WHERE r.slot <> %(slot)s;

-- table_state --
-- Of a table at its source: whether the worker may look into its schema, which columns the worker can read, and which were granted to it one by one.
SELECT pg_catalog.has_schema_privilege('tidegate_worker', n.oid, 'USAGE'),
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND pg_catalog.has_column_privilege('tidegate_worker', c.oid, a.attnum, 'SELECT')),
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) AS g
             WHERE a.attrelid = c.oid AND NOT a.attisdropped AND g.privilege_type = 'SELECT' AND g.grantee = 'tidegate_worker'::regrole)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s;

-- announce --
UPDATE tidegate.heartbeat SET beat_at = clock_timestamp() WHERE heartbeat_id = 2 OR heartbeat_id >= 16000;

-- guard_reads --
-- The source's owner must not have code run with the worker's rights, by swapping the table for a view or by policies.
SELECT pg_catalog.set_config(s.name, CASE s.name WHEN 'row_security' THEN 'off' ELSE 'view, foreign-table' END, true)
FROM pg_catalog.pg_settings s
WHERE s.name IN ('row_security', 'restrict_nonsystem_relation_kind');

-- here --
SELECT pg_catalog.pg_current_wal_insert_lsn()::text;

-- scans_unplaced --
-- Read to the end, but the source was not asked yet how far it is.
SELECT c.product_id FROM tidegate.scan c JOIN tidegate.product p USING (product_id) WHERE p.source_server = %(source)s AND c.lsn IS NULL;

-- scan_place --
UPDATE tidegate.scan SET lsn = %(lsn)s WHERE product_id = %(product_id)s AND lsn IS NULL;

-- rejoin --
-- Until it is published again, which reads its rows anew, whatever happens in between.
UPDATE tidegate.product SET state = 'suspended', state_reason = %(reason)s WHERE product = %(product)s;

-- trouble --
UPDATE tidegate.stream s
SET trouble = %(trouble)s,
    trouble_since = CASE WHEN %(trouble)s::text IS NULL THEN NULL ELSE coalesce(s.trouble_since, clock_timestamp()) END
WHERE s.source = %(source)s AND (s.trouble IS DISTINCT FROM %(trouble)s);

-- retry_source --
-- It answers again: rows that could not be read from it are read soon, when every worker has noticed.
UPDATE tidegate.dead_letter d SET retry_at = clock_timestamp() + %(soon)s
FROM tidegate.product p
WHERE p.product_id = d.product_id AND p.source_server = %(source)s AND d.kind = 'source' AND d.retry_at > clock_timestamp() + %(soon)s;

-- indexed_page --
SELECT l.key, l.position::text FROM tidegate.ledger l
WHERE l.product_id = %(product_id)s AND l.state IN ('indexed', 'waiting') AND l.key > %(after)s
ORDER BY l.key LIMIT %(rows)s;

-- still_at --
-- Of these rows, those that nothing was written of since; locked until the transaction ends.
SELECT l.key FROM tidegate.ledger l
JOIN unnest(%(keys)s::text[], %(positions)s::text[]) AS n (key, position) ON n.key = l.key AND n.position::pg_lsn[] = l.position
WHERE l.product_id = %(product_id)s AND l.state IN ('indexed', 'waiting')
ORDER BY l.key FOR UPDATE OF l;
