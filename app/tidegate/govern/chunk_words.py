"""The words of chunks: what keeps them in step, in `tidegate.chunk_words`, beside the chunk table and not in it.

Under row-level security an index on words in the chunk table itself would never be used: the match operator is not
leakproof. So they stand in a table that nobody but its owner reads, and a definer function finds rows by them, of those
that the caller may see (sql/search_words.sql). Triggers keep them, whoever writes chunks.
"""

from collections.abc import Iterator

from psycopg import sql

from tidegate.contract.contract import Contract
from tidegate.govern.chunk_table import Statement, chunk_table

EVENTS = {
    "tidegate_words_insert": "AFTER INSERT ON {table} REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT",
    "tidegate_words_delete": "AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone FOR EACH STATEMENT",
    # Not of the whole statement, and not of the columns beside the text: changing these costs nothing here.
    "tidegate_words_update": "AFTER UPDATE OF content, chunk_no ON {table} FOR EACH ROW",
}
"""Trigger → when."""
UNFILLED = "tidegate: words of earlier chunks are to be read"


def word_triggers(contract: Contract, *, empty: bool) -> Iterator[Statement]:
    """The statements that make the triggers, or make them anew.

    Args:
        empty: the table has no chunks yet; else the worker reads the words of those that are there.
    """
    table = chunk_table(contract)
    arguments = [contract.embedding.language, *(column.name for column in contract.key_columns)]
    for name, event in EVENTS.items():
        yield sql.SQL(
            "CREATE OR REPLACE TRIGGER {name} {event} EXECUTE FUNCTION tidegate.keep_words({arguments})"
        ).format(
            name=sql.Identifier(name),
            event=sql.SQL(event).format(table=table),
            arguments=sql.SQL(", ").join(map(sql.Literal, arguments)),
        )
        yield sql.SQL("COMMENT ON TRIGGER {} ON {} IS {}").format(
            sql.Identifier(name), table, sql.Literal("tidegate: words" if empty else UNFILLED)
        )


def trigger_marks(contract: Contract) -> list[str]:
    """The triggers as the query `search_parts` gives them where they are these."""
    arguments = [contract.embedding.language, *(column.name for column in contract.key_columns)]
    return sorted(f"{name} " + "".join(f"{argument}\\000" for argument in arguments) for name in EVENTS)
