-- source_table --
SELECT c.oid, c.relkind::text, c.relreplident::text, c.relrowsecurity,
       pg_catalog.pg_has_role(session_user, c.relowner, 'USAGE') AS owned,
       c.relispartition
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s;

-- table_names --
SELECT n.nspname || '.' || c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname !~ '^(pg_|information_schema$|tidegate$|rag_|beside_)'
ORDER BY 1;

-- restricts_relation_kinds --
-- In the minor releases of August 2024 and later.
SELECT EXISTS (SELECT FROM pg_catalog.pg_settings WHERE name = 'restrict_nonsystem_relation_kind');

-- source_columns --
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), t.typtype::text
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;

-- source_key --
SELECT array_agg(a.attname::text ORDER BY k.place)
FROM pg_catalog.pg_index i
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = %(oid)s AND i.indisprimary;

-- type_name --
SELECT pg_catalog.format_type(pg_catalog.to_regtype(%(type)s), NULL), pg_catalog.to_regtype(%(type)s) IS NULL;

-- blind_roles --
-- Roles that must read the whole source but that its row-level security may hide rows from.
SELECT r.rolname
FROM pg_catalog.pg_roles r
WHERE r.rolname IN ('tidegate_worker', 'tidegate_owner', session_user)
  AND NOT r.rolsuper AND NOT r.rolbypassrls
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy p
                  WHERE p.polrelid = %(oid)s AND p.polpermissive AND p.polcmd IN ('r', '*')
                    AND pg_catalog.pg_get_expr(p.polqual, p.polrelid) = 'true'
                    AND (r.oid = ANY (p.polroles) OR 0 = ANY (p.polroles)))
UNION
-- A restrictive policy hides rows from whom it is for, whatever else shows them.
SELECT r.rolname
FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_policy p ON p.polrelid = %(oid)s AND NOT p.polpermissive AND p.polcmd IN ('r', '*')
WHERE r.rolname IN ('tidegate_worker', 'tidegate_owner', session_user)
  AND NOT r.rolsuper AND NOT r.rolbypassrls
  AND (0 = ANY (p.polroles) OR EXISTS (SELECT FROM unnest(p.polroles) AS o(id) WHERE o.id <> 0 AND pg_catalog.pg_has_role(r.oid, o.id, 'USAGE')))
ORDER BY 1;

-- chunk_schema_owner --
SELECT n.nspowner::regrole::text FROM pg_catalog.pg_namespace n WHERE n.nspname = %(schema)s;

-- role_exists --
SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY (%(roles)s);

-- reader_members --
SELECT r.rolname FROM pg_catalog.pg_roles r
WHERE r.rolname = ANY (%(roles)s) AND pg_catalog.pg_has_role(r.oid, 'tidegate_reader', 'USAGE');

-- published_product --
SELECT p.product_id, p.contract, p.contract_version, p.contract_text, p.model, p.dimension, p.state
FROM tidegate.product p WHERE p.product = %(product)s;

-- published_server --
SELECT p.source_server FROM tidegate.product p WHERE p.product = %(product)s;

-- source_taken --
SELECT product FROM tidegate.product WHERE source_server = %(source)s AND source_schema = %(schema)s AND source_table = %(table)s AND product <> %(product)s AND beside IS NULL;

-- chunk_table --
SELECT c.oid, c.relowner::regrole::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s;

-- search_parts --
-- What searches need of a chunk table: whether there are codes, its triggers for words, and the vectors' dimension.
SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute c WHERE c.attrelid = %(oid)s AND c.attname = 'codes' AND NOT c.attisdropped),
       (SELECT coalesce(array_agg(t.tgname || ' ' || encode(t.tgargs, 'escape') ORDER BY t.tgname), '{}') FROM pg_catalog.pg_trigger t
        WHERE t.tgrelid = %(oid)s AND t.tgfoid = pg_catalog.to_regproc('tidegate.keep_words') AND t.tgenabled = 'O'),
       (SELECT e.atttypmod FROM pg_catalog.pg_attribute e WHERE e.attrelid = %(oid)s AND e.attname = 'embedding');

-- policies --
SELECT p.polname, pg_catalog.obj_description(p.oid, 'pg_policy') FROM pg_catalog.pg_policy p WHERE p.polrelid = %(oid)s;

-- policy_kinds --
-- Policies that can become another one in place: ALTER POLICY changes neither the kind nor the command.
SELECT p.polname, CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END
FROM pg_catalog.pg_policy p
WHERE p.polrelid = pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', %(schema)s::text, %(table)s::text)) AND p.polcmd = 'r';

-- clear_tables --
-- The side tables of a product's masked columns, and whether each is as it should be: its column and its type.
SELECT c.relname, pg_catalog.obj_description(c.oid, 'pg_class')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relkind = 'r' AND pg_catalog.pg_get_userbyid(c.relowner) = 'tidegate_owner'
  AND pg_catalog.starts_with(pg_catalog.obj_description(c.oid, 'pg_class'), %(prefix)s)
