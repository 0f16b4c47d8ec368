"""Cost: how many texts a history of changes takes to embed, beside embedding every change whole.

Load: a catalogue of long documents (about 50 chunks each) and short ones, indexed before; then a history as a catalogue
has it: 60 % of the changes touch only columns that are not embedded, on any row; 25 % edit a sentence of a long
document (another one, one more, or one less); 10 % are new rows of 1 to 3 sentences; 5 % are deletes. Each change is a
transaction of its own, the kinds are mixed, and no more than 40 are ever on their way, so that hardly any are replaced
by a newer one of their row while they wait. `tidegate run` indexes them as users run it.

`texts` are those that the model embedded during the history, as `tidegate cost` counts them. The floor, in the sense of
what is compared with, is a pipeline that embeds every changed document whole: its texts are counted by the benchmark
itself, change by change, with the splitter: the chunks of each row as it is after each change but deletes. `only edits`
is stricter: it leaves out the changes that touch no embedded column, and new rows, on both sides.

At the end every row's chunks in the index are compared with what the splitter makes of the row.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tidegate.bench import catalogue
from tidegate.bench.database import database, facts, server
from tidegate.bench.process import Program, tidegate_run, wait_until_live
from tidegate.bench.progress import steps
from tidegate.bench.report import BenchFailed, Goal, Report
from tidegate.bench.texts import Text, Texts
from tidegate.database import Connection, connect
from tidegate.index.embedding.embedder import Splitter
from tidegate.index.embedding.registry import Embedders
from tidegate.observe.cost import ProductCost, costs
from tidegate.settings import Settings

Kind = Literal["carried", "edit", "new", "delete"]
SHARES: Mapping[Kind, int] = {"carried": 60, "edit": 25, "new": 10, "delete": 5}
PARAGRAPHS = 60
_WINDOW = 40
_PATIENCE_S = 300.0
_CAUGHT_UP = "SELECT tidegate.wait_for(pg_current_wal_insert_lsn(), make_interval(secs => %s))"
_CONTENTS = "SELECT id, array_agg(content ORDER BY chunk_no) FROM rag_bench.product GROUP BY id"

SHARE_LIMIT = 0.125
EDIT_LIMIT = 2.0


@dataclass(slots=True)
class _Document:
    """A row: its name, and its paragraphs of sentences."""

    name: str
    paragraphs: list[list[str]]

    @property
    def text(self) -> Text:
        return Text(self.name, "\n\n".join(" ".join(sentences) for sentences in self.paragraphs if sentences))


@dataclass(slots=True)
class _History:
    """The catalogue as it is after each change, and what each takes that embeds it whole."""

    splitter: Splitter
    rows: dict[int, _Document] = field(default_factory=dict)
    chunks: dict[int, list[str]] = field(default_factory=dict)
    kinds: Counter[Kind] = field(default_factory=Counter)
    whole: Counter[Kind] = field(default_factory=Counter)
    edited: list[int] = field(default_factory=list)
    """New chunks of each edit."""

    def write(self, kind: Kind, number: int, document: _Document | None) -> None:
        """Notes a change. `document`: None for a delete."""
        self.kinds[kind] += 1
        if document is None:
            del self.rows[number], self.chunks[number]
            return
        if kind != "carried":
            after = self.splitter.chunks(document.text.document)
            if kind == "edit":
                self.edited.append((Counter(after) - Counter(self.chunks[number])).total())
            self.rows[number], self.chunks[number] = document, after
        self.whole[kind] += len(self.chunks[number])


@dataclass(frozen=True, slots=True)
class Cost:
    """What is to be measured.

    Attributes:
        changes: of the history.
        documents: long ones, there before; ten times as many short ones are.
        dsn: the user's server; None: a temporary embedded one.
    """

    changes: int = 10_000
    documents: int = 60
    seed: int = 1
    dsn: str | None = None

    def run(self) -> Report:
        """Measures. At full size about eight minutes.

        Raises:
            BenchFailed: `tidegate run` ended, fell behind, or left something in the index that is not in the table.
        """
        embedders = Embedders(Settings())
        history = _History(embedders.of(catalogue.MODEL).splitter(200, 0))
        with steps() as shown, server(self.dsn) as server_dsn, database(server_dsn, "cost") as dsn:
            made = self._documents(history)
            with connect(dsn) as connection:
                catalogue.create_table(connection, [document.text for document in made], self.seed)
                catalogue.publish(connection, embedders)
                server_facts = facts(connection)
            with connect(dsn) as connection, tidegate_run(dsn) as running:
                move = shown.step("the rows that are there before", len(made))
                wait_until_live(connection, running, catalogue.PRODUCT, move)
                before = _counted(connection, running)
                began = time.monotonic()
                self._replay(connection, history, running, shown.step("history", self.changes))
                took = time.monotonic() - began
                after = _counted(connection, running)
                _compare(connection, history)
        config = {
            "changes": self.changes, "documents": self.documents, "seed": self.seed,
            "server": "embedded" if self.dsn is None else "own", **server_facts,
        }  # fmt: skip
        return _report(config, history, before, after, took)

    def _documents(self, history: _History) -> list[_Document]:
        long, short = Texts(self.seed, (6, 10)), Texts(self.seed + 1, (1, 3))
        documents = [
            _Document(f"Volume {number}", [_sentences(long.next().description) for _ in range(PARAGRAPHS)])
            for number in range(self.documents)
        ]
        documents += [_short(short.next()) for _ in range(10 * self.documents)]
        for number, document in enumerate(documents, 1):
            history.rows[number] = document
            history.chunks[number] = history.splitter.chunks(document.text.document)
        return documents

    def _replay(
        self, connection: Connection, history: _History, running: Program, move: Callable[[int | None], None]
    ) -> None:
        choice = random.Random(self.seed)
        new, other = Texts(self.seed + 2, (1, 3)), Texts(self.seed + 3, (1, 1))
        kinds: list[Kind] = [kind for kind, share in SHARES.items() for _ in range(self.changes * share // 100)]
        choice.shuffle(kinds)
        short = [number for number in history.rows if number > self.documents]
        following = len(history.rows) + 1
        for done, kind in enumerate(kinds):
            match kind:
                case "carried":
                    number = choice.choice(list(history.rows))
                    connection.execute("UPDATE bench.product SET price = price + 0.01 WHERE id = %s", [number])
                    history.write(kind, number, history.rows[number])
                case "edit":
                    number = choice.randint(1, self.documents)
                    document = _edited(history.rows[number], choice, other.next().description)
                    connection.execute(
                        "UPDATE bench.product SET description = %s WHERE id = %s", [document.text.description, number]
                    )
                    history.write(kind, number, document)
                case "new":
                    document, number, following = _short(new.next()), following, following + 1
                    connection.execute(
                        "INSERT INTO bench.product VALUES (%s, 'EU', 1, %s, %s)",
                        [number, document.text.name, document.text.description],
                    )
                    history.write(kind, number, document)
                    short.append(number)
                case "delete":
                    number = short.pop(choice.randrange(len(short)))
                    connection.execute("DELETE FROM bench.product WHERE id = %s", [number])
                    history.write(kind, number, None)
            move(done + 1)
            if done % _WINDOW == _WINDOW - 1:
                _catch_up(connection, running)


def _sentences(description: str) -> list[str]:
    return [f"{sentence.rstrip('.')}." for sentence in description.split(". ")]


def _short(text: Text) -> _Document:
    return _Document(text.name, [_sentences(text.description)])


def _edited(document: _Document, choice: random.Random, sentence: str) -> _Document:
    """The document with one sentence replaced, added or removed."""
    paragraphs = [list(sentences) for sentences in document.paragraphs]
    sentences = choice.choice([each for each in paragraphs if each])
    place = choice.randrange(len(sentences))
    match choice.choice(("replace", "add", "remove")):
        case "replace":
            sentences[place] = sentence
        case "add":
            sentences.insert(place, sentence)
        case _:
            del sentences[place]
    return _Document(document.name, paragraphs)


def _catch_up(connection: Connection, running: Program) -> None:
    if connection.execute(_CAUGHT_UP, [_PATIENCE_S]).fetchone() != (True,):
        raise BenchFailed(f"the index did not catch up in {_PATIENCE_S:.0f} s:\n{running.tail()}")
    running.require()


def _counted(connection: Connection, running: Program) -> ProductCost:
    """The product's figures, once the worker has written all of them: twice its second of housekeeping."""
    _catch_up(connection, running)
    time.sleep(2.5)
    (cost,) = costs(connection, product=catalogue.PRODUCT)
    return cost


