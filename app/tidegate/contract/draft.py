"""A first contract for a table, as YAML to be edited: comments say why each guess was made."""

import json
import uuid
from collections.abc import Iterator

from tidegate.contract.family import Family, family
from tidegate.contract.guess import Guess, Guesses, NotDrafted, guess_columns
from tidegate.contract.identifier import MAX_BYTES, fit, is_identifier, is_source_schema
from tidegate.contract.table_profile import TableProfile
from tidegate.errors import UsageError

MODEL = "local/all-minilm-l6-v2"
_BYTES_PER_TOKEN = 4
_LOGICAL = {
    Family.INTEGER: "integer",
    Family.NUMERIC: "number",
    Family.BOOLEAN: "boolean",
    Family.TIMESTAMP: "timestamp",
    Family.TIMESTAMPTZ: "timestamp",
    Family.DATE: "date",
}


def product_names(product: str) -> tuple[str, str]:
    """Domain and table of `domain.table`.

    Raises:
        UsageError: it is no product's name.
    """
    domain, dot, table = product.partition(".")
    if not dot or not is_identifier(domain) or not is_identifier(table) or len(f"rag_{domain}") > MAX_BYTES:
        raise UsageError(f"{product!r} is not a product's name; write domain.table (a-z, 0-9 and _)")
    return domain, table


def draft(product: str, table: TableProfile) -> str:
    """The contract's text. It passes lint by tidegate's own standards, and apply as it is.

    Raises:
        UsageError: the product's name is none.
        NotDrafted: the table cannot have a contract yet; says what to do.
    """
    domain, _ = product_names(product)
    if not is_source_schema(table.schema):
        raise NotDrafted(f"schema {table.schema} belongs to the server or to tidegate; no product can be in it")
    guesses = guess_columns(table)
    role = fit(f"{domain}_reader")
    return "\n".join([*_head(product, domain, role, table), *_schema(table, guesses, role), *_tail()]) + "\n"


def _head(product: str, domain: str, role: str, table: TableProfile) -> Iterator[str]:
    purpose = table.comment or f"Rows of {table.name}, searchable by meaning."
    yield f"# A draft for {table.name}, from its columns, keys, comments and statistics. Guesses say why: decide each."
    yield "# Then: tidegate lint FILE && tidegate apply FILE"
    yield "apiVersion: v3.2.0"
    yield "kind: DataContract"
    yield f"id: {uuid.uuid5(uuid.NAMESPACE_URL, f'tidegate:{table.database}/{product}')}"
    yield f"name: {product}"
    yield "version: 1.0.0"
    yield "status: active"
    yield f"domain: {domain}"
    yield f"dataProduct: {product}"
    yield "description:"
    yield f"  purpose: {_quoted(purpose)}" + ("  # the table's comment" if table.comment else "")
    yield "servers:"
    yield (
        f"  - {{server: source, type: postgres, host: {_quoted(table.host)}, port: {table.port}, "
        f"database: {_quoted(table.database)}, schema: {table.schema}}}"
    )
    yield "team:"
    yield f"  name: {_quoted(f'{domain}-data')}"
    yield "  members:"
    yield f"    - {{username: {_quoted(f'{domain}-data@example.com')}, role: owner}}  # whom to ask; put yours"
    yield "roles:"
    yield f"  - {{role: {role}, access: read}}  # invented; apply creates it without members"


def _tail() -> Iterator[str]:
    yield "slaProperties:"
    yield "  # 95 % of the changes are searchable within half a second of their commit (tidegate status)"
    yield (
        "  - {id: freshness, property: latency, value: 500, unit: ms, driver: operational, "
        "customProperties: [{property: percentile, vendor: tidegate, value: 95}]}"
    )


