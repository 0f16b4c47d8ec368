"""LSNs as text, and positions in the order in which Postgres orders them."""

from hypothesis import given
from hypothesis import strategies as st

from tidegate.capture.position import NOWHERE, Lsn, Position, lsn, lsn_text

lsns = st.integers(0, 2**64 - 1).map(Lsn)


def test_an_lsn_is_written_as_postgres_writes_it():
    assert lsn_text(Lsn(0x18C77E0)) == "0/18C77E0"
    assert lsn_text(Lsn((0x16 << 32) + 0xB374D848)) == "16/B374D848"
    assert lsn_text(Lsn(0)) == "0/0"
    assert lsn("ffffffff/FFFFFFFF") == 2**64 - 1


@given(lsns)
def test_text_and_number_are_the_same(number: Lsn):
    assert lsn(lsn_text(number)) == number


@given(lsns, lsns, lsns, lsns)
def test_the_last_commit_orders_before_the_change(a: Lsn, b: Lsn, c: Lsn, d: Lsn):
    assert (Position(a, b) < Position(c, d)) == ((a, b) < (c, d))
    assert Position(a, b) >= NOWHERE


def test_a_position_is_written_as_an_array_of_pg_lsn():
    assert Position(Lsn(1), Lsn(0x100000002)).text() == "{0/1,1/2}"
