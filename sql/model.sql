-- status --
SELECT s.product, i.model, i.dimension, i.beside IS NOT NULL AS second, i.own_embedding IS NULL AS wanted, i.state, i.state_reason,
       (SELECT count(*) FROM tidegate.ledger l WHERE l.product_id = i.product_id AND l.state = 'indexed') AS rows,
       (SELECT coalesce(sum(l.chunks), 0)::bigint FROM tidegate.ledger l WHERE l.product_id = i.product_id AND l.state = 'indexed') AS chunks,
       (SELECT count(*) FROM tidegate.dead_letter d WHERE d.product_id = i.product_id) AS parked,
       w.as_of, i.served_until, i.built_from
FROM tidegate.product s
JOIN tidegate.product i ON i.product_id = s.product_id OR i.beside = s.product_id
LEFT JOIN tidegate.lane_watermark w ON w.lane = i.model AND w.source = i.source_server
WHERE s.beside IS NULL AND (%(product)s::text IS NULL OR s.product = %(product)s)
ORDER BY s.product, second;

-- pair --
-- The two indexes of a product, the one that is searched first.
SELECT i.product_id, i.product, i.contract || CASE WHEN i.own_embedding IS NULL THEN '{}' ELSE jsonb_build_object('embedding', i.own_embedding) END
                                           || CASE WHEN i.beside IS NULL THEN '{}' ELSE '{"beside": true}'::jsonb END,
       i.state, i.own_embedding IS NULL AS wanted, i.served_until, i.source_server, i.contract_version
FROM tidegate.product i
WHERE i.product = %(product)s AND i.beside IS NULL
   OR i.beside = (SELECT s.product_id FROM tidegate.product s WHERE s.product = %(product)s AND s.beside IS NULL)
ORDER BY i.beside IS NOT NULL;

-- position --
SELECT pg_catalog.pg_current_wal_insert_lsn()::text, clock_timestamp();

-- nudge --
-- Something for the stream to stop at, at once; asked of nothing, it does not wait.
SELECT tidegate.wait_for(pg_catalog.pg_current_wal_insert_lsn(), '0s');

-- caught_up --
SELECT CASE WHEN %(source)s = '' THEN w.lsn >= %(lsn)s::pg_lsn ELSE w.as_of >= %(moment)s END, w.as_of
FROM (SELECT) AS one LEFT JOIN tidegate.lane_watermark w ON w.lane = %(lane)s AND w.source = %(source)s;

-- parked_more --
-- Rows that are found now and would not be any more.
SELECT count(*) FROM tidegate.dead_letter d
WHERE d.product_id = %(next)s AND NOT EXISTS (SELECT FROM tidegate.dead_letter o WHERE o.product_id = %(now)s AND o.key = d.key);

-- indexes_missing --
-- Valid indexes of the one table that the other, of the same name in another schema, does not have yet.
SELECT x.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = pg_catalog.to_regclass(%(now)s) AND i.indisvalid
EXCEPT
SELECT x.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = pg_catalog.to_regclass(%(next)s) AND i.indisvalid
ORDER BY 1;

-- swap --
-- In three steps: a name is nobody's for a moment.
DO $$
DECLARE
    now_id int := pg_catalog.current_setting('tidegate.swap_now')::int;
    next_id int := pg_catalog.current_setting('tidegate.swap_next')::int;
    searched tidegate.product;
    second tidegate.product;
BEGIN
    SELECT * INTO STRICT searched FROM tidegate.product WHERE product_id = now_id;
    SELECT * INTO STRICT second FROM tidegate.product WHERE product_id = next_id;
    UPDATE tidegate.product SET product = searched.product || '@' || searched.model, beside = next_id, chunk_schema = second.chunk_schema,
        served_until = clock_timestamp() WHERE product_id = now_id;
    UPDATE tidegate.product SET product = searched.product, beside = NULL, chunk_schema = searched.chunk_schema, served_until = NULL
    WHERE product_id = next_id;
END
$$;

-- record --
INSERT INTO tidegate.audit_event (kind, product, contract_version, subject, before, after)
VALUES (%(kind)s, %(product)s, %(version)s, %(subject)s, %(before)s, %(after)s);

-- forget --
DELETE FROM tidegate.product WHERE product_id = %(product_id)s;

-- owns_source --
SELECT pg_catalog.pg_has_role(session_user, c.relowner, 'USAGE') FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass(%(table)s);
