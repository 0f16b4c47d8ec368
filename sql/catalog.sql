-- What readers may know of the products, and how fresh they are. Views run with their owner's rights on
-- the control tables but show a reader only the products on whose chunk table they have SELECT
-- (administrators see the freshness of all).
CREATE OR REPLACE FUNCTION tidegate.offered_products() RETURNS SETOF int
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    through_gateway boolean := tidegate.gateway() IS NOT NULL;
    token_roles text[] := CASE WHEN through_gateway THEN tidegate.token_roles() END;
BEGIN
    RETURN QUERY
    SELECT p.product_id
    FROM tidegate.product p
    JOIN pg_namespace n ON n.nspname = p.chunk_schema
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.chunk_table
    WHERE p.beside IS NULL
      AND has_schema_privilege(tidegate.session_role(), n.oid, 'USAGE')
      AND has_table_privilege(tidegate.session_role(), c.oid, 'SELECT')
      -- A gateway may select from all; who comes through it needs a role that a rule allows.
      AND (NOT through_gateway
           OR token_roles IS NOT NULL
              AND EXISTS (SELECT FROM tidegate.rule a CROSS JOIN LATERAL unnest(a.roles) AS named (role_name)
                          WHERE a.product_id = p.product_id AND a.effect = 'allow'
                            AND tidegate.roles_act_as_of(token_roles, named.role_name)));
END
$$;
COMMENT ON FUNCTION tidegate.offered_products() IS
    'The products from which the caller may select; through a gateway those that allow a role of her token something. Definer: reads the catalog, and says nothing, instead of failing, of a schema that the caller may not look into.';

CREATE OR REPLACE FUNCTION tidegate.offered(chunk_schema text, chunk_table text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM tidegate.product p
                   WHERE p.chunk_schema = offered.chunk_schema AND p.chunk_table = offered.chunk_table
                     AND p.product_id IN (SELECT tidegate.offered_products()))
$$;
COMMENT ON FUNCTION tidegate.offered(text, text) IS
    'Whether the caller may select from this chunk table. Definer as tidegate.offered_products is.';

CREATE OR REPLACE VIEW tidegate.products WITH (security_barrier) AS
SELECT p.product, p.domain, p.contract_version, p.chunk_schema, p.chunk_table, p.key_columns, p.model, p.dimension,
       p.latency_ms, p.latency_percentile, p.state, p.state_reason, p.applied_at, p.backfilled_at
FROM tidegate.product p
WHERE p.product_id IN (SELECT tidegate.offered_products());
COMMENT ON VIEW tidegate.products IS 'The products that the caller may search.';

CREATE OR REPLACE VIEW tidegate.lane_watermark AS
SELECT w.lane, w.source,
       -- The oldest of all partitions; nothing is known while one of them has said nothing.
       CASE WHEN count(*) >= max(coalesce(s.partitions, 1)) THEN min(w.lsn) END AS lsn,
       CASE WHEN count(*) >= max(coalesce(s.partitions, 1)) THEN min(w.as_of) END AS as_of
FROM tidegate.watermark w LEFT JOIN tidegate.stream s USING (source)
WHERE w.partition < coalesce(s.partitions, 1)
GROUP BY w.lane, w.source;
COMMENT ON VIEW tidegate.lane_watermark IS
    'Per embedding model and source: everything committed up to here is in the index, whatever partition it came by.';

CREATE OR REPLACE VIEW tidegate.freshness WITH (security_barrier) AS
WITH counted AS (
    SELECT b.product_id, b.bucket, sum(b.events) AS events
    FROM tidegate.freshness_bucket b
    WHERE b.minute > now() - interval '1 hour'
    GROUP BY b.product_id, b.bucket
), cumulated AS (
    SELECT c.product_id, power(1.05, c.bucket) AS ms, c.events,
           sum(c.events) OVER (PARTITION BY c.product_id ORDER BY c.bucket) AS up_to,
           sum(c.events) OVER (PARTITION BY c.product_id) AS total
    FROM counted c
), percentile AS (
    SELECT c.product_id, max(c.total) AS changes,
           min(c.ms) FILTER (WHERE c.up_to >= 0.50 * c.total) AS p50_ms,
           min(c.ms) FILTER (WHERE c.up_to >= 0.95 * c.total) AS p95_ms,
           min(c.ms) FILTER (WHERE c.up_to >= 0.99 * c.total) AS p99_ms,
           min(c.ms) FILTER (WHERE c.up_to >= p.latency_percentile / 100 * c.total) AS sla_percentile_ms,
           coalesce(sum(c.events) FILTER (WHERE c.ms <= p.latency_ms * 1.05), 0) / max(c.total) AS share_within_sla
    FROM cumulated c JOIN tidegate.product p USING (product_id)
    GROUP BY c.product_id
)
SELECT p.product, coalesce(q.changes, 0)::bigint AS changes,
       round(q.p50_ms, 1)::float8 AS p50_ms, round(q.p95_ms, 1)::float8 AS p95_ms, round(q.p99_ms, 1)::float8 AS p99_ms,
       p.latency_ms AS sla_ms, p.latency_percentile AS sla_percentile,
       round(q.share_within_sla, 4)::float8 AS share_within_sla,
       q.sla_percentile_ms <= p.latency_ms * 1.05 AS within_sla,
       w.as_of, w.lsn AS watermark, p.source_server AS source
