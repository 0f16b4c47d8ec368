"""A contract: one table of a domain, what of it is searchable, and by whom."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tidegate.contract.budget import Budget
from tidegate.contract.embedding import LANGUAGE, Embedding
from tidegate.contract.identifier import fit
from tidegate.contract.mask import Mask, masked_type, reads_value
from tidegate.contract.membership import Membership
from tidegate.contract.rule import Rule, read_rule, rule_columns

RESERVED_COLUMNS = frozenset(
    {"chunk_no", "content", "content_hash", "embedding", "codes", "tsv", "position", "committed_at"}
    | {"indexed_at", "contract_version"}
    | {"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"}
)
"""Columns that every chunk table has of its own; a carried column of that name has no place."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the rows are. `server` is the name of the contract's server, None where it names none."""

    server: str | None
    database: str | None
    schema: str
    table: str


@dataclass(frozen=True, slots=True)
class Column:
    """`key_position` counts from 1, None outside the key. `filterable`: tagged `filter`.

    `reveal`: the roles that may read a masked column's clear value. `embed`: False where the contract says that the
    column is never embedded.
    """

    name: str
    physical_type: str
    key_position: int | None
    required: bool
    classification: str | None
    filterable: bool
    description: str | None
    mask: Mask | None = None
    reveal: tuple[str, ...] = ()
    embed: bool = True

    @property
    def carried_type(self) -> str:
        """The column's type beside the chunks: a masked value may have another than the clear one."""
        return masked_type(self.mask, self.physical_type) if self.mask else self.physical_type


@dataclass(frozen=True, slots=True)
class Latency:
    """Freshness promised: `percentile` per cent of changes are searchable within `ms`."""

    ms: float
    percentile: float


