"""Labelled sets: one that is read, one that is made."""

import json
from pathlib import Path

import pytest

from tidegate.bench.labelled import QUESTIONS, make, read
from tidegate.bench.report import BenchFailed


def write(folder: Path, relevance: str = "1") -> Path:
    documents = [{"id": 1, "title": "tides", "text": "about tides ."}, {"id": 2, "title": "", "text": ""}]
    questions = [{"id": 7, "text": "why tides"}, {"id": 8, "text": "nobody judged this"}]
    (folder / "docs.jsonl").write_text("\n".join(map(json.dumps, documents)))
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, questions)))
    judged = f"query_id\tdoc_id\trelevance\n7\t1\t{relevance}\n7\t9\t3\n7\t3\t-1\n7\t4\t5\n"
    (folder / "qrels.tsv").write_text(judged)
    return folder


def test_relevance_becomes_gain_and_unjudged_questions_go(tmp_path: Path) -> None:
    found = read(write(tmp_path))
    assert found.documents == {"1": "tides\n\nabout tides ."}
    (question,) = found.questions
    assert question.text == "why tides"
    assert question.gains == {"1": 4.0, "9": 2.0}


def test_a_folder_that_is_none_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(BenchFailed, match=r"has no docs\.jsonl, queries\.jsonl, qrels\.tsv"):
        read(tmp_path)
    with pytest.raises(BenchFailed, match="not in the form"):
        read(write(tmp_path, relevance="very"))


def test_the_made_set_is_labelled_by_its_own_texts() -> None:
    made = make(1)
    assert made == make(1)
    assert len(made.questions) == QUESTIONS
    assert {len(set(question.gains.values())) for question in made.questions} <= {1, 2}
    article, other_words, maker = made.questions[:3]
    (row,) = article.gains
    assert article.text in made.documents[row]
    goods, name = maker.text.split(" by ")
    for key, text in made.documents.items():
        relevant = goods in text.split(",")[0]
        assert maker.gains.get(key, 0.0) == (0.0 if not relevant else 2.0 if text.startswith(name) else 1.0), text
    colour = other_words.text.rsplit(", in ", 1)[1]
    best = [key for key, gain in other_words.gains.items() if gain == 2.0]
    assert best
    assert all(f", {colour}, " in made.documents[key] for key in best)
    assert not any(other_words.text.split(",")[0] in made.documents[key] for key in other_words.gains)
