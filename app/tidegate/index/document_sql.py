"""The same documents as `document` makes, by the server that has the rows: what is compared need not be sent."""

from psycopg import sql

from tidegate.contract.embedding import Embedding
from tidegate.index.document import PART, hash_prefix

BLANKS = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""What `str.isspace` calls blank."""


def document_sql(embedding: Embedding, row: str) -> sql.Composed:
    """An expression for the text that `document` gives, in a statement that has parameters.

    Args:
        row: alias of the source table in the statement.
    """
    columns = [sql.SQL("{}::text").format(sql.Identifier(row, name)) for name in embedding.document_columns]
    filled = [sql.SQL("btrim({}, {}) <> ''").format(column, sql.Literal(BLANKS)) for column in columns]
    if embedding.template is None:
        texts = sql.SQL(", ").join(
            sql.SQL("CASE WHEN {} THEN {} END").format(test, column)
            for test, column in zip(filled, columns, strict=True)
        )
        return sql.SQL("array_to_string(ARRAY[{}]::text[], {})").format(texts, sql.Literal("\n\n"))
    parts: list[sql.Composable] = []
    end = 0
    for part in PART.finditer(embedding.template):
        parts.append(_text(embedding.template[end : part.start()]))
        parts.append(
            sql.Literal(part[0][0]) if part[1] is None else sql.SQL("{}::text").format(sql.Identifier(row, part[1]))
        )
        end = part.end()
    parts.append(_text(embedding.template[end:]))
    text = sql.SQL(", ").join(parts)
    return sql.SQL("CASE WHEN {} THEN concat({}) ELSE '' END").format(sql.SQL(" OR ").join(filled), text)


def hash_sql(embedding: Embedding, text: sql.Composable, model: str | None = None) -> sql.Composed:
    """An expression for what `document_hash` gives; `text`: an expression for the document."""
    return sql.SQL("sha256({} || convert_to({}, 'UTF8'))").format(sql.Literal(hash_prefix(embedding, model)), text)


def blank_sql(text: sql.Composable) -> sql.Composed:
    """Whether the document has nothing to be indexed."""
    return sql.SQL("btrim({}, {}) = ''").format(text, sql.Literal(BLANKS))


def _text(text: str) -> sql.Literal:
    """A literal; psycopg would take a percent sign for a parameter."""
    return sql.Literal(text.replace("%", "%%"))
