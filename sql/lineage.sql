-- From which column of whose table each column of a chunk table comes: nothing is kept for it, the published contract says.
CREATE OR REPLACE VIEW tidegate.lineage WITH (security_barrier) AS
WITH described AS (
    SELECT p.*, c.place::int AS place, c.spec ->> 'name' AS name,
           c.spec ->> 'key_position' IS NOT NULL AS is_key, c.spec -> 'mask' ->> 'kind' AS mask,
           p.chunk_table || '_clear_' || (c.spec ->> 'name') AS clear_table,
           coalesce(p.own_embedding, p.contract -> 'embedding') -> 'columns' ? (c.spec ->> 'name')
           -- {{ and }} are braces; what is left in single ones is a column.
           OR coalesce(replace(replace(coalesce(p.own_embedding, p.contract -> 'embedding') ->> 'template', '{{', ''), '}}', ''), '') LIKE '%{' || replace(c.spec ->> 'name', '_', '\_') || '}%' AS embedded
    FROM tidegate.product p CROSS JOIN jsonb_array_elements(p.contract -> 'columns') WITH ORDINALITY AS c (spec, place)
    WHERE tidegate.offered(p.chunk_schema, p.chunk_table) OR tidegate.oversees()
)
SELECT d.product, d.source_schema, d.source_table, d.name AS source_column, t.chunk_schema, t.chunk_table, t.chunk_column, t.transformation,
       d.contract_version, t.model
FROM described d
CROSS JOIN LATERAL (
    SELECT d.chunk_schema, d.chunk_table, d.name AS chunk_column,
           CASE WHEN d.is_key THEN 'key' WHEN d.mask IS NOT NULL THEN 'masked:' || d.mask ELSE 'carried' END AS transformation, NULL::text AS model, 1 AS kind
    -- By name in the catalog: an administrator may look into no domain's schema.
    WHERE EXISTS (SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE n.nspname = d.chunk_schema AND c.relname = d.chunk_table AND a.attname = d.name AND NOT a.attisdropped)
    UNION ALL
    SELECT d.chunk_schema, d.chunk_table, e.name, 'embedded', d.model, 2
    FROM unnest(ARRAY['content', 'embedding']) AS e (name) WHERE d.embedded
    UNION ALL
    -- Where revealing roles find what is masked for others. A name of more than 63 bytes ends in a hash of the whole.
    SELECT d.chunk_schema, c.relname, d.name, 'clear', NULL, 3
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE d.mask IS NOT NULL AND n.nspname = d.chunk_schema
      AND c.relname = CASE WHEN length(d.clear_table) <= 63 THEN d.clear_table
                           ELSE left(d.clear_table, 52) || '_' || left(encode(sha256(convert_to(d.clear_table, 'UTF8')), 'hex'), 10) END
) AS t
ORDER BY d.product, d.place, t.kind, t.chunk_column;
COMMENT ON VIEW tidegate.lineage IS
    'Source column to chunk column, with the contract version and, where text is embedded, the model. Readers see the products that they may search, administrators all.';
