"""How the chunks of a table fall into groups by what its rules ask: what searches estimate their caller's share by."""

from psycopg import sql

from tidegate.database import Connection
from tidegate.index.product import Product

_ROWS = 30_000
"""Chunks looked at; taken by pages, so that a table of any size costs the same."""
_GROUPS = 400
_TAIL = 200
_SAMPLE = 500

_MEASURE = """
WITH looked_at AS MATERIALIZED (
    SELECT {carried} FROM {table} AS t {sampling}
), grouped AS (
    SELECT to_jsonb(a) AS "row", count(*)::float8 AS weight FROM looked_at AS t CROSS JOIN LATERAL (SELECT {asked}) AS a
    GROUP BY 1
), placed AS (
    SELECT g.*, row_number() OVER (ORDER BY g.weight DESC) AS place, count(*) OVER () AS number FROM grouped AS g
), kept AS (
    SELECT p."row", p.weight FROM placed AS p WHERE p.place <= {groups}
    UNION ALL
    -- Groups beyond the largest: some of them at random stand for all.
    SELECT t."row", t.weight * (t.number - {groups}) / least({tail}, t.number - {groups})
    FROM (SELECT p.* FROM placed AS p WHERE p.place > {groups} ORDER BY random() LIMIT {tail}) AS t
)
INSERT INTO tidegate.access_statistics AS a (relation, groups, sample, shares, changes)
SELECT %(relation)s,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('weight', k.weight, 'row', k."row")), '[]') FROM kept AS k),
       (SELECT coalesce(jsonb_agg(jsonb_build_object('weight', 1, 'row', to_jsonb(s))), '[]')
        FROM (SELECT * FROM looked_at ORDER BY random() LIMIT {sample}) AS s),
       (SELECT coalesce(jsonb_object_agg(c.name, c.shares), '{{}}')
        FROM (SELECT v.name, jsonb_object_agg(v.value #>> '{{}}', v.share) AS shares
              FROM (SELECT e.name, e.value, sum(k.weight) / (SELECT sum(w.weight) FROM kept AS w) AS share
                    FROM kept AS k CROSS JOIN LATERAL jsonb_each(k."row") AS e (name, value)
                    WHERE jsonb_typeof(e.value) = 'string' GROUP BY 1, 2) AS v
              GROUP BY v.name) AS c),
       %(changes)s
ON CONFLICT (relation) DO UPDATE
SET groups = excluded.groups, sample = excluded.sample, shares = excluded.shares, changes = excluded.changes,
    measured_at = clock_timestamp()
"""


def measure(worker: Connection, product: Product, relation: int, chunks: int, changes: int) -> None:
    """Looks at some of the chunks and writes their groups down.

    Args:
        worker: as tidegate_worker.
        chunks, changes: of the table by now, as the server's statistics count them.
    """
    asked = [sql.Identifier("t", column.name) for column in product.contract.columns_of_rules]
    carried = [sql.Identifier("t", column.name) for column in product.contract.carried_columns]
    sampling: sql.Composable = sql.SQL("")
    if chunks > _ROWS:
        sampling = sql.SQL("TABLESAMPLE SYSTEM ({})").format(sql.Literal(100.0 * _ROWS / chunks))
    worker.execute(
        sql.SQL(_MEASURE).format(
            carried=sql.SQL(", ").join(carried),
            table=product.chunk_table,
            sampling=sampling,
            asked=sql.SQL(", ").join(asked),
            groups=sql.Literal(_GROUPS),
            tail=sql.Literal(_TAIL),
            sample=sql.Literal(_SAMPLE),
        ),
        {"relation": relation, "changes": changes},
    )
