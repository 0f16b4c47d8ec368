"""Guesses about a table's columns, by name, type and statistics. Each says why, since a person decides."""

import re
from dataclasses import dataclass

from tidegate.contract.columns import KEY_TYPES, is_key_type
from tidegate.contract.contract import RESERVED_COLUMNS
from tidegate.contract.family import Family, family, physical_type
from tidegate.contract.identifier import is_identifier
from tidegate.contract.table_profile import ColumnProfile, TableProfile
from tidegate.errors import TidegateError

_PERSONAL = {
    "an e-mail address": r"e_?mail|mail_address",
    "a telephone number": r"phone|telephone|mobile|cell_number|fax",
    "bank or card details": r"iban|bic|bank_account|account_number|credit_card|card_number|cvv|cvc",
    "an identity number": r"ssn|social_security|tax_id|tax_number|passport|national_id|id_card|licen[cs]e_number|bsn",
    "a date of birth": r"dob|birth_?date|date_of_birth|birthday|born_on",
    "a person's name": r"first_?name|last_?name|sur_?name|full_?name|given_name|family_name|maiden_name",
    "an address": r"street|post_?code|zip_?code|postal_code|home_address|billing_address|shipping_address|address",
    "an IP address": r"ip|ip_addr|ip_address|remote_addr",
    "pay": r"salary|wage|income",
    "health": r"diagnosis|medical|health|blood_type",
    "a secret": r"passw(or)?d|password_hash|secret|api_?key|token|access_token|private_key|pin",
}
_TENANT = r"tenant|tenant_id|tenant_uuid|org_id|organi[sz]ation_id|workspace_id"
_DELETED = r"deleted|is_deleted|deleted_at"
_TITLE = r"title|subject|name|headline|heading|label|question|summary|short_description|topic"
_PROSE = r"body|text|content|description|message|comment|comments|notes?|answer|abstract|article|details?|review|remark"
_CODE = (
    r"status|state|type|kind|category|code|lang|language|locale|country|region|currency|priority|severity|level|unit"
)
_MEASURE = (
    r"price|amount|cost|total|fee|rate|rating|score|stock|quantity|qty|count|weight|year|age|priority|level|severity"
)
FEW = 100
"""So many distinct values, at most, make a code that people filter by."""
LONG = 40.0
"""Bytes of an average value from which a text is prose."""


class NotDrafted(TidegateError):
    """The table cannot have a contract as it is."""


@dataclass(frozen=True, slots=True)
class Guess:
    """What a column is taken for, and why, in words for the contract's comments."""

    column: ColumnProfile
    type: str
    embed: str | None = None
    filter: str | None = None
    personal: str | None = None

    @property
    def is_text(self) -> bool:
        """Whether it holds text of any kind."""
        return family(self.type) in (Family.TEXT, Family.CITEXT)


@dataclass(frozen=True, slots=True)
class Guesses:
    """`left_out`: columns that a contract cannot have, and why. `tenant`, `deleted`: columns for rules."""

    columns: tuple[Guess, ...]
    left_out: dict[str, str]
    tenant: ColumnProfile | None
    deleted: ColumnProfile | None

    @property
    def embedded(self) -> tuple[Guess, ...]:
        """What is embedded, in the table's order."""
        return tuple(guess for guess in self.columns if guess.embed)


def guess_columns(table: TableProfile) -> Guesses:
    """Takes each column for something.

    Raises:
        NotDrafted: the key is of no use, or there is nothing to embed; says what to do.
    """
    found: list[Guess] = []
    left_out: dict[str, str] = {}
    for column in table.columns:
        reason, type_ = _unfit(column)
        if column.key_position and (reason or not is_key_type(type_) or column.name in RESERVED_COLUMNS):
            why = reason or (
                f"is {type_}; a key column is one of {', '.join(KEY_TYPES)}"
                if not is_key_type(type_)
                else "has the name of a column that every chunk table has; rename it"
            )
            raise NotDrafted(f"{table.name}: key column {column.name} {why}")
        if reason:
            left_out[column.name] = reason
        else:
            found.append(_guess(column, type_, table.rows))
    found = _with_something_to_embed(found, table)
    tenant = next((guess.column for guess in found if _is(_TENANT, guess) and _comparable(guess)), None)
    deleted = next((guess.column for guess in found if _is(_DELETED, guess) and _is_mark(guess)), None)
    return Guesses(tuple(found), left_out, tenant, deleted)