def _compare(connection: Connection, history: _History) -> None:
    found: dict[int, list[str]] = dict(connection.execute(_CONTENTS).fetchall())
    wrong = [number for number in {*found, *history.chunks} if found.get(number) != history.chunks.get(number)]
    if wrong:
        raise BenchFailed(f"{len(wrong)} rows are not as they should be in the index, e.g. id {min(wrong)}")


def _report(
    config: Mapping[str, Any], history: _History, before: ProductCost, after: ProductCost, took: float
) -> Report:
    texts = after.texts - before.texts
    edits = sum(history.edited)
    whole, whole_edits = history.whole.total(), history.whole["edit"]
    p95 = sorted(history.edited)[int(0.95 * len(history.edited))]
    share = round(texts / whole, 4)
    results = {
        **{f"changes_{kind}": count for kind, count in history.kinds.items()},
        "texts_embedded": texts,
        "tokens_embedded": after.tokens - before.tokens,
        "chunks_reused": after.chunks_reused - before.chunks_reused,
        "cache_hits": after.cache_hits - before.cache_hits,
        "coalesced": after.coalesced - before.coalesced,
        "chunks_of_an_edited_document": round(whole_edits / history.kinds["edit"], 1),
        "new_chunks_an_edit": round(edits / len(history.edited), 2),
        "new_chunks_an_edit_p95": p95,
        "changes_per_s": round(sum(history.kinds.values()) / took, 1),
    }
    return Report(
        bench="cost",
        config=config,
        results=results,
        floor={"texts_embedded": whole, "tokens_embedded": after.naive_tokens - before.naive_tokens},
        ratios={"texts": share, "texts, only edits": round(edits / whole_edits, 4)},
        goals=[
            Goal("texts / embedding every changed document", share, SHARE_LIMIT),
            Goal("texts / the same, only edits", round(edits / whole_edits, 4), SHARE_LIMIT),
            Goal("new chunks of an edited sentence, p95", p95, EDIT_LIMIT),
        ],
    )