FROM tidegate.product p
LEFT JOIN percentile q USING (product_id)
LEFT JOIN tidegate.lane_watermark w ON w.lane = p.model AND w.source = p.source_server
WHERE p.product_id IN (SELECT tidegate.offered_products()) OR pg_has_role(tidegate.session_role(), 'tidegate_admin', 'USAGE');
COMMENT ON VIEW tidegate.freshness IS
    'Commit to searchable over the last hour, in ms, from a histogram with buckets 5 % wide; NULL percentiles: no change in that hour. as_of: every change committed before it is in the index. source: the server whose positions watermark is one of; empty: this database.';

CREATE OR REPLACE FUNCTION tidegate.wait_for(lsn pg_lsn, timeout interval DEFAULT '2s', products text[] DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    deadline timestamptz := clock_timestamp() + timeout;
    behind boolean;
    named text;
    origin text := '';
    prefix text;
BEGIN
    IF wait_for.lsn IS NULL OR wait_for.timeout IS NULL THEN
        RETURN NULL;
    END IF;
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'tidegate.wait_for needs READ COMMITTED: a % transaction never sees the index move', current_setting('transaction_isolation')
            USING HINT = 'Call it before the transaction, or set the isolation level to READ COMMITTED.';
    END IF;
    FOREACH named IN ARRAY coalesce(products, '{}') LOOP
        IF NOT EXISTS (SELECT FROM tidegate.product p WHERE p.product = named AND p.product_id IN (SELECT tidegate.offered_products())) THEN
            RAISE EXCEPTION 'product "%" is not published, or not offered to role "%"', named, coalesce(tidegate.principal(), tidegate.session_role())
                USING ERRCODE = 'undefined_object', HINT = 'SELECT product FROM tidegate.products lists what you may search.';
        END IF;
    END LOOP;
    IF products IS NOT NULL THEN
        SELECT min(p.source_server) INTO origin FROM tidegate.product p WHERE p.product = ANY (products) HAVING min(p.source_server) = max(p.source_server);
        IF origin IS NULL THEN
            RAISE EXCEPTION 'the products come from several databases, whose positions do not compare'
                USING ERRCODE = 'invalid_parameter_value', HINT = 'Wait for each database with a position of its own.';
        END IF;
    END IF;
    -- Something to stop at, one a partition: without it the stream's next event may be a heartbeat away. Not
    -- transactional, so that it comes now; flushed, where the server can (17), else the WAL writer does it within
    -- 200 ms. Another database's stream cannot be reached from here: its heartbeats have to do.
    FOR prefix IN
        SELECT unnest(s.prefixes) FROM tidegate.stream s WHERE s.source = origin AND origin = ''
        UNION ALL SELECT 'tidegate' WHERE origin = '' AND NOT EXISTS (SELECT FROM tidegate.stream s WHERE s.source = '')
    LOOP
        IF current_setting('server_version_num')::int >= 170000 THEN
            PERFORM pg_logical_emit_message(false, prefix, 'watermark', true);
        ELSE
            PERFORM pg_logical_emit_message(false, prefix, 'watermark');
        END IF;
    END LOOP;
    LOOP
        SELECT coalesce(bool_or(w.lsn IS NULL OR w.lsn < wait_for.lsn), false) INTO behind
        FROM (SELECT DISTINCT p.model FROM tidegate.product p
              WHERE p.source_server = origin AND (products IS NULL OR p.product = ANY (products))
                AND p.product_id IN (SELECT tidegate.offered_products())) AS m
        LEFT JOIN tidegate.lane_watermark w ON w.lane = m.model AND w.source = origin;
        IF NOT behind THEN
            RETURN true;
        ELSIF clock_timestamp() >= deadline THEN
            RETURN false;
        END IF;
        PERFORM pg_sleep(0.002);
    END LOOP;
END
$$;
COMMENT ON FUNCTION tidegate.wait_for(pg_lsn, interval, text[]) IS
    'Waits until everything committed before this position is in the index; false when the time is up. For reading your own writes: wait_for(pg_current_wal_insert_lsn()). The position is one of the database that the products come from; without products, of this one. Definer: reads the watermark.';
