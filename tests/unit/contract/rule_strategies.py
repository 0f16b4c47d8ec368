"""Random expressions of the grammar, as hypothesis strategies."""

from decimal import Decimal

from hypothesis import strategies as st

from tidegate.contract.expression import (
    UNITS,
    And,
    BoolColumn,
    Column,
    Compare,
    In,
    IsNull,
    Literal,
    Member,
    Not,
    Now,
    Offset,
    Or,
    UserAttribute,
)

names = st.from_regex(r"[a-z_][a-z0-9_]{0,62}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20)
decimals = st.builds(
    lambda digits, places: Decimal(digits).scaleb(-places), st.integers(-(10**12), 10**12), st.integers(1, 9)
)
literals = st.builds(Literal, st.one_of(texts, st.integers(-(10**30), 10**30), decimals, st.booleans()))
offsets = st.builds(Offset, st.sampled_from([1, -1]), st.integers(0, 999_999), st.sampled_from(UNITS))
columns = st.builds(Column, names)
operands = st.one_of(columns, st.builds(UserAttribute, names), literals, st.builds(Now, st.none() | offsets))
atoms = st.one_of(
    st.builds(Compare, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), operands, operands),
    st.builds(In, operands, st.builds(UserAttribute, names) | st.lists(literals, min_size=1, max_size=4).map(tuple)),
    st.builds(IsNull, columns, st.booleans()),
    st.builds(BoolColumn, columns),
    st.builds(Member, names),
)


def trees(leaves: st.SearchStrategy) -> st.SearchStrategy:
    """and, or and not over `leaves`."""
    return st.recursive(
        leaves,
        lambda terms: st.one_of(
            st.builds(Not, terms),
            st.builds(And, st.lists(terms, min_size=2, max_size=3).map(tuple)),
            st.builds(Or, st.lists(terms, min_size=2, max_size=3).map(tuple)),
        ),
        max_leaves=8,
    )


expressions = trees(atoms)
