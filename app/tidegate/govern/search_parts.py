"""What searches need of a chunk table that an earlier release made: codes, and the triggers that keep words."""

from collections.abc import Iterator

from psycopg import sql

from tidegate.contract.contract import Contract
from tidegate.database import Connection, vector_schema
from tidegate.govern.chunk_table import Statement, chunk_table, code_column, inline_vectors
from tidegate.govern.chunk_words import trigger_marks, word_triggers
from tidegate.sql import queries


class SearchParts:
    """Compares a chunk table that is there with what `create_table` would make now."""

    def __init__(self, connection: Connection, contract: Contract, oid: int):
        self._connection = connection
        self._contract = contract
        row = connection.execute(queries("govern")["search_parts"], {"oid": oid}).fetchone()
        self._coded, self._triggers, self._dimension = row or (True, [], 0)

    def steps(self) -> Iterator[Statement]:
        """The statements that bring it up to date; the worker's upkeep does the rest."""
        table = chunk_table(self._contract)
        schema = vector_schema(self._connection)
        if not self._coded:
            yield from inline_vectors(self._contract, self._dimension)
            yield sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(table, code_column(self._dimension, schema))
        if self._triggers != trigger_marks(self._contract):
            yield sql.SQL("DELETE FROM tidegate.chunk_words WHERE relation = {}::regclass").format(
                sql.Literal(table.as_string(self._connection))
            )
            yield from word_triggers(self._contract, empty=False)

    def summary(self) -> Iterator[str]:
        """A line for each of them."""
        if not self._coded:
            yield "adds the codes by which searches find candidates"
        if self._triggers != trigger_marks(self._contract):
            yield f"keeps the words of the chunks ({self._contract.embedding.language})"