@dataclass(frozen=True, slots=True)
class Contract:
    """A published or publishable contract, checked. `product` is `domain.table`.

    `text` is the YAML as read, `path` the file it was read from, `warnings` what is legal but odd, `purpose` what the
    description says that it is for.
    """

    product: str
    domain: str
    version: str
    status: str
    team: str | None
    owners: tuple[str, ...]
    source: Source
    columns: tuple[Column, ...]
    embedding: Embedding
    rules: tuple[Rule, ...]
    memberships: tuple[Membership, ...]
    latency: Latency | None
    roles: tuple[str, ...]
    path: str
    text: str
    warnings: tuple[str, ...] = ()
    purpose: str | None = None
    beside: bool = False
    """It describes the product's second index, which stands beside the one that is searched (govern/beside.py)."""
    budget: Budget | None = None

    @property
    def table(self) -> str:
        """The product's name inside its domain."""
        return self.product.partition(".")[2]

    @property
    def chunk_schema(self) -> str:
        """The schema of the chunk table, `rag_<domain>`; the chunk table is called `table`. A second index has the
        same names in a schema of its own, so that the two can change places with all that belongs to them."""
        return fit(f"beside_{self.domain}") if self.beside else self.function_schema

    @property
    def index(self) -> str:
        """The name of the chunk table with its schema: what tells two indexes of a product apart."""
        return f"{self.chunk_schema}.{self.table}"

    @property
    def function_schema(self) -> str:
        """The schema of the live check and the membership functions: these are the product's, whatever the index."""
        return f"rag_{self.domain}"

    @property
    def column_types(self) -> dict[str, str]:
        """Name → physical type, in the contract's order."""
        return {column.name: column.physical_type for column in self.columns}

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The primary key, in its own order."""
        keyed = [column for column in self.columns if column.key_position is not None]
        return tuple(sorted(keyed, key=lambda column: column.key_position or 0))

    @property
    def columns_of_rules(self) -> tuple[Column, ...]:
        """Columns that rules and their memberships read, in the contract's order."""
        names = rule_columns(self.rules)
        return tuple(column for column in self.columns if column.name in names)

    @property
    def carried_columns(self) -> tuple[Column, ...]:
        """Columns that stand beside each chunk: key, rules', `filter`-tagged, masked; in the contract's order."""
        names = rule_columns(self.rules)
        return tuple(
            column
            for column in self.columns
            if column.key_position is not None or column.name in names or column.filterable or column.mask
        )

    @property
    def revealed_columns(self) -> tuple[Column, ...]:
        """Masked columns whose clear value some role may read."""
        return tuple(column for column in self.columns if column.mask and column.reveal)

    @property
    def read_columns(self) -> tuple[Column, ...]:
        """What of a row must leave the source; a mask that does not depend on the value needs nothing of it."""
        blind = {c.name for c in self.columns if c.mask and not c.reveal and not reads_value(c.mask)}
        names = {column.name for column in (*self.carried_columns, *self.document_columns)} - blind
        return tuple(column for column in self.columns if column.name in names)

    @property
    def document_columns(self) -> tuple[Column, ...]:
        """Columns that are embedded, in the document's order."""
        by_name = {column.name: column for column in self.columns}
        return tuple(by_name[name] for name in self.embedding.document_columns)

    def to_spec(self) -> Json:
        """Everything as JSON-able data; `from_spec` gives the same contract back.

        Rules go as their text: whoever reads them parses and checks them again.
        """
        spec: Json = {name: getattr(self, name) for name in _PLAIN}
        spec |= {name: list(getattr(self, name)) for name in _LISTS}
        spec["source"] = asdict(self.source)
        spec["columns"] = [asdict(column) | {"reveal": list(column.reveal)} for column in self.columns]
        embedding = asdict(self.embedding) | {"columns": list(self.embedding.columns)}
        if self.embedding.language == LANGUAGE:
            del embedding["language"]  # as earlier releases published it
        spec["embedding"] = {k: v for k, v in embedding.items() if v is not None or k not in _UNSET}
        spec["rules"] = [
            {
                "id": rule.id,
                "effect": rule.effect,
                "to": list(rule.to),
                "when": rule.text,
                "origin": rule.origin,
            }
            for rule in self.rules
        ]
        spec["memberships"] = [asdict(membership) for membership in self.memberships]
        spec["latency"] = asdict(self.latency) if self.latency else None
        if self.budget is not None:
            spec["budget"] = asdict(self.budget)
        return spec | {"beside": True} if self.beside else spec

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "Contract":
        """The contract that `to_spec` described.

        Raises:
            KeyError, TypeError: the spec is not one of `to_spec`.
            RuleSyntaxError, RuleTypeError: a rule in it no longer passes the grammar or the type check.
        """
        columns = tuple(
            Column(
                **{
                    **column,
                    "mask": Mask(**column["mask"]) if column["mask"] else None,
                    "reveal": tuple(column.get("reveal", ())),
                }
            )
            for column in spec["columns"]
        )
        types = {column.name: column.physical_type for column in columns}
        memberships = tuple(Membership(**membership) for membership in spec["memberships"])
        members = {membership.name: membership.row for membership in memberships}
        embedding = spec["embedding"]
        plain: Json = {name: spec[name] for name in _PLAIN if name in spec or name not in _ADDED}
        lists: Json = {name: tuple(spec[name]) for name in _LISTS}
        return cls(
            **plain,
            **lists,
            source=Source(**spec["source"]),
            columns=columns,
            embedding=Embedding(**{**embedding, "columns": tuple(embedding["columns"])}),
            rules=tuple(
                read_rule(
                    rule["id"],
                    rule["effect"],
                    rule["to"],
                    rule["when"],
                    columns=types,
                    memberships=members,
                    origin=rule.get("origin", "contract"),
                )
                for rule in spec["rules"]
            ),
            memberships=memberships,
            latency=Latency(**spec["latency"]) if spec["latency"] else None,
            beside=spec.get("beside", False),
            budget=Budget(**spec["budget"]) if spec.get("budget") else None,
        )


_PLAIN = ("product", "domain", "version", "status", "team", "path", "text", "purpose")
_ADDED = frozenset({"purpose"})
"""Not in the specs that earlier releases published."""
_UNSET = frozenset({"chunk_min", "chunk_target"})
"""Left out where they are not set, so that the specs that earlier releases published still say the same."""
_LISTS = ("owners", "roles", "warnings")
