"""A question's parts: what is asked in one breath and needs an answer each."""

import re
from dataclasses import dataclass

_ASKING = "who|whom|whose|what|when|where|why|which|how"
_VERBS = "is|are|was|were|do|does|did|can|could|will|would|shall|should|may"
_SUBJECT = "the|an?|i|we|you|it|they|he|she|there|this|that|these|those|my|our|your|any|all"
# "and when I do" goes on with what was asked before; "and when do I" asks.
_OPENING = (
    rf"(?:(?:to|by|in|at|for|from|until|since|on|with|of)\s+)?(?!(?:when|where|how)\s+(?:{_SUBJECT})\b)(?:{_ASKING})\b|"
    rf"(?:{_VERBS})\s+(?:{_SUBJECT})\b|(?:are|were|do|can|will)\s+\w+s\b"
)
_POLITE = re.compile(
    r"(?:(?:please|hi|hello)[\s,]+)*(?:(?:(?:can|could|would) you )?(?:please )?(?:tell me|explain)|"
    r"i(?: would| want|'d)?(?: like| need)?(?: to)? know|do you know)\s+",
    re.IGNORECASE,
)
_OPENS = re.compile(rf"{_OPENING}|(?:{_VERBS})\s", re.IGNORECASE)
_BORDER = re.compile(
    rf"\?\s+|;\s+|,\s+(?=(?:how|what|why)\b)|\s*,?\s+(?:and|or|but)\s+(?:also\s+)?(?={_OPENING})", re.IGNORECASE
)
_MOST = 5
_LONGEST = 2_000
"""Characters of a question that is looked at for parts; what is longer is a text, and is asked for as a whole."""
_WORD = re.compile(r"\w+")
_BACK = frozenset(
    [
        "it",
        "its",
        "they",
        "them",
        "their",
        "he",
        "him",
        "his",
        "she",
        "her",
        "this",
        "that",
        "these",
        "those",
        "there",
        "one",
    ]
)
_FILLER = _BACK | frozenset(
    f"{_ASKING}|{_VERBS}|has|have|had|must|a|an|the|i|me|my|we|us|our|you|your|be|been|being|to|of|in|on|at|by|for|from|"
    "with|as|and|or|but|if|so|any|some|also|please|much|many|long|get|anyone|somebody|someone".split("|")
)
_ENDINGS = re.compile(r"(?:ing|ed|es|s|e)$")


@dataclass(frozen=True, slots=True)
class Part:
    """Attributes:
    text: as it was asked.
    full: the same, with what its "it" or "they" points back to.
    """

    text: str
    full: str


def parts_of(question: str) -> list[Part]:
    """The clauses that each ask by themselves (English); the question whole where it is one, or none is seen.

    "What is the refund period and who is the CEO?" has two. "When and where do we meet?" is one.
    """
    if len(question) > _LONGEST:
        return [Part(question, question)]
    rest = " ".join(question.split())
    if start := _POLITE.match(rest):
        rest = rest[start.end() :]
    clauses = [clause for found in _BORDER.split(rest, _MOST - 1) if (clause := found.strip().rstrip("?.! ").strip())]
    if len(clauses) < 2 or not all(_OPENS.match(clause) for clause in clauses):
        return [Part(question, question)]
    joined: list[str] = []
    for clause in clauses:
        if joined and not (words(clause) and words(joined[-1])):  # "when" and "where do we meet"
            joined[-1] += f" and {clause}"
        else:
            joined.append(clause)
    if len(joined) == 1:
        return [Part(question, question)]
    before = ["", *joined]
    return [
        Part(text, f"{text} ({before[at]})" if at and _points_back(text) else text) for at, text in enumerate(joined)
    ]


def asks_for_a_fact(question: str) -> bool:
    """Whether it wants more than yes or no: its answer has words that it has not."""
    return re.match(rf"\s*(?:{_ASKING})\b", question, re.IGNORECASE) is not None


def words(text: str) -> set[str]:
    """The words that bear meaning, without their endings."""
    return {_ENDINGS.sub("", word) for word in _all(text) if word not in _FILLER}


def plain(text: str) -> str:
    """The words alone, as ` one two `, to look for one text in another."""
    return f" {' '.join(_all(text))} "


def _points_back(text: str) -> bool:
    return not _BACK.isdisjoint(_all(text))


def _all(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]
