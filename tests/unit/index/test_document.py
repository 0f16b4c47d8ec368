"""Rows to documents, and what identifies them."""

from dataclasses import replace
from hashlib import sha256

import pytest

from tidegate.contract.embedding import Embedding
from tidegate.errors import TerminalError
from tidegate.index.document import DocumentTooLong, document, document_hash

COLUMNS = Embedding(("title", "body"), None, 200, 0, "local/all-minilm-l6-v2")
TEMPLATE = replace(COLUMNS, columns=(), template="{{{title}}}: {body}, again {title}.")


def test_columns_with_a_blank_line_between_them():
    assert document(COLUMNS, {"title": "a", "body": "b"}, 100) == "a\n\nb"
    assert document(COLUMNS, {"body": "b", "title": "a", "other": "c"}, 100) == "a\n\nb"


@pytest.mark.parametrize("blank", [None, "", " ", "\n\t", "\u2003"])
def test_columns_without_text_leave_no_gap(blank: str | None):
    assert document(COLUMNS, {"title": blank, "body": "b"}, 100) == "b"
    assert document(COLUMNS, {"title": blank, "body": blank}, 100) == ""
    assert document(TEMPLATE, {"title": blank, "body": blank}, 100) == ""


def test_a_template_with_braces_and_null():
    assert document(TEMPLATE, {"title": "a", "body": "b"}, 100) == "{a}: b, again a."
    assert document(TEMPLATE, {"title": "a", "body": None}, 100) == "{a}: , again a."


def test_values_are_not_templates():
    assert document(TEMPLATE, {"title": "{body}", "body": "{{x}}"}, 100) == "{{body}}: {{x}}, again {body}."
    assert document(TEMPLATE, {"title": "\\1 \\g<0>", "body": ""}, 100) == "{\\1 \\g<0>}: , again \\1 \\g<0>."


def test_a_document_that_is_too_long_is_terminal_and_says_what_to_do():
    assert len(document(COLUMNS, {"title": "x" * 100, "body": None}, 100)) == 100
    with pytest.raises(
        DocumentTooLong, match=r"101 characters, 100 are indexed.*TIDEGATE_MAX_DOCUMENT_CHARS"
    ) as refused:
        document(COLUMNS, {"title": "x" * 101, "body": None}, 100)
    assert isinstance(refused.value, TerminalError)
    assert "xx" not in str(refused.value)


def test_the_hash_is_that_of_text_and_how_it_is_indexed():
    known = document_hash(COLUMNS, "text")
    assert known == document_hash(COLUMNS, "text")
    # Earlier releases hashed so: a document whose contract says no more than then is not indexed anew.
    assert known == sha256(f"{COLUMNS.model}\0{COLUMNS.chunk_tokens}\0{COLUMNS.chunk_overlap}\0text".encode()).digest()
    others = (
        document_hash(COLUMNS, "text "),
        document_hash(replace(COLUMNS, model="openai/x"), "text"),
        document_hash(replace(COLUMNS, chunk_tokens=201), "text"),
        document_hash(replace(COLUMNS, chunk_overlap=1), "text"),
        document_hash(replace(COLUMNS, chunk_min=20), "text"),
        document_hash(replace(COLUMNS, chunk_target=20), "text"),
    )
    assert len({known, *others}) == 7
    document_hash(COLUMNS, "lone \ud800 surrogate")
