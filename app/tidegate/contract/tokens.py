"""The words of an access rule."""

import re
from dataclasses import dataclass
from enum import StrEnum

from tidegate.contract.identifier import MAX_BYTES, PATTERN
from tidegate.errors import UsageError

MAX_LENGTH = 8_000
"""Characters in one rule."""
MAX_DIGITS = 38
"""Digits in one number; enough for every integer type, and no load for anybody."""


class RuleSyntaxError(UsageError):
    """An access rule does not follow the grammar.

    Attributes: `position` (characters from 0), `token` (the text found there) and `expected`.
    """

    def __init__(self, position: int, token: str, expected: str, why: str | None = None):
        self.position = position
        self.token = token
        self.expected = expected
        found = why or (f"{token!r} is not expected" if token else "the rule ends too early")
        super().__init__(f"at character {position + 1}: {found}; expected {expected}")


class Kind(StrEnum):
    ROW = "row.COLUMN"
    USER = "user.ATTRIBUTE"
    WORD = "word"
    STRING = "string"
    NUMBER = "number"
    SIGN = "sign"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """`text` as written; `value` is the name after the dot or the string without its quotes."""

    kind: Kind
    text: str
    value: str
    position: int


_BLANK = " \t\r\n"
_NAME = re.compile(PATTERN)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_SIGN = re.compile(r"!=|<=|>=|[=<>(),+\[\]-]")
_OF_OTHER_LANGUAGES = {"==": '"="', "<>": '"!="', "&&": '"and"', "||": '"or"'}
_GLUED = re.compile(r"[A-Za-z0-9_.$\"']")
_SCOPES = {"row": Kind.ROW, "user": Kind.USER}


def tokens(text: str) -> list[Token]:
    """The tokens of `text`, the last of kind END.

    Raises:
        RuleSyntaxError: a character that no token begins with, an open string, an over-long name.
    """
    if len(text) > MAX_LENGTH:
        raise RuleSyntaxError(MAX_LENGTH, "", f"at most {MAX_LENGTH} characters", "the rule is too long")
    found: list[Token] = []
    at = 0
    while True:
        while at < len(text) and text[at] in _BLANK:
            at += 1
        if at == len(text):
            found.append(Token(Kind.END, "", "", at))
            return found
        token = _token(text, at)
        found.append(token)
        at += len(token.text)


def _token(text: str, at: int) -> Token:
    if text[at] == "'":
        return _string(text, at)
    if number := _NUMBER.match(text, at):
        return _number(text, number)
    if name := _NAME.match(text, at):
        return _word(text, name)
    if (meant := _OF_OTHER_LANGUAGES.get(text[at : at + 2])) is not None:
        raise RuleSyntaxError(at, text[at : at + 2], meant, f"{text[at : at + 2]!r} has no meaning in a rule")
    if sign := _SIGN.match(text, at):
        return Token(Kind.SIGN, sign[0], sign[0], at)
    raise RuleSyntaxError(
        at,
        text[at],
        "row.COLUMN, user.ATTRIBUTE, a literal, an operator or a lower-case keyword",
        f"{text[at]!r} has no meaning in a rule",
    )


def _string(text: str, start: int) -> Token:
    at = start + 1
    while (end := text.find("'", at)) >= 0:
        if text[end : end + 2] != "''":
            break
        at = end + 2
    if end < 0:
        raise RuleSyntaxError(start, text[start : start + 20], "a closing '", "the string has no end")
    value = text[start + 1 : end].replace("''", "'")
    for character in value:
        if ord(character) < 32 or 0xD800 <= ord(character) < 0xE000 or character == "\x7f":
            raise RuleSyntaxError(start, repr(character), "printable characters", "control character in a string")
    return Token(Kind.STRING, text[start : end + 1], value, start)


def _number(text: str, number: re.Match[str]) -> Token:
    glued = _GLUED.match(text, number.end())
    if glued or sum(character.isdigit() for character in number[0]) > MAX_DIGITS:
        raise RuleSyntaxError(
            number.start(),
            number[0] + (glued[0] if glued else ""),
            f"a whole number or a decimal like 1.5, of at most {MAX_DIGITS} digits",
        )
    return Token(Kind.NUMBER, number[0], number[0], number.start())


def _word(text: str, name: re.Match[str]) -> Token:
    kind, value, end = Kind.WORD, name[0], name.end()
    if name[0] in _SCOPES and text[end : end + 1] == ".":
        member = _NAME.match(text, end + 1)
        if member is None:
            raise RuleSyntaxError(end + 1, text[end + 1 : end + 2], f"a lower-case name after {name[0]}. (a-z, 0-9, _)")
        kind, value, end = _SCOPES[name[0]], member[0], member.end()
    if len(value) > MAX_BYTES:
        raise RuleSyntaxError(name.start(), value, f"a name of at most {MAX_BYTES} bytes")
    if glued := _GLUED.match(text, end):
        raise RuleSyntaxError(
            end,
            glued[0],
            "an operator or the end of the word",
            f"{glued[0]!r} cannot follow {text[name.start() : end]!r}",
        )
    return Token(kind, text[name.start() : end], value, name.start())
