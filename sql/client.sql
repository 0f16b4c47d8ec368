-- offered --
SELECT p.product, p.model, p.state, p.state_reason, p.key_columns, p.chunk_schema, p.chunk_table
FROM tidegate.products p ORDER BY p.product;

-- caller --
SELECT CASE current_setting('role') WHEN 'none' THEN session_user::text ELSE current_setting('role') END;

-- search --
SELECT h.product, h.key, h.chunk_no, h.content, h.distance, h.committed_at, h.indexed_at, h.contract_version, h.consistency,
       1 - h.distance AS score
FROM tidegate.search(query => %(query)s, k => %(k)s, products => %(products)s, consistency => %(consistency)s) AS h;

-- ages --
-- By the server's clock: the caller's may be another.
SELECT f.product, f.as_of, clock_timestamp() - f.as_of, f.source = ''
FROM tidegate.freshness f WHERE f.product = ANY (%(products)s) ORDER BY f.as_of NULLS FIRST;

-- position --
SELECT pg_current_wal_insert_lsn()::text;

-- wait_for --
SELECT tidegate.wait_for(%(lsn)s::pg_lsn, %(timeout)s::interval, %(products)s);
