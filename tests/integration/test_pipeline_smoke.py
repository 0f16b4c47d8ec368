"""The way of a change, once through."""

from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide


def test_rows_before_and_after_the_start_are_indexed(tide: Tide) -> None:
    tide.admin.execute(SIMPLE_TABLE)
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (1, 'before')")
    tide.apply(SIMPLE_CONTRACT)
    tide.run()
    tide.live("team.note")
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (2, 'after')")
    tide.caught_up()
    assert tide.rows("SELECT id, content FROM rag_team.note ORDER BY id") == [(1, "before"), (2, "after")]
