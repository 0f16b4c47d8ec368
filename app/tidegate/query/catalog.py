"""The products that a caller may search, and what the database refuses."""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from tidegate.errors import TidegateError, UnknownName, UsageError
from tidegate.query.steps import Steps, T, fetch
from tidegate.sql import queries

SQL = {name: sql.SQL(text) for name, text in queries("client").items()}


class SearchRefused(TidegateError):
    """The database refused the search."""


class ModelChanged(SearchRefused):
    """The question was embedded under another model than the product has now."""


class NoSuchRow(TidegateError):
    """There is no such row, or none that the caller may see."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A product that the caller may search."""

    product: str
    model: str
    state: str
    state_reason: str | None
    key_columns: Sequence[str]
    chunk_schema: str
    chunk_table: str


def offered(products: Sequence[str] | None) -> Steps[list[Offered]]:
    """These products, or all that are offered and not suspended.

    Raises:
        UnknownName: one is not published, or not offered to the caller.
        SearchRefused: one is suspended.
    """
    rows = yield from fetch(SQL["offered"])
    found = {row[0]: Offered(*row) for row in rows}
    if products is None:
        return [each for each in found.values() if each.state != "suspended"]
    for name in products:
        if name not in found:
            who = yield from whoami()
            raise UnknownName(
                f'product "{name}" is not published, or not offered to role "{who}"; '
                f"there are: {', '.join(found) or 'none'}"
            )
        if found[name].state == "suspended":
            raise SearchRefused(f'product "{name}" is suspended: {found[name].state_reason}')
    return [found[name] for name in dict.fromkeys(products)]


def why_nothing(products: Sequence[str] | None) -> Steps[str]:
    """One sentence on why a search may have found nothing."""
    rows = yield from fetch(SQL["offered"])
    asked = [(row[0], row[2]) for row in rows if products is None or row[0] in products]
    waiting = [name for name, state in asked if state in ("pending", "backfilling")]
    if waiting:
        return f'{", ".join(waiting)}: not all rows are indexed yet; is "tidegate run" at work?'
    ((who, unbound),) = yield from fetch(SQL["caller"])
    if not asked:
        return f'no product is offered to role "{who}"'
    if unbound:
        return (
            f'nothing that the rules show role "{who}" fits: a strict search holds to them for superusers, too; '
            "ask as somebody whom they show rows, --as ROLE or role=…"
        )
    return f'nothing that role "{who}" may see fits; tidegate.whoami() tells what is known of it'


def whoami() -> Steps[str]:
    """The role that asks."""
    rows = yield from fetch(SQL["caller"])
    return str(rows[0][0])


def refusals(steps: Steps[T]) -> Steps[T]:
    """The steps, with what the database refuses said in the caller's words.

    Raises:
        NoSuchRow: what the call starts from is not there.
        UsageError: the caller may not use tidegate, or passed something that the database says is wrong.
        ModelChanged: a product is under another model than the question.
        SearchRefused: it refused for another reason.
    """
    try:
        return (yield from steps)
    except psycopg.errors.InsufficientPrivilege as error:
        who = yield from whoami()
        raise UsageError(
            f'role "{who}" may not use tidegate: {error.diag.message_primary}; '
            "an administrator grants it the role of a contract"
        ) from None
    except psycopg.errors.NoDataFound as error:
        raise NoSuchRow(error.diag.message_primary) from None
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        message = ". ".join(part for part in (error.diag.message_primary, error.diag.message_hint) if part)
        if error.sqlstate == _MODEL_CHANGED:
            raise ModelChanged(message) from None
        if (error.sqlstate or "").startswith("22") or error.sqlstate in _WRONGLY_USED:
            raise UsageError(message) from None
        raise SearchRefused(f"the search was refused: {message or error}") from None


_MODEL_CHANGED = "TG001"
"""See sql/search_statement.sql."""
_WRONGLY_USED = frozenset({"42703", "42704", "42804", "42846"})
"""undefined_column, undefined_object, datatype_mismatch, cannot_coerce: what the caller passed. Class 22 is data."""
