-- offered --
SELECT p.product, p.model, p.state, p.state_reason, p.key_columns, p.chunk_schema, p.chunk_table
FROM tidegate.products p ORDER BY p.product;

-- caller --
-- And whether row-level security does not bind her.
SELECT r.name, EXISTS (SELECT FROM pg_catalog.pg_roles p WHERE p.rolname = r.name AND (p.rolsuper OR p.rolbypassrls))
FROM (SELECT CASE current_setting('role') WHEN 'none' THEN session_user::text ELSE current_setting('role') END) AS r (name);

-- search --
SELECT h.product, h.key, h.chunk_no, h.content, h.distance, h.committed_at, h.indexed_at, h.contract_version, h.consistency, h.score
FROM tidegate.search(k => %(k)s, products => %(products)s, query_text => %(text)s, filter => %(filter)s::jsonb,
                     consistency => %(consistency)s, vectors => %(vectors)s::jsonb) AS h
ORDER BY h.score DESC, h.product, h.key;

-- similar --
SELECT h.product, h.key, h.chunk_no, h.content, h.distance, h.committed_at, h.indexed_at, h.contract_version, h.consistency, h.score
FROM tidegate.similar(product => %(product)s, key => %(key)s::jsonb, k => %(k)s, products => %(products)s,
                      filter => %(filter)s::jsonb, consistency => %(consistency)s) AS h
ORDER BY h.score DESC, h.product, h.key;

-- search_statement --
SELECT tidegate.search_statement(k => %(k)s, products => %(products)s, query_text => %(text)s, filter => %(filter)s::jsonb,
                                 consistency => %(consistency)s, vectors => %(vectors)s::jsonb);

-- ages --
-- By the server's clock: the caller's may be another.
SELECT f.product, f.as_of, clock_timestamp() - f.as_of, f.source = ''
FROM tidegate.freshness f WHERE f.product = ANY (%(products)s) ORDER BY f.as_of NULLS FIRST;

-- old --
-- Of the products that a search goes over: those that are clearly older than promised, the oldest first, and whether
-- anybody reads the changes of this database (of another one that cannot be seen from here).
SELECT f.product, f.as_of, a.age, r.somebody OR f.source <> ''
FROM tidegate.freshness f
CROSS JOIN LATERAL (SELECT clock_timestamp() - f.as_of AS age) AS a
CROSS JOIN (SELECT EXISTS (SELECT FROM pg_catalog.pg_replication_slots s
                           WHERE s.database = current_database() AND s.plugin = 'pgoutput' AND s.active)) AS r (somebody)
WHERE CASE WHEN %(products)s::text[] IS NULL THEN f.product IN (SELECT p.product FROM tidegate.products p WHERE p.state <> 'suspended')
           ELSE f.product = ANY (%(products)s) END
  AND a.age > make_interval(secs => coalesce(f.sla_ms, 0) / 1000.0)
            + CASE WHEN r.somebody OR f.source <> '' THEN %(late)s ELSE %(alone)s END::interval
ORDER BY f.as_of;

-- suspended --
SELECT p.product FROM tidegate.products p WHERE p.state = 'suspended' ORDER BY p.product;

-- position --
SELECT pg_current_wal_insert_lsn()::text;

-- wait_for --
SELECT tidegate.wait_for(%(lsn)s::pg_lsn, %(timeout)s::interval, %(products)s);

-- columns --
SELECT a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;
