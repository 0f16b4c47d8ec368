-- indexed_tables --
-- Every index of a product with what decides on its upkeep. Chunks: as VACUUM and ANALYZE last knew, and changes since.
SELECT p.product_id, c.oid, greatest(c.reltuples, 0)::bigint, p.dimension, p.state = 'live',
       coalesce(s.n_dead_tup, 0), coalesce(s.n_ins_since_vacuum, 0), coalesce(s.n_mod_since_analyze, 0),
       coalesce(s.n_tup_ins + s.n_tup_upd + s.n_tup_del, 0), c.relpages, c.relallvisible, pg_catalog.pg_relation_size(c.oid) / 8192,
       greatest(s.last_vacuum, s.last_autovacuum) > clock_timestamp() - interval '1 minute' AS vacuumed_lately,
       a.changes,
       EXISTS (SELECT FROM pg_catalog.pg_trigger w WHERE w.tgrelid = c.oid AND pg_catalog.obj_description(w.oid, 'pg_trigger') = %(unfilled)s)
FROM tidegate.product p
JOIN pg_catalog.pg_namespace n ON n.nspname = p.chunk_schema
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.chunk_table
LEFT JOIN pg_catalog.pg_stat_all_tables s ON s.relid = c.oid
LEFT JOIN tidegate.access_statistics a ON a.relation = c.oid
ORDER BY p.product_id;

-- indexes --
SELECT x.relname, i.indisvalid, pg_catalog.obj_description(x.oid, 'pg_class')
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = %(relation)s::oid;

-- columns --
SELECT a.attname FROM pg_catalog.pg_attribute a WHERE a.attrelid = %(relation)s::oid AND a.attnum > 0 AND NOT a.attisdropped;

-- statistics_forget --
DELETE FROM tidegate.access_statistics a WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = a.relation);

-- words_forget --
DELETE FROM tidegate.chunk_words w WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = w.relation);

-- scales_fresh --
SELECT m.model FROM tidegate.model_scale m WHERE m.measured_at > clock_timestamp() - interval '1 hour';

-- scale_write --
INSERT INTO tidegate.model_scale AS m (model, distance, chunks) VALUES (%(model)s, %(distance)s, %(chunks)s)
ON CONFLICT (model) DO UPDATE SET distance = excluded.distance, chunks = excluded.chunks, measured_at = clock_timestamp();
