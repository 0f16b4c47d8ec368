"""The grammar of access rules, by recursive descent.

expr    := and ("or" and)* ; and := not ("and" not)* ; not := ["not"] (atom | "(" expr ")")
atom    := operand op operand | operand "in" set | row.COL "is" ["not"] "null"
         | row.BOOLCOL | "member(" NAME ")"
op      := = | != | < | <= | > | >=
operand := row.COL | user.ATTR | literal | "now()" [("-"|"+") "'90 days'"]
set     := user.ATTR | "[" literal, ... "]"
"""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import cast

from tidegate.contract.expression import (
    UNITS,
    And,
    BoolColumn,
    Column,
    Compare,
    Expression,
    In,
    IsNull,
    Literal,
    Member,
    Not,
    Now,
    Offset,
    Operand,
    Operator,
    Or,
    Unit,
    UserAttribute,
)
from tidegate.contract.identifier import is_identifier
from tidegate.contract.tokens import Kind, RuleSyntaxError, Token, tokens

MAX_DEPTH = 40
"""Nested parentheses; far below what Python's and Postgres' stacks hold."""

_OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
_KEYWORDS = frozenset({"and", "or", "not", "in", "is", "null", "true", "false", "row", "user", "now"})
_ATOM = 'row.COLUMN, user.ATTRIBUTE, a literal, now(), member(NAME), "not" or "("'
_OPERAND = "row.COLUMN, user.ATTRIBUTE, a literal or now()"
_LITERAL = "a literal ('text', 1, 1.5, true or false)"
_INTERVAL = f"an interval like '90 days' ({', '.join(f'{unit}s' for unit in UNITS)})"
_INTERVAL_TEXT = re.compile(rf"([0-9]{{1,6}}) ({'|'.join(UNITS)})s?")


def parse(text: str) -> Expression:
    """The untyped tree of a rule's `when`.

    Raises:
        RuleSyntaxError: with the position (characters from 0), the offending token, and what was expected.
    """
    parser = _Parser(tokens(text))
    expression = parser.expression()
    parser.end()
    return expression


class _Parser:
    def __init__(self, words: list[Token]):
        self._words = words
        self._at = 0
        self._depth = 0

    @property
    def _next(self) -> Token:
        return self._words[self._at]

    def _take(self) -> Token:
        token = self._next
        self._at += 1
        return token

    def _is(self, *texts: str) -> bool:
        return self._next.kind in (Kind.WORD, Kind.SIGN) and self._next.text in texts

    def _accept(self, *texts: str) -> bool:
        if self._is(*texts):
            self._at += 1
            return True
        return False

    def _fail(self, expected: str) -> RuleSyntaxError:
        return RuleSyntaxError(self._next.position, self._next.text, expected)

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._fail(f'"{text}"')

    def end(self) -> None:
        if self._next.kind is not Kind.END:
            raise self._fail('"and", "or" or the end of the rule')

    def expression(self) -> Expression:
        return self._chain("or", lambda: self._chain("and", self._not, And), Or)

    def _chain(self, word: str, term: Callable[[], Expression], kind: type[And] | type[Or]) -> Expression:
        terms = [term()]
        while self._accept(word):
            terms.append(term())
        return terms[0] if len(terms) == 1 else kind(tuple(terms))

    def _not(self) -> Expression:
        if self._accept("not"):
            return Not(self._group_or_atom())
        return self._group_or_atom()

    def _group_or_atom(self) -> Expression:
        if not self._is("("):
            return self._atom()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._fail(f"at most {MAX_DEPTH} parentheses inside each other")
        self._take()
        inside = self.expression()
        self._expect(")")
        self._depth -= 1
        return inside

    def _atom(self) -> Expression:
        if self._accept("member"):
            return self._member()
        left = self._operand(_ATOM)
        if self._is(*_OPERATORS):
            op = cast(Operator, self._take().text)
            return Compare(op, left, self._operand(_OPERAND))
        if self._accept("in"):
            return In(left, self._set())
        if isinstance(left, Column):
            if self._accept("is"):
                negated = self._accept("not")
                self._expect("null")
                return IsNull(left, negated)
            return BoolColumn(left)
        raise self._fail(f'"in" or one of {" ".join(_OPERATORS)}')

    def _member(self) -> Member:
        self._expect("(")
        if self._next.kind is not Kind.WORD or not is_identifier(self._next.text):
            raise self._fail("the name of a membership")
        name = self._take().text
        self._expect(")")
        return Member(name)

    def _operand(self, expected: str) -> Operand:
        token = self._next
        if token.kind is Kind.ROW:
            self._take()
            return Column(token.value)
        if token.kind is Kind.USER:
            self._take()
            return UserAttribute(token.value)
        if self._accept("now"):
            return self._now()
        return self._literal(expected)

    def _now(self) -> Now:
        self._expect("(")
        self._expect(")")
        if not self._is("+", "-"):
            return Now()
        sign = 1 if self._take().text == "+" else -1
        interval = _INTERVAL_TEXT.fullmatch(self._next.value) if self._next.kind is Kind.STRING else None
        if interval is None:
            raise self._fail(_INTERVAL)
        self._take()
        return Now(Offset(sign, int(interval[1]), cast(Unit, interval[2])))

    def _literal(self, expected: str) -> Literal:
        token = self._next
        if token.kind is Kind.STRING:
            self._take()
            return Literal(token.value)
        if token.kind is Kind.NUMBER:
            self._take()
            return Literal(Decimal(token.text) if "." in token.text else int(token.text))
        if self._accept("true"):
            return Literal(True)
        if self._accept("false"):
            return Literal(False)
        if token.kind is Kind.WORD and token.text not in _KEYWORDS:
            expected += f" (a bare name has no meaning: row.{token.text}, user.{token.text} or '{token.text}'?)"
        raise self._fail(expected)

    def _set(self) -> UserAttribute | tuple[Literal, ...]:
        if self._next.kind is Kind.USER:
            return UserAttribute(self._take().value)
        if not self._accept("["):
            raise self._fail("user.ATTRIBUTE or a list like ['a', 'b']")
        members = [self._literal(_LITERAL)]
        while self._accept(","):
            members.append(self._literal(_LITERAL))
        if not self._accept("]"):
            raise self._fail('"," or "]"')
        return tuple(members)