def _schema(table: TableProfile, guesses: Guesses, role: str) -> Iterator[str]:
    yield "schema:"
    yield f"  - id: {table.table}"
    yield f"    name: {table.table}"
    yield f"    physicalName: {table.table}"
    yield "    physicalType: table"
    yield "    logicalType: object"
    yield "    properties:"
    for guess in guesses.columns:
        yield from _column(guess)
    for name, reason in guesses.left_out.items():
        yield f"      # left out: {_plain(name)} {_plain(reason)}"
    yield "    customProperties:"
    yield "      - property: embedding"
    yield "        vendor: tidegate"
    yield "        value:"
    yield "          columns:"
    for guess in guesses.embedded:
        yield f"            - {_name(guess.column.name)}  # {guess.embed}"
    yield f"          {_chunk(guesses)}"
    yield f"          model: {MODEL}  # in this process; or openai/…, ollama/…, anything litellm reaches"
    yield "      - property: rowAccess"
    yield "        vendor: tidegate"
    yield "        value:"
    yield "          grammar: 1"
    yield "          rules:"
    if guesses.tenant is not None:
        name = guesses.tenant.name
        attribute = name.removesuffix("_uuid").removesuffix("_id")
        yield f"            # {name} looks like a tenant's: one sees one's own (tidegate principal set … {attribute}=…)"
        yield f'            - {{id: tenant, effect: require, when: "row.{name} = user.{attribute}"}}'
    if guesses.deleted is not None:
        name = guesses.deleted.name
        when = f"row.{name} is not null" if name.endswith("_at") else f"row.{name}"
        yield f"            # {name} marks rows as deleted, it seems: nobody finds them"
        yield f'            - {{id: deleted, effect: deny, when: "{when}"}}'
    yield '            # whose members may see the rows; narrow it with when: "row.… = user.…"'
    yield f"            - {{id: readers, effect: allow, to: [{role}]}}"


def _column(guess: Guess) -> Iterator[str]:
    column = guess.column
    name = _name(column.name)
    parts = [f"id: {name}", f"name: {name}", f"logicalType: {_logical(guess.type)}"]
    parts.append(f"physicalType: {json.dumps(guess.type)}")
    if column.key_position:
        parts += ["primaryKey: true", f"primaryKeyPosition: {column.key_position}"]
    if column.required:
        parts.append("required: true")
    notes = []
    if guess.personal:
        parts.append("classification: restricted")
        notes.append(f"restricted: {guess.personal}; it stays in the source")
    elif guess.is_text:
        parts.append("classification: internal")
    if guess.filter:
        parts.append("tags: [filter]")
        notes.append(f"filter: {guess.filter}")
    if column.comment:
        parts.append(f"description: {_quoted(column.comment)}")
    yield f"      - {{{', '.join(parts)}}}" + (f"  # {'; '.join(notes)}" if notes else "")


def _chunk(guesses: Guesses) -> str:
    widths = [guess.column.width for guess in guesses.embedded]
    if None in widths or not widths:
        return "chunk: {tokens: 200}  # there were no statistics to go by"
    tokens = sum(width or 0.0 for width in widths) / _BYTES_PER_TOKEN
    about = f"a row has about {max(tokens, 1):.0f} tokens"
    if tokens > 400:
        return f"chunk: {{tokens: 200, overlap: 20}}  # {about}: several chunks each"
    return f"chunk: {{tokens: {128 if tokens < 64 else 200}}}  # {about}"


def _logical(type_: str) -> str:
    if type_.endswith("[]"):
        return "array"
    return "object" if type_ in ("json", "jsonb") else _LOGICAL.get(family(type_), "string")


def _name(name: str) -> str:
    """A plain name; quoted where YAML would take it for something else (a column called `null`)."""
    return json.dumps(name) if name in ("null", "true", "false", "y", "n", "yes", "no", "on", "off") else name


def _quoted(text: str) -> str:
    return json.dumps(_plain(text), ensure_ascii=False)


def _plain(text: str) -> str:
    """One line, of printable characters."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())
