-- table_facts --
SELECT c.oid, c.relkind::text, greatest(c.reltuples, 0)::float8, pg_catalog.obj_description(c.oid, 'pg_class')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s;

-- tables --
SELECT n.nspname || '.' || c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\_%%' AND n.nspname NOT LIKE 'rag\_%%'
  AND n.nspname NOT IN ('information_schema', 'tidegate')
ORDER BY 1;

-- column_facts --
SELECT a.attname::text AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, t.typtype::text = 'e' AS is_enum,
       a.attnotnull AS required, pg_catalog.col_description(a.attrelid, a.attnum) AS comment,
       k.place AS key_position,
       s.avg_width::float8 AS width,
       CASE WHEN s.n_distinct < 0 THEN -s.n_distinct * c.reltuples ELSE s.n_distinct END::float8 AS distinct_values
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN (SELECT u.attnum, u.place FROM pg_catalog.pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS u (attnum, place)
           WHERE i.indrelid = %(oid)s AND i.indisprimary AND u.place <= i.indnkeyatts) AS k ON k.attnum = a.attnum
LEFT JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname AND NOT s.inherited
WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;

-- unique_columns --
-- Columns of a unique index over columns that are never NULL: what a primary key could be.
SELECT array_agg(a.attname::text ORDER BY k.place)
FROM pg_catalog.pg_index i
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = %(oid)s AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
GROUP BY i.indexrelid
HAVING bool_and(a.attnotnull)
ORDER BY count(*)
LIMIT 1;