def _unfit(column: ColumnProfile) -> tuple[str | None, str]:
    if not is_identifier(column.name):
        return "has a name that a contract cannot write (a-z, 0-9 and _)", ""
    try:
        return None, physical_type(column.type)
    except ValueError:
        return f"is of type {column.type}, which a contract cannot name", ""


def _guess(column: ColumnProfile, type_: str, rows: float) -> Guess:
    kind = family(type_)
    plain = Guess(column, type_)
    personal = next((what for what, names in _PERSONAL.items() if _named(names, column.name)), None)
    if personal and column.key_position:
        return plain  # a key stands beside every chunk, so it cannot be restricted
    if personal and kind is not Family.BOOLEAN:
        return Guess(column, type_, personal=f"looks like {personal}")
    if column.key_position:
        return plain
    if kind in (Family.TEXT, Family.CITEXT):
        why = _why_embed(column, rows)
        if why:
            return Guess(column, type_, embed=why)
    why = None if column.name in RESERVED_COLUMNS else _why_filter(column, kind, rows)
    return Guess(column, type_, filter=why)


def _why_embed(column: ColumnProfile, rows: float) -> str | None:
    if _named(_CODE, column.name):
        return None
    if column.width is None or column.distinct_values is None:
        return "by its name" if _named(f"{_TITLE}|{_PROSE}", column.name) else None
    repeats = rows >= 2 * FEW and column.distinct_values <= max(FEW, rows / 20)
    if repeats and column.width < LONG:
        return None
    if column.width >= LONG:
        return f"text of {column.width:.0f} bytes on average"
    return "by its name, and its values differ" if _named(f"{_TITLE}|{_PROSE}", column.name) else None


def _why_filter(column: ColumnProfile, kind: Family, rows: float) -> str | None:
    if column.is_enum:
        return "an enum"
    match kind:
        case Family.BOOLEAN:
            return "a yes or no"
        case Family.DATE | Family.TIMESTAMP | Family.TIMESTAMPTZ:
            return "a date"
        case Family.INTEGER | Family.NUMERIC if _named(rf"{_MEASURE}|\w+_(?:{_MEASURE})", column.name):
            return "a number that people ask by"
        case Family.TEXT | Family.CITEXT | Family.INTEGER:
            if _named(_TENANT, column.name):
                return "who the row belongs to"
            few = (
                column.distinct_values is not None and rows >= 20 and 0 < column.distinct_values <= min(FEW, rows / 10)
            )
            if few:
                return f"about {column.distinct_values:.0f} distinct values"
            return "a code, by its name" if kind is not Family.INTEGER and _named(_CODE, column.name) else None
        case Family.UUID if _named(_TENANT, column.name):
            return "who the row belongs to"
        case _:
            return None


def _with_something_to_embed(found: list[Guess], table: TableProfile) -> list[Guess]:
    """At least one column to embed: the widest text where none suggested itself."""
    texts = [guess for guess in found if guess.is_text and not guess.column.key_position]
    if not texts:
        raise NotDrafted(
            f"{table.name} has no text column beside its key, so there is nothing to search by meaning; there are: "
            + ", ".join(f"{guess.column.name} ({guess.type})" for guess in found)
        )
    if any(guess.embed for guess in found):
        return found
    open_ = [guess for guess in texts if not guess.personal]
    if not open_:
        raise NotDrafted(
            f"{table.name}: its only text looks like personal data "
            f"({', '.join(f'{guess.column.name}: {guess.personal}' for guess in texts)}), which is not embedded by "
            "a guess; write the contract by hand if it should be"
        )
    widest = max(open_, key=lambda guess: guess.column.width or 0.0)
    chosen = Guess(widest.column, widest.type, embed="the only text there is, or the longest", filter=widest.filter)
    return [chosen if guess is widest else guess for guess in found]


def _named(pattern: str, name: str) -> bool:
    """Whether the name is one of these, or ends in one: `customer_email`."""
    return re.fullmatch(rf"(?:\w+_)?(?:{pattern})", name) is not None


def _is(pattern: str, guess: Guess) -> bool:
    return re.fullmatch(pattern, guess.column.name) is not None and guess.column.name not in RESERVED_COLUMNS


def _comparable(guess: Guess) -> bool:
    return family(guess.type) in (Family.TEXT, Family.INTEGER, Family.UUID) and not guess.column.key_position


def _is_mark(guess: Guess) -> bool:
    if guess.column.name.endswith("_at"):
        return family(guess.type) in (Family.TIMESTAMPTZ, Family.TIMESTAMP, Family.DATE)
    return family(guess.type) is Family.BOOLEAN