ORDER BY 1;

-- membership_columns --
SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod)
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', %(schema)s::text, %(table)s::text)) AND a.attnum > 0 AND NOT a.attisdropped;

-- membership_index --
-- Whether an index begins with the two columns: it gives a principal's rows at once, and one of them by its value.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_index i
    WHERE i.indrelid = pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', %(schema)s::text, %(table)s::text))
      AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts >= 2
      AND ARRAY[i.indkey[0], i.indkey[1]]::int[] = (
          SELECT array_agg(a.attnum::int ORDER BY a.attname <> %(principal)s)
          FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indrelid AND a.attname IN (%(principal)s, %(column)s)));

-- publication --
-- Whether it publishes all operations, and of the table all rows and columns. Without a list every column is published
-- but generated ones.
SELECT p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate,
       CASE WHEN t.tablename IS NULL THEN 'not' WHEN t.rowfilter IS NOT NULL OR r.prattrs IS NOT NULL THEN 'in part' ELSE 'whole' END
FROM pg_catalog.pg_publication p
LEFT JOIN pg_catalog.pg_publication_tables t ON t.pubname = p.pubname AND t.schemaname = %(schema)s AND t.tablename = %(table)s
LEFT JOIN pg_catalog.pg_publication_rel r
       ON r.prpubid = p.oid AND r.prrelid = pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', %(schema)s::text, %(table)s::text))
WHERE p.pubname = 'tidegate';

-- publish --
INSERT INTO tidegate.product AS p (product, domain, contract_version, contract, contract_text, source_schema, source_table,
    source_server, chunk_schema, chunk_table, live_function, key_columns, model, dimension, latency_ms, latency_percentile, state, applied_by,
    own_embedding)
VALUES (%(product)s, %(domain)s, %(version)s, %(contract)s, %(text)s, %(source_schema)s, %(source_table)s,
    %(source_server)s, %(chunk_schema)s, %(chunk_table)s, %(live_function)s, %(key_columns)s, %(model)s, %(dimension)s, %(latency_ms)s, %(latency_percentile)s,
    'pending', session_user, %(own_embedding)s)
ON CONFLICT (product) DO UPDATE
SET contract_version = excluded.contract_version, contract = excluded.contract, contract_text = excluded.contract_text,
    source_schema = excluded.source_schema, source_table = excluded.source_table, key_columns = excluded.key_columns,
    model = excluded.model, dimension = excluded.dimension, latency_ms = excluded.latency_ms,
    latency_percentile = excluded.latency_percentile, own_embedding = excluded.own_embedding,
    applied_by = session_user, applied_at = clock_timestamp(),
    state = CASE WHEN %(backfill)s THEN 'pending' ELSE p.state END,
    built_from = CASE WHEN %(backfill)s THEN 'source' ELSE p.built_from END,
    state_reason = CASE WHEN %(backfill)s THEN NULL ELSE p.state_reason END;

-- record --
INSERT INTO tidegate.contract_version (product, version, contract_sha256, contract, contract_text, statements, applied_by, change_class, changes)
VALUES (%(product)s, %(version)s, encode(sha256(convert_to(%(text)s, 'UTF8')), 'hex'), %(contract)s, %(text)s, %(statements)s, session_user, %(change_class)s, %(changes)s)
ON CONFLICT DO NOTHING;

-- forget_rules --
DELETE FROM tidegate.rule r USING tidegate.product p WHERE p.product_id = r.product_id AND p.product = %(product)s;

-- record_rules --
INSERT INTO tidegate.rule (product_id, place, rule_id, origin, effect, roles, when_text, condition, columns, policy, tests)
SELECT p.product_id, n.place, n.rule_id, n.origin, n.effect, n.roles, n.when_text, n.condition, n.columns, n.policy, nullif(n.tests, 'null')
FROM tidegate.product p
CROSS JOIN jsonb_to_recordset(%(rules)s) AS n (place int, rule_id text, origin text, effect text, roles text[], when_text text, condition jsonb, columns text[], policy text, tests jsonb)
WHERE p.product = %(product)s;

-- forget_rows --
DELETE FROM tidegate.ledger l USING tidegate.product p WHERE p.product_id = l.product_id AND p.product = %(product)s;

-- announce --
-- The worker sees it in the stream (from 16000 on: one row a partition, so that all workers do) and reads the catalog again.
UPDATE tidegate.heartbeat SET beat_at = clock_timestamp() WHERE heartbeat_id = 2 OR heartbeat_id >= 16000;

-- published_specs --
SELECT p.contract_text, p.contract FROM tidegate.product p WHERE p.beside IS NULL ORDER BY p.product;

-- planned_rows --
-- As the planner knows them; -1 where it never looked.
SELECT CASE WHEN c.relpages = 0 THEN -1 ELSE c.reltuples END::bigint
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s;
