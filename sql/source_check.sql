-- publication --
SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM pg_catalog.pg_publication WHERE pubname = 'tidegate';

-- slot --
SELECT coalesce(wal_status, '') <> 'lost' FROM pg_catalog.pg_replication_slots WHERE slot_name = %(slot)s;

-- was_read --
SELECT EXISTS (SELECT FROM tidegate.watermark WHERE source = %(source)s);

-- tables --
-- Of each table: what kind it is, how its rows are told apart by whom, and what of it is published.
SELECT w.product_id, c.relkind::text, c.relreplident::text,
       (SELECT array_agg(a.attname::text ORDER BY k.place) FROM pg_catalog.pg_index i
        CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE i.indrelid = c.oid AND i.indisprimary) AS key,
       EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisprimary) AS key_is_identity,
       t.tablename IS NOT NULL AS published, t.rowfilter IS NOT NULL AS filtered
FROM unnest(%(products)s::int[], %(schemas)s::text[], %(tables)s::text[]) AS w (product_id, schema_name, table_name)
LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema_name
LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.table_name
LEFT JOIN pg_catalog.pg_publication_tables t ON t.pubname = 'tidegate' AND t.schemaname = w.schema_name AND t.tablename = w.table_name;

-- columns --
-- Those that a contract needs and that are not there, have another type, or are left out of the publication. A
-- generated column is never published; it is read from the table.
SELECT w.product_id, w.column_name, w.type_name, pg_catalog.format_type(a.atttypid, NULL), a.atttypid <> pg_catalog.to_regtype(w.type_name)
FROM unnest(%(products)s::int[], %(schemas)s::text[], %(tables)s::text[], %(columns)s::text[], %(types)s::text[])
         AS w (product_id, schema_name, table_name, column_name, type_name)
JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema_name
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.table_name
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = w.column_name AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_publication_tables t ON t.pubname = 'tidegate' AND t.schemaname = w.schema_name AND t.tablename = w.table_name
WHERE a.attnum IS NULL OR a.atttypid <> pg_catalog.to_regtype(w.type_name)
   OR (a.attgenerated = '' AND NOT a.attname = ANY (t.attnames))
ORDER BY w.product_id, w.column_name;
