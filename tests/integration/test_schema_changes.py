"""Contracts and tables that change while the pipeline runs."""

from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide, wait_until


def test_a_column_that_becomes_needed_is_indexed_without_a_restart(tide: Tide) -> None:
    tide.admin.execute(SIMPLE_TABLE)
    tide.admin.execute("ALTER TABLE team.note ADD COLUMN shouted text GENERATED ALWAYS AS (upper(title)) STORED")
    tide.admin.execute("INSERT INTO team.note (id, title, body) VALUES (1, 'one', 'first'), (2, 'two', 'second')")
    only_title = SIMPLE_CONTRACT.replace("columns: [title, body]", "columns: [title]")
    tide.apply(only_title)
    tide.run()
    tide.live("team.note")

    tide.apply(SIMPLE_CONTRACT.replace("version: 1.0.0", "version: 1.1.0"))
    tide.live("team.note")
    assert tide.rows("SELECT id, content FROM rag_team.note ORDER BY id") == [(1, "one\n\nfirst"), (2, "two\n\nsecond")]

    # A generated column never comes with the stream; it is read from the table.
    column = "      - {id: shouted, name: shouted, logicalType: string, physicalType: text}\n"
    with_generated = SIMPLE_CONTRACT.replace("      - {id: body,", column + "      - {id: body,")
    tide.apply(with_generated.replace("columns: [title, body]", "columns: [shouted]"))
    tide.live("team.note")
    tide.admin.execute("UPDATE team.note SET title = 'uno' WHERE id = 1")
    tide.caught_up()
    assert tide.rows("SELECT id, content FROM rag_team.note ORDER BY id") == [(1, "UNO"), (2, "TWO")]
    assert tide.one("SELECT count(*) FROM tidegate.dead_letter") == 0


def test_a_table_with_another_key_suspends_its_product_and_a_rebuild_mends_it(tide: Tide) -> None:
    tide.admin.execute(SIMPLE_TABLE)
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (1, 'Europe')")
    tide.apply(SIMPLE_CONTRACT)
    tide.run()
    tide.live("team.note")
    tide.admin.execute("ALTER TABLE team.note DROP CONSTRAINT note_pkey, ADD PRIMARY KEY (id, region)")
    tide.admin.execute("INSERT INTO team.note (id, title, region) VALUES (1, 'America', 'US')")
    wait_until(lambda: tide.one("SELECT state FROM tidegate.product") == "suspended", 10, "it is suspended")
    assert "(id, region)" in tide.one("SELECT state_reason FROM tidegate.product")

    wider = SIMPLE_CONTRACT.replace(
        "physicalType: text, required: true, tags: [filter]}",
        "physicalType: text, required: true, primaryKey: true, primaryKeyPosition: 2, tags: [filter]}",
    )
    tide.apply(wider.replace("version: 1.0.0", "version: 2.0.0"), rebuild=True)
    tide.live("team.note")
    assert tide.rows("SELECT region, content FROM rag_team.note ORDER BY 1") == [("EU", "Europe"), ("US", "America")]


def test_a_renamed_table_suspends_its_product_and_applying_it_again_mends_it(tide: Tide) -> None:
    tide.admin.execute(SIMPLE_TABLE)
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (1, 'one'), (2, 'two')")
    tide.apply(SIMPLE_CONTRACT)
    tide.run()
    tide.live("team.note")
    tide.admin.execute("ALTER TABLE team.note RENAME TO moved")
    wait_until(lambda: tide.one("SELECT state FROM tidegate.product") == "suspended", 10, "it is suspended")
    tide.admin.execute("DELETE FROM team.moved WHERE id = 1; INSERT INTO team.moved (id, title) VALUES (3, 'three')")
    tide.admin.execute("ALTER TABLE team.moved RENAME TO note")
    tide.apply(SIMPLE_CONTRACT)
    tide.live("team.note")
    assert tide.rows("SELECT id, content FROM rag_team.note ORDER BY 1") == [(2, "two"), (3, "three")]
