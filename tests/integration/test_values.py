"""Values of all sorts: the same document by the stream, by a backfill and read from the table."""

import json

import pytest
from tests.conftest import Tide
from tests.integration.offer import offer

from tidegate.observe.dead_letters import list_dead_letters

COLUMNS = {
    "id": "integer", "words": "text", "flag": "boolean", "number": "numeric(12,3)", "free": "numeric", "big": "bigint",
    "real4": "real", "real8": "double precision", "day": "date", "moment": "timestamptz", "wall": "timestamp", "clock": "time",
    "doc": "jsonb", "raw": "bytea", "tags": "text[]", "numbers": "integer[]", "amounts": "numeric[]", "moments": "timestamptz[]", "flags": "boolean[]", "ids": "uuid[]",
}  # fmt: skip
ROWS = {
    "words": ["'🌊 Grüße 你好'", "e'bell\\x01 here'", "''", "e' \\n\\t '", "'{\"not\": \"json\"}'", "'__debezium'"],
    "flag": ["true", "false"],
    "number": ["1.5", "-0.001", "'NaN'", "123456789.000"],
    "free": ["1.50", "12345678901234567890.123456789", "'Infinity'", "'-Infinity'", "'NaN'", "0.0000001", "1e20"],
    "big": ["9223372036854775807", "-1"],
    "real4": ["0.1", "1e10", "1e-10", "'NaN'", "'Infinity'", "100000", "1234567"],
    "real8": ["0.1", "1e10", "1e15", "1e-5", "'NaN'", "'-Infinity'", "3", "123456.789"],
    "day": ["'2026-02-03'", "'0044-03-15 BC'", "'infinity'", "'-infinity'", "'12026-01-01'"],
    "moment": ["'2026-02-03 04:05:06.7+02'", "'0044-03-15 12:00:00+00 BC'", "'infinity'", "'-infinity'", "'1900-01-01 00:00+00'"],
    "wall": ["'2026-02-03 04:05:06'", "'2026-02-03 04:05:06.123456'", "'infinity'", "'0044-03-15 12:00 BC'"],
    "clock": ["'04:05:06'", "'04:05:06.789'", "'00:00'"],
    "doc": ["'{\"b\": [1, 2.50, null], \"a\": \"ü\"}'", "'null'", "'\"text\"'", "'[]'"],
    "raw": ["'\\x00ff'", "'\\x'"],
    "tags": ["ARRAY['a', 'b,c', 'd\"e', NULL, '', 'NULL', 'x y', '{}']", "'{}'"],
    "numbers": ["'{1,2,NULL}'", "'{}'"],
    "amounts": ["'{1.50,NULL,-3}'"],
    "moments": ["ARRAY[timestamptz '2026-02-03 04:05:06.7+02']"],
    "flags": ["'{t,f,NULL}'"],
    "ids": ["'{5b2d6c1e-0000-4000-8000-000000000001}'"],
}  # fmt: skip


@pytest.mark.parametrize("arrays", [False, True], ids=["scalars", "arrays"])
def test_every_value_makes_the_same_document_by_every_way(tide: Tide, arrays: bool) -> None:
    # Apart, because a null array makes the worker read the whole row from the table.
    columns = {"id": "integer"} | {n: t for n, t in COLUMNS.items() if n != "id" and t.endswith("[]") == arrays}
    values = [(column, value) for column in columns for value in ROWS.get(column, ())]
    default = " DEFAULT '{}'" if arrays else ""
    run = tide.admin.execute
    run("CREATE SCHEMA team")
    definitions = [f"{name} {type_}{default if name != 'id' else ''}" for name, type_ in columns.items()]
    run(f"CREATE TABLE team.v ({', '.join(definitions)}, PRIMARY KEY (id))")
    run("SET timezone = 'UTC'")

    def insert(start: int) -> None:
        for number, (column, value) in enumerate(values, start):
            run(f"INSERT INTO team.v (id, {column}) VALUES ({number}, {value})")

    insert(0)
    names = [name for name in columns if name != "id"]
    carried = [name for name in names if name not in ("raw", "clock")]
    template = "|" + "|".join(f"{{{name}}}" for name in names) + "|"
    tide.apply(offer("team.v", columns, carried=carried, template=template))
    tide.run()
    tide.live("team.v")
    insert(1000)
    tide.caught_up()
    parked = [(json.loads(letter.key)["id"], letter.reason) for letter in list_dead_letters(tide.admin)]
    assert [(*values[id_ % 1000], reason) for id_, reason in parked] == []
    written = "'|' || " + " || '|' || ".join(f"coalesce(s.{name}::text, '')" for name in names) + " || '|'"
    differing = tide.rows(
        f"SELECT s.id, {written}, c.content FROM team.v s LEFT JOIN rag_team.v c USING (id) "
        f"WHERE {written} IS DISTINCT FROM c.content ORDER BY 1"
    )
    # Rows without any text have no chunk.
    blank = ("''", "e' \\n\\t '")
    assert [
        (row[0] // 1000, *values[row[0] % 1000], *row[1:]) for row in differing if values[row[0] % 1000][1] not in blank
    ] == []
    same = " AND ".join(f"s.{name} IS NOT DISTINCT FROM c.{name}" for name in carried)
    others = tide.rows(f"SELECT s.id FROM team.v s JOIN rag_team.v c USING (id) WHERE NOT ({same}) ORDER BY 1")
    assert [values[row[0] % 1000] for row in others] == []
    empty = [number for number, (_, value) in enumerate(values) if value in blank]
    assert tide.rows("SELECT id FROM rag_team.v WHERE id %% 1000 = ANY (%s)", empty) == []


def test_null_stays_null_where_the_column_has_a_default(tide: Tide) -> None:
    columns = {"id": "integer", "title": "text", "region": "text", "price": "numeric"}
    run = tide.admin.execute
    run("CREATE SCHEMA team")
    run(
        "CREATE TABLE team.d (id integer PRIMARY KEY, title text DEFAULT 'x', region text DEFAULT 'EU', price numeric DEFAULT 1)"
    )
    run("INSERT INTO team.d VALUES (1, 'read', NULL, NULL)")
    tide.apply(offer("team.d", columns, carried=["region", "price"], template="{title} {region} {price}"))
    tide.run()
    tide.live("team.d")
    run("INSERT INTO team.d VALUES (2, 'streamed', NULL, NULL)")
    run("INSERT INTO team.d (id, title) VALUES (3, 'left out')")
    tide.caught_up()
    assert tide.rows("SELECT region, price::text, trim(content) FROM rag_team.d ORDER BY id") == [
        (None, None, "read"),
        (None, None, "streamed"),
        ("EU", "1", "left out EU 1"),
    ]
