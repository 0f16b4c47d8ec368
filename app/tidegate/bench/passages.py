"""Real English prose, in passages: what the machine's own manuals, packages and standard library have to say.

No collection of texts comes with the package and none is downloaded. What every machine has is man pages, the
documentation files of installed packages and the docstrings of installed Python code: many authors on many subjects,
with the long tail of near-repetitions that real texts have. Where that is not enough, the rest is composed (texts.py),
and the report says how many.
"""

import ast
import gzip
import hashlib
import re
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.bench.texts import Texts

SHORTEST, LONGEST = 100, 300
"""Characters of a passage: some 20 to 70 tokens."""
_A_FILE = 24
"""Passages of one file at most, so that no large one rules."""
_LARGEST_FILE = 2_000_000
_DOCUMENTS = (".md", ".rst", ".txt")
_LICENCES = ("license.txt", "copying.txt", "license.md")
_MANUALS = re.compile(r".*/man[1-8]/[^/]+\.[1-8][a-z0-9]*\.gz")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_ROFF_FONT = re.compile(r"\\f(\[[^\]]*\]|\(..|.)|\\[-&%|/,^]|\\\(..|\\\*\(..")
_DOCSTRING_OWNERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Passage:
    """A text and the file that it is from; passages of one file are about one thing."""

    text: str
    origin: str


def passages(wanted: int, seed: int, roots: Sequence[Path] | None = None) -> list[Passage]:
    """As many different passages, those of one file side by side; the same ones on the same machine for a seed.

    Args:
        roots: folders to read instead of the machine's own; composed texts fill up what they lack.
    """
    files = {path for root in (default_roots() if roots is None else roots) for path in _files(root)}
    found: list[Passage] = []
    seen: set[str] = set()
    for path in sorted(files, key=lambda path: _shuffled(seed, path)):
        taken = 0
        for text in split(_prose(path)):
            known = re.sub(r"[\W\d]+", " ", text.lower())
            if known not in seen:
                seen.add(known)
                found.append(Passage(text, str(path)))
                taken += 1
                if len(found) == wanted:
                    return found
            if taken == _A_FILE:
                break
    composed = Texts(seed, (1, 2))
    return found + [Passage(composed.next().document, "composed") for _ in range(wanted - len(found))]


def _shuffled(seed: int, path: Path) -> bytes:
    """An order that mixes the files and that a file more or less does not change."""
    return hashlib.sha256(f"{seed} {path}".encode()).digest()


def default_roots() -> list[Path]:
    """Where this machine keeps texts."""
    paths = sysconfig.get_paths()
    places = (paths["stdlib"], paths["purelib"], "/usr/share/man", "/usr/share/doc", "/usr/lib/python3")
    return [path for place in places if (path := Path(place)).is_dir()]


def split(prose: str) -> Iterator[str]:
    """The passages of a text: paragraphs, long ones cut between sentences; what is no prose is left out."""
    for paragraph in re.split(r"\n\s*\n", prose):
        gathered = ""
        for sentence in _SENTENCE.split(" ".join(paragraph.split())):
            if gathered and len(gathered) + len(sentence) >= LONGEST:
                yield from _kept(gathered)
                gathered = ""
            gathered = f"{gathered} {sentence}".strip()
        yield from _kept(gathered)


def _kept(text: str) -> Iterator[str]:
    letters = sum(character.isalpha() or character == " " for character in text)
    if (
        SHORTEST <= len(text) <= 2 * LONGEST
        and text.isprintable()
        and letters >= 0.88 * len(text)
        and text.count(" ") >= 14
    ):
        yield text


def _files(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        name = str(path)
        readable = path.suffix in (*_DOCUMENTS, ".py") or (_MANUALS.fullmatch(name) and "/man/man" in name)
        if readable and path.name.lower() not in _LICENCES and path.is_file():
            yield path


def _prose(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            return ""
        if path.suffix == ".gz":
            return _manual(gzip.decompress(path.read_bytes()).decode(errors="replace"))
        text = path.read_text(encoding="utf-8", errors="strict")
    except (OSError, UnicodeDecodeError):
        return ""
    return _docstrings(text) if path.suffix == ".py" else text


def _manual(roff: str) -> str:
    """A man page without its requests; a request other than a change of font ends the paragraph."""
    lines = []
    for line in roff.splitlines():
        if line.startswith((".B ", ".I ", ".BR ", ".IR ", ".RB ", ".RI ", ".BI ", ".IB ")):
            lines.append(line.split(" ", 1)[1].replace('"', ""))
        elif line.startswith((".", "'")):
            lines.append("")
        else:
            lines.append(line)
    return _ROFF_FONT.sub("", "\n".join(lines).replace("\\-", "-"))


def _docstrings(source: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    texts = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, _DOCSTRING_OWNERS))
    return "\n\n".join(text for text in texts if text)
