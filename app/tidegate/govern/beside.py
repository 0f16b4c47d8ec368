"""Two indexes of one product: which embedding each keeps under a contract.

A contract with another model does not touch the index that is searched. It gets a second one, beside the first: a
chunk table of the same name in the schema `beside_<domain>`, under the same rules, policies, masks and grants, with a
row of `tidegate.product` and a ledger of its own, so that both are kept current by the same worker in the same way.
`tidegate model switch` lets the two change places (govern/model_switch.py). Whatever else a contract changes, it
changes of both at once; only what is embedded, and how, may differ between them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from psycopg import sql

from tidegate.contract.columns import never_embedded
from tidegate.contract.contract import Contract
from tidegate.contract.embedding import Embedding
from tidegate.database import Connection
from tidegate.govern.chunk_table import Statement, chunk_table
from tidegate.govern.clear_table import ClearTables
from tidegate.sql import queries


@dataclass(frozen=True, slots=True)
class Index:
    """An index as the catalog has it: the contract with what it really embeds, its vectors' length, its state."""

    contract: Contract
    dimension: int
    state: str

    @property
    def embedding(self) -> Embedding:
        return self.contract.embedding


@dataclass(frozen=True, slots=True)
class Indexes:
    """The indexes of a product: the one that is searched, and the second; None where there is none."""

    searched: Index | None
    second: Index | None

    @property
    def suspended(self) -> bool:
        """Whether one of them takes no changes."""
        return any(index is not None and index.state == "suspended" for index in (self.searched, self.second))

    def under(self, contract: Contract) -> tuple[Contract, Contract | None]:
        """What each of them becomes under the contract: it takes the contract's embedding where that has its model,
        else it keeps its own. A model that neither has is a second index to be built, where there is place for it.
        """
        if self.searched is None:
            return contract, None
        model = contract.embedding.model
        first = contract
        if self.searched.embedding.model != model:
            first = replace(contract, embedding=self.searched.embedding)
        if self.second is None:
            return first, None if first is contract else replace(contract, beside=True)
        own = self.second.embedding
        return first, replace(contract, beside=True, embedding=contract.embedding if own.model == model else own)

    def problems(self, contract: Contract, dimension: int) -> Iterator[str]:
        """Why the contract cannot be put in force beside what there is."""
        if self.searched is None:
            return
        embedding = contract.embedding
        indexes = [index for index in (self.searched, self.second) if index is not None]
        for index in indexes:
            if index.embedding.model != embedding.model:
                for name, why in _unfit(index.embedding, contract):
                    yield (
                        f"the index with {index.embedding.model} embeds column {name}, which is {why} now; "
                        + self._way_out(index, contract)
                    )
            elif index.dimension != dimension:
                yield (
                    f"the model {embedding.model} gives {dimension} dimensions and gave {index.dimension}; its "
                    "vectors do not mix: " + self._way_out(index, contract)
                )
        if self.second is not None and embedding.model not in {index.embedding.model for index in indexes}:
            yield (
                f"the model changes to {embedding.model} while a second index, with {self.second.embedding.model}, "
                f'stands beside the one that is searched; first switch to it or drop it: "tidegate model switch|drop '
                f'{contract.product}"'
            )

    def _way_out(self, index: Index, contract: Contract) -> str:
        if index is self.second:
            return f'run "tidegate model drop {contract.product}" first'
        return "apply with --rebuild to index the product anew"


def _unfit(embedding: Embedding, contract: Contract) -> Iterator[tuple[str, str]]:
    columns = {column.name: column for column in contract.columns}
    for name in embedding.document_columns:
        if name not in columns:
            yield name, "not in the contract"
        elif (why := never_embedded(columns[name])) is not None:
            yield name, why


def indexes_of(connection: Connection, product: str) -> Indexes:
    """The indexes that the catalog has of the product."""
    rows = connection.execute(queries("beside")["indexes"], {"product": product}).fetchall()
    held = {second: Index(Contract.from_spec(spec), dimension, state) for second, spec, dimension, state in rows}
    return Indexes(held.get(False), held.get(True))


def name_beside(contract: Contract) -> str:
    """What the catalog calls a second index: the product and its model."""
    return f"{contract.product}@{contract.embedding.model}"


def drop_statements(connection: Connection, contract: Contract) -> Iterator[Statement]:
    """What removes a second index with all that is its own, as tidegate_owner."""
    yield from ClearTables(connection, contract).drops(all_=True)
    yield sql.SQL("DROP TABLE IF EXISTS {}").format(chunk_table(contract))
