-- status --
SELECT p.product, p.contract_version, p.state, p.state_reason, p.model,
       (SELECT count(*) FROM tidegate.ledger l WHERE l.product_id = p.product_id AND l.state = 'indexed') AS rows,
       (SELECT coalesce(sum(l.chunks), 0)::bigint FROM tidegate.ledger l WHERE l.product_id = p.product_id AND l.state = 'indexed') AS chunks,
       (SELECT count(*) FROM tidegate.dead_letter d WHERE d.product_id = p.product_id) AS dead_letters,
       f.changes, f.p50_ms, f.p95_ms, f.p99_ms, f.sla_ms, f.sla_percentile, f.share_within_sla, f.within_sla,
       f.as_of, f.watermark::text,
       (SELECT greatest(c.reltuples, 0)::bigint FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE p.source_server = '' AND n.nspname = p.source_schema AND c.relname = p.source_table) AS source_rows_estimate,
       p.source_server AS source, extract(epoch FROM clock_timestamp() - f.as_of)::float8 AS age_s
FROM tidegate.product p
JOIN tidegate.freshness f USING (product)
ORDER BY p.product;

-- slot --
SELECT active, confirmed_flush_lsn::text, pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), confirmed_flush_lsn)::bigint AS behind_bytes
FROM pg_catalog.pg_replication_slots WHERE slot_name = %(slot)s;

-- somebody_runs --
SELECT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE database = current_database() AND plugin = 'pgoutput' AND active)
    OR EXISTS (SELECT FROM tidegate.worker w WHERE w.seen_at > clock_timestamp() - interval '10 seconds');

-- dead_letters --
SELECT d.dead_letter_id, coalesce(p.product, '(no product)'), d.key, d.kind, d.reason, d.attempts, d.first_at, d.last_at, d.retry_at
FROM tidegate.dead_letter d LEFT JOIN tidegate.product p USING (product_id)
WHERE (%(product)s::text IS NULL OR p.product = %(product)s)
ORDER BY d.dead_letter_id;

-- dead_letters_absent --
SELECT n.id FROM unnest(%(ids)s::bigint[]) AS n (id)
WHERE NOT EXISTS (SELECT FROM tidegate.dead_letter d LEFT JOIN tidegate.product p USING (product_id)
                  WHERE d.dead_letter_id = n.id AND (%(product)s::text IS NULL OR p.product = %(product)s));

-- dead_letters_retry --
UPDATE tidegate.dead_letter d SET retry_at = clock_timestamp()
FROM tidegate.product p
WHERE p.product_id = d.product_id AND (%(product)s::text IS NULL OR p.product = %(product)s)
  AND (%(ids)s::bigint[] IS NULL OR d.dead_letter_id = ANY (%(ids)s));

-- dead_letters_drop --
DELETE FROM tidegate.dead_letter d
WHERE (%(product)s::text IS NULL OR d.product_id = (SELECT p.product_id FROM tidegate.product p WHERE p.product = %(product)s))
  AND (%(ids)s::bigint[] IS NULL OR d.dead_letter_id = ANY (%(ids)s));

-- products --
SELECT product FROM tidegate.product ORDER BY product;
