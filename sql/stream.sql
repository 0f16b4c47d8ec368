-- stream_set --
-- How a source's changes come from now on.
INSERT INTO tidegate.stream AS s (source, transport, partitions, prefixes)
VALUES (%(source)s, %(transport)s, %(partitions)s, %(prefixes)s)
ON CONFLICT (source) DO UPDATE
SET transport = excluded.transport, partitions = excluded.partitions, prefixes = excluded.prefixes, changed_at = clock_timestamp()
WHERE (s.transport, s.partitions, s.prefixes) IS DISTINCT FROM (excluded.transport, excluded.partitions, excluded.prefixes)
RETURNING source;

-- watermarks_forget --
-- A partition that is new has no watermark yet, and one that is no more holds nothing back.
DELETE FROM tidegate.watermark WHERE source = %(source)s AND partition >= %(partitions)s;

-- partitions_forget --
DELETE FROM tidegate.stream_partition WHERE source = %(source)s AND partition >= %(partitions)s;

-- heartbeats_forget --
DELETE FROM tidegate.heartbeat WHERE heartbeat_id > 2 AND heartbeat_id <> ALL (%(ids)s::smallint[]);

-- heartbeats_add --
INSERT INTO tidegate.heartbeat (heartbeat_id) SELECT unnest(%(ids)s::smallint[]) ON CONFLICT DO NOTHING;

-- lead --
-- One worker of the database keeps the house of all; held by its connection, so that it ends with it.
SELECT pg_try_advisory_lock(1953064808);

-- worker_seen --
INSERT INTO tidegate.worker AS w (worker, bulk_waiting, trouble, trouble_since)
VALUES (%(worker)s, %(bulk_waiting)s, %(trouble)s, %(trouble_since)s)
ON CONFLICT (worker) DO UPDATE
SET bulk_waiting = excluded.bulk_waiting, trouble = excluded.trouble, trouble_since = excluded.trouble_since, seen_at = clock_timestamp();

-- worker_gone --
DELETE FROM tidegate.worker WHERE worker = %(worker)s;

-- partitions_seen --
-- What is finished stays finished, whoever says so.
INSERT INTO tidegate.stream_partition AS p (source, partition, worker, committed_offset, end_offset, finished_lsn)
SELECT n.source, n.partition, %(worker)s, n.committed_offset, n.end_offset, n.finished_lsn
FROM unnest(%(sources)s::text[], %(partitions)s::int[], %(committed)s::bigint[], %(ends)s::bigint[], %(finished)s::pg_lsn[])
         AS n (source, partition, committed_offset, end_offset, finished_lsn)
ORDER BY n.source, n.partition
ON CONFLICT (source, partition) DO UPDATE
SET worker = excluded.worker, committed_offset = coalesce(excluded.committed_offset, p.committed_offset),
    end_offset = coalesce(excluded.end_offset, p.end_offset), finished_lsn = greatest(p.finished_lsn, excluded.finished_lsn),
    updated_at = clock_timestamp();

-- workers_forget --
DELETE FROM tidegate.worker WHERE seen_at < clock_timestamp() - interval '1 day';

-- bulk_waiting --
SELECT coalesce(sum(bulk_waiting), 0)::bigint, count(*) FROM tidegate.worker WHERE seen_at > clock_timestamp() - interval '10 seconds';

-- streaming --
SELECT EXISTS (SELECT FROM tidegate.watermark WHERE source = %(source)s AND updated_at > clock_timestamp() - interval '15 seconds');

-- backfills_wanted --
SELECT product_id, applied_at, source_schema, source_table FROM tidegate.product
WHERE state = 'pending' AND built_from = 'source' AND source_server = %(source)s;

-- backfills_numbered --
UPDATE tidegate.product SET backfill = %(backfill)s WHERE product_id = ANY (%(product_ids)s);

-- backfills_begun --
-- Not of a contract that was applied meanwhile: Debezium may have begun before.
UPDATE tidegate.product SET state = 'backfilling', state_reason = NULL
WHERE (product_id, applied_at) IN (SELECT * FROM unnest(%(product_ids)s::int[], %(applied)s::timestamptz[])) AND state = 'pending' AND built_from = 'source'
  -- Nor of one that has ended by now, and failed.
  AND backfill = %(backfill)s;

-- backfills_again --
-- Of a source whose changes were lost, or whose connector no longer knows what it was reading; of no concern, the
-- latter, to an index that is filled from another's chunks.
UPDATE tidegate.product SET state = 'pending', built_from = 'source', backfill = 0
WHERE source_server = %(source)s
  AND (state = ANY (%(states)s) AND (built_from = 'source' OR 'live' = ANY (%(states)s)) OR state = 'pending' AND built_from = 'source');

-- scan_add --
-- Without a position: the source is asked for it as soon as it answers; every later one does as well.
-- An earlier backfill's end, told again, takes no later one's place.
INSERT INTO tidegate.scan AS s (product_id, backfill, lsn) VALUES (%(product_id)s, %(backfill)s, %(lsn)s)
ON CONFLICT (product_id) DO UPDATE SET backfill = excluded.backfill, lsn = excluded.lsn, scanned_at = clock_timestamp()
WHERE s.backfill <= excluded.backfill;

-- scans_finished --
SELECT c.product_id, c.backfill
FROM tidegate.scan c JOIN tidegate.product p USING (product_id) JOIN tidegate.stream s ON s.source = p.source_server
WHERE s.source = %(source)s AND c.backfill >= p.backfill AND s.partitions <= (SELECT count(*) FROM tidegate.stream_partition n
                       WHERE n.source = s.source AND n.partition < s.partitions AND n.finished_lsn >= c.lsn);

-- scan_forget --
DELETE FROM tidegate.scan WHERE product_id = %(product_id)s AND backfill <= %(backfill)s;

-- undecodable_add --
INSERT INTO tidegate.dead_letter AS d (product_id, key, kind, reason) VALUES (NULL, %(place)s, 'undecodable', %(reason)s)
ON CONFLICT (key) WHERE product_id IS NULL DO UPDATE SET attempts = d.attempts + 1, last_at = clock_timestamp();

-- workers --
SELECT w.worker, w.seen_at, w.seen_at > clock_timestamp() - interval '10 seconds' AS alive, w.bulk_waiting, w.trouble, w.trouble_since, w.started_at
FROM tidegate.worker w ORDER BY w.worker;

-- partitions --
SELECT p.source, p.partition, p.worker, p.committed_offset, p.end_offset, greatest(p.end_offset - p.committed_offset, 0) AS lag,
       p.finished_lsn::text, p.updated_at
FROM tidegate.stream_partition p ORDER BY p.source, p.partition;

-- sources --
SELECT s.source, s.transport, s.partitions, min(w.as_of), s.trouble, s.trouble_since
FROM tidegate.stream s LEFT JOIN tidegate.lane_watermark w USING (source)
GROUP BY s.source ORDER BY s.source;

-- origins --
SELECT p.product, p.source_server FROM tidegate.product p WHERE p.source_server <> '' ORDER BY p.product;
