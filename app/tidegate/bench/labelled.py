"""Questions with judged answers: a folder in Cranfield's form, or a set made here and labelled by how it is made.

**A folder** has `docs.jsonl` ({"id", "title", "text"} a line), `queries.jsonl` ({"id", "text"}) and `qrels.tsv`
(query_id, doc_id, relevance, with a header). Relevance is Cranfield's: 1 is a complete answer … 4 minimal interest,
anything else not relevant; the gain is 5 - relevance.

**The made set**: catalogue texts (texts.py) of 30 kinds of goods, and 200 questions of three kinds, in turn. An
article number, as people paste it: only that row is relevant (gain 3). Goods in other words than the text's
("footwear for mountain trails, in navy"): rows of those goods in that colour are relevant (gain 2), in another colour
less so (gain 1). Goods and maker in the text's words: likewise, with the maker. The labels are true by construction;
the questions are not people's, and the set says less than Cranfield does.
"""

import csv
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tidegate.bench.report import BenchFailed
from tidegate.bench.texts import MAKERS, Text, Texts

QUESTIONS = 200
_ROWS = 1500
_FILES = ("docs.jsonl", "queries.jsonl", "qrels.tsv")
_OTHER_WORDS = {
    "hiking boots": "footwear for mountain trails", "rain jacket": "something to wear in a downpour",
    "sleeping bag": "what to sleep in when in a tent", "camping stove": "cooking outdoors on gas",
    "head torch": "light to wear on the forehead", "espresso machine": "making strong Italian coffee at home",
    "cast-iron pan": "heavy skillet for searing", "chef's knife": "tool for chopping vegetables",
    "bread bin": "keeping a loaf fresh", "office chair": "seat for working at a computer all day",
    "standing desk": "table to work at on one's feet", "mechanical keyboard": "typing with a click",
    "wireless headphones": "listening to music without a cable", "bicycle lock": "protecting a bike from thieves",
    "city bike": "cycling to work in town", "toddler raincoat": "keeping a small child dry",
    "wooden railway": "toy train made of wood", "picture book": "reading to a small child at bedtime",
    "cordless drill": "making holes in walls without a cable", "garden hose": "watering the lawn",
    "pruning shears": "cutting back roses", "cat tree": "furniture for a kitten to scratch and climb",
    "dog harness": "walking a puppy without a collar", "yoga mat": "something to stretch on",
    "rowing machine": "training like in a boat, at home", "wool blanket": "warm throw for the sofa",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """`gains`: row → how good an answer it is, more than 0."""

    text: str
    gains: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Documents by key, and questions with judgements. `source` says where both are from."""

    source: str
    documents: Mapping[str, str]
    questions: tuple[Question, ...]


def read(folder: Path) -> Labelled:
    """A folder in Cranfield's form; questions without any relevant document are left out.

    Raises:
        BenchFailed: a file is missing or not in this form.
    """
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise BenchFailed(f"{folder} has no {', '.join(missing)}; a labelled set has {', '.join(_FILES)}, see --help")
    try:
        documents = {
            str(row["id"]): f"{row.get('title', '')}\n\n{row['text']}".strip() for row in _lines(folder / "docs.jsonl")
        }
        gains: dict[str, dict[str, float]] = {}
        with (folder / "qrels.tsv").open(encoding="utf-8", newline="") as file:
            for judged in csv.DictReader(file, delimiter="\t"):
                relevance = int(judged["relevance"])
                if 1 <= relevance <= 4:
                    gains.setdefault(judged["query_id"], {})[judged["doc_id"]] = 5.0 - relevance
        questions = tuple(
            Question(row["text"], gains[str(row["id"])])
            for row in _lines(folder / "queries.jsonl")
            if str(row["id"]) in gains
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BenchFailed(f"{folder}: not in the form that --help describes ({error!r})") from None
    return Labelled(str(folder.name), {key: text for key, text in documents.items() if text}, questions)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def make(seed: int) -> Labelled:
    """The set that is made here; the same one for a seed."""
    source = Texts(seed, (2, 4))
    texts = [source.next() for _ in range(_ROWS)]
    rows = [_described(text) for text in texts]
    chosen = random.Random(seed)
    questions: list[Question] = []
    while len(questions) < QUESTIONS:
        maker, goods, colour, article = rows[chosen.randrange(_ROWS)]
        alike = {key: row for key, row in enumerate(rows) if row.goods == goods}
        kind = len(questions) % 3
        if kind == 0:
            question = Question(article, {str(key): 3.0 for key, row in alike.items() if row.article == article})
        elif kind == 1 and goods in _OTHER_WORDS:
            gains = {str(key): 2.0 if row.colour == colour else 1.0 for key, row in alike.items()}
            question = Question(f"{_OTHER_WORDS[goods]}, in {colour}", gains)
        elif kind == 2:
            gains = {str(key): 2.0 if row.maker == maker else 1.0 for key, row in alike.items()}
            question = Question(f"{goods} by {maker}", gains)
        else:
            continue
        questions.append(question)
    return Labelled("made", {str(key): text.document for key, text in enumerate(texts)}, tuple(questions))


class _Row(NamedTuple):
    maker: str
    goods: str
    colour: str
    article: str


def _described(text: Text) -> _Row:
    """What a text's name, "MAKER GOODS, COLOUR, ARTICLE", says."""
    head, colour, article = text.name.rsplit(", ", 2)
    maker = next(maker for maker in MAKERS if head.startswith(f"{maker} "))
    return _Row(maker, head[len(maker) + 1 :], colour, article)
