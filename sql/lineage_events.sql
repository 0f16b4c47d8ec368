-- traces --
SELECT l.source_column, l.chunk_schema, l.chunk_table, l.chunk_column, l.transformation, l.model
FROM tidegate.lineage l WHERE l.product = %(product)s;

-- product --
SELECT p.product_id, p.contract, p.dimension, p.backfilled_at::text FROM tidegate.product p WHERE p.product_id = %(product_id)s;

-- product_of_table --
SELECT p.product_id, p.contract, p.dimension, p.backfilled_at::text
FROM tidegate.product p WHERE p.source_schema = %(schema)s AND p.source_table = %(table)s;
