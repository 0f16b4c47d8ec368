"""Issuers and keys, used wrongly: each refusal says what, and the way out."""

from collections.abc import Iterator

import pytest
from tests.conftest import Tide

from tidegate.errors import UnknownName, UsageError
from tidegate.govern.token_issuer import (
    TokenIssuer,
    list_issuers,
    parse_attribute_map,
    parse_role_map,
    remove_issuer,
    set_issuer,
)
from tidegate.govern.token_key import KeyRevoked, add_key, issuer_of, list_keys, revoke_key
from tidegate.signing_key import SigningKey

ISSUER = TokenIssuer("iss", "aud", roles_claim="roles", role_map={"a": "token_agent"}, attribute_map={"t": "org.t"})


@pytest.fixture
def issued(tide: Tide) -> Iterator[Tide]:
    tide.admin.execute("CREATE ROLE token_agent")
    set_issuer(tide.admin, ISSUER)
    yield tide
    tide.admin.execute("DROP ROLE token_agent")


def test_what_is_declared_is_listed_and_replaced_as_a_whole(issued: Tide) -> None:
    assert list_issuers(issued.admin) == [ISSUER]
    add_key(issued.admin, "iss", SigningKey.generate("k"))
    assert issuer_of(issued.admin, "k") == ISSUER
    set_issuer(issued.admin, TokenIssuer("iss", "other"))
    assert list_issuers(issued.admin) == [TokenIssuer("iss", "other")]


def test_declarations_that_are_refused(issued: Tide) -> None:
    for declared, saying in (
        (TokenIssuer("i", "a", roles_claim="r", role_map={"x": "nobody_there"}), "no such role"),
        (TokenIssuer("i", "a", roles_claim="r", role_map={"x": "postgres"}), "superuser"),
        (TokenIssuer("i", "a", roles_claim="r", role_map={"x": "tidegate_owner"}), "tidegate's own"),
        (TokenIssuer("i", "a", roles_claim="r"), "roles need both"),
        (TokenIssuer("i", "a", role_map={"x": "token_agent"}), "roles need both"),
        (TokenIssuer("i", "a", attribute_map={"Tenant": "t"}), "no name of an attribute"),
    ):
        with pytest.raises(UsageError, match=saying):
            set_issuer(issued.admin, declared)
    assert list_issuers(issued.admin) == [ISSUER]


def test_keys_that_are_refused(issued: Tide) -> None:
    key = SigningKey.generate("k")
    with pytest.raises(UsageError, match='no issuer "other"; declare it first'):
        add_key(issued.admin, "other", key)
    with pytest.raises(UsageError, match='"token_agent" is no gateway: GRANT'):
        add_key(issued.admin, "iss", key, gateways=["token_agent"])
    assert list_keys(issued.admin) == []
    add_key(issued.admin, "iss", key)
    revoke_key(issued.admin, "k")
    assert [one.state for one in list_keys(issued.admin)] == ["revoked"]
    with pytest.raises(UsageError, match="is taken"):
        add_key(issued.admin, "iss", SigningKey.generate("k"))
    with pytest.raises(KeyRevoked, match="revoked already"):
        revoke_key(issued.admin, "k")
    with pytest.raises(UnknownName, match="there is no key"):
        revoke_key(issued.admin, "none")
    with pytest.raises(UsageError, match="there is no key"):
        issuer_of(issued.admin, "none")
    with pytest.raises(UsageError, match='no issuer "other"'):
        remove_issuer(issued.admin, "other")
    remove_issuer(issued.admin, "iss")
    assert list_keys(issued.admin) == []


def test_pairs() -> None:
    assert parse_role_map(["cn=agents,dc=x=agent"]) == {"cn=agents,dc=x": "agent"}
    assert parse_attribute_map(["tenant=a=b.c"]) == {"tenant": "a=b.c"}
    for text in ("x", "=x", "x="):
        with pytest.raises(UsageError):
            parse_role_map([text])
        with pytest.raises(UsageError):
            parse_attribute_map([text])


def test_secrets_are_long_and_not_shown() -> None:
    for secret in (b"", b"x" * 31):
        with pytest.raises(UsageError, match="HS256 needs 32 or more"):
            SigningKey("k", secret)
    with pytest.raises(UsageError, match="needs a kid"):
        SigningKey("", b"x" * 32)
    assert "secretly" not in repr(SigningKey("k", b"secretly" * 8))
