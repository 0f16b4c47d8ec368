"""Attacks on signed tokens and on the sessions of gateways, each also seen succeeding on a weakened database."""

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import jwt
import psycopg
import pytest
from psycopg import sql
from tests.security.conftest import ALLOW, World, contract, found, ids, seen
from tests.security.gate import AUDIENCE, ISSUER, MAPPED, Gate, present, principal, take
from tests.security.weaken import Breach, Edit, Weakening, attack, breach, refused

from tidegate.govern.token_issuer import TokenIssuer, set_issuer
from tidegate.govern.token_key import add_key, revoke_key
from tidegate.query.client import Client
from tidegate.query.session import Identity
from tidegate.settings import Settings
from tidegate.signing_key import SigningKey

VERIFY = "tidegate.verified_claims()"


def forgotten(name: str, *checks: str, function: str = VERIFY, by: str = "true") -> Weakening:
    """A database in which somebody forgot these checks."""
    return Weakening(name, edits=tuple(Edit(function, check, by) for check in checks))


NO_SIGNATURE = Weakening("no_signature", edits=(Edit(VERIFY, "IF sha256(", "IF false AND sha256("),))
ANY_ALGORITHM = forgotten("any_algorithm", """header -> 'alg' IS DISTINCT FROM '"HS256"'""", by="false")
ALG_NONE = Weakening(
    "alg_none",
    edits=(
        *ANY_ALGORITHM.edits,
        Edit(VERIFY, "{43}$", "*$"),
        Edit(VERIFY, "IF sha256(", "IF header ->> 'alg' <> 'none' AND sha256("),
    ),
)
NO_EXP = forgotten("no_exp", "(claims ->> 'exp')::numeric > moment - leeway")
NO_NBF = forgotten("no_nbf", "NOT claims ? 'nbf'")
NO_IAT = forgotten("no_iat", "(claims ->> 'iat')::numeric <= moment + leeway")
NO_LIFETIME = forgotten(
    "no_lifetime", "(claims ->> 'exp')::numeric - (claims ->> 'iat')::numeric <= signing.max_lifetime"
)
NO_ISS = forgotten("no_iss", "claims -> 'iss' = to_jsonb(signing.issuer)")
NO_AUD = forgotten("no_aud", "claims -> 'aud' ? signing.audience")
AUD_OF_ANY_TYPE = forgotten(
    "aud_of_any_type",
    """(jsonb_typeof(claims -> 'aud') = 'string' OR NOT claims @? 'strict $.aud[*] ? (@.type() != "string")')""",
)
NO_REVOCATION = forgotten("no_revocation", "k.revoked_at IS NULL")
NO_WINDOW = forgotten(
    "no_window", "k.not_before <= clock_timestamp()", "(k.not_after IS NULL OR k.not_after > clock_timestamp())"
)
ANY_KID = forgotten("any_kid", "k.kid = header ->> 'kid'")
ANY_GATEWAY = forgotten("any_gateway", "(k.gateways IS NULL OR gateway = ANY (k.gateways))")
NO_LIMIT = forgotten("no_limit", "octet_length(token) > 8192", by="false")
CRIT_IGNORED = forgotten("crit_ignored", "header ? 'crit'", by="false")
ERRORS_TELL = Weakening(
    "errors_tell", edits=(Edit(VERIFY, "EXCEPTION WHEN OTHERS THEN", "EXCEPTION WHEN division_by_zero THEN"),)
)
EVERYBODY_IS_A_GATEWAY = forgotten(
    "everybody_is_a_gateway", "pg_has_role(asked_oid, 'tidegate_gateway', 'USAGE')", function="tidegate.gateway()"
)
SET_ROLE_LEADS_OUT = Weakening(
    "set_role_leads_out", edits=(Edit("tidegate.gateway()", "ARRAY[session_user::text, ", "ARRAY["),)
)
SESSION_FILLS_IN = Weakening(
    "session_fills_in",
    edits=tuple(
        Edit(function, "tidegate.gateway() IS", "tidegate.verified_claims() IS")
        for function in ("tidegate.acts_as(text)", "tidegate.attribute_texts(text)")
    ),
)
SEARCH_ASKS_THE_LOGIN = Weakening(
    "search_asks_the_login",
    edits=(
        Edit(
            "tidegate.search_targets(text[], jsonb)", "CASE WHEN gateway IS NULL THEN session_role END", "session_role"
        ),
        Edit("tidegate.entitlement_of(tidegate.rule[], text, jsonb, jsonb, jsonb)", "claims IS NULL", "true"),
    ),
)
GLASS_OF_THE_LOGIN = forgotten(
    "glass_of_the_login", "gateway IS NULL", function="tidegate.search_targets(text[], jsonb)"
)
OFFERED_TO_THE_LOGIN = forgotten("offered_to_the_login", "NOT through_gateway", function="tidegate.offered_products()")
REMEMBERED = Weakening(
    "remembered",
    edits=(
        Edit(
            VERIFY,
            ":= current_setting('tidegate.jwt', true)",
            ":= coalesce(nullif(current_setting('tidegate.jwt', true), ''), current_setting('tidegate.last', true))",
        ),
        Edit(VERIFY, "RETURN claims;", "PERFORM set_config('tidegate.last', token, false); RETURN claims;"),
    ),
)
PLANS_REMEMBER = Weakening(
    "plans_remember",
    control=(
        "ALTER FUNCTION tidegate.acts_as(text) IMMUTABLE",
        "ALTER FUNCTION tidegate.attribute_texts(text) IMMUTABLE",
    ),
)
SETTINGS_ARE_BELIEVED = Weakening(
    "settings_are_believed",
    edits=(
        Edit(
            "tidegate.token_roles()",
            "RETURN (",
            "RETURN coalesce(ARRAY[nullif(current_setting('tidegate.role', true), '')]) || (",
        ),
        Edit(
            "tidegate.token_attribute_texts(text)",
            "RETURN (",
            "RETURN ARRAY[current_setting('tidegate.' || attribute_name, true)] || (",
        ),
    ),
)
KEYS_READABLE = Weakening("keys_readable", control=("GRANT SELECT ON tidegate.token_key TO tidegate_reader",))
PRIVATE_FUNCTIONS_OPEN = Weakening(
    "private_functions_open", control=("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tidegate TO tidegate_reader",)
)
NOBODY_IS_DENIED_NOTHING = Weakening(
    "nobody_is_denied_nothing",
    edits=(
        Edit(
            "tidegate.acts_as(text)",
            "CASE WHEN roles IS NOT NULL THEN tidegate.roles_act_as_of(roles, role_name) END",
            "roles IS NOT NULL AND tidegate.roles_act_as_of(roles, role_name)",
        ),
    ),
)
UNMAPPED_ROLES = Weakening(
    "unmapped_roles",
    edits=(
        Edit("tidegate.token_roles()", "i.role_map ->> r.claim", "coalesce(i.role_map ->> r.claim, r.claim)"),
        Edit("tidegate.token_roles()", "WHERE i.role_map ? r.claim", ""),
    ),
)
SUPERUSERS_COUNT = forgotten("superusers_count", "NOT p.rolsuper", function="tidegate.roles_act_as_of(text[], text)")
GLASS_BY_NAME = Weakening(
    "glass_by_name",
    edits=(
        Edit(
            "tidegate.breaks_glass(text)",
            "tidegate.gateway() IS NULL AND tidegate.breaks_glass_of(tidegate.session_role()",
            "tidegate.breaks_glass_of(tidegate.principal()",
        ),
    ),
)
ATTRIBUTES_BY_NAME = Weakening(
    "attributes_by_name",
    edits=(
        Edit(
            "tidegate.attribute_texts(text)",
            "tidegate.token_attribute_texts(",
            "tidegate.attribute_texts_of(tidegate.principal(), ",
        ),
    ),
)


def leaky(self: Identity) -> Iterator[tuple[sql.SQL, list[Any]]]:
    """Identity.openings of somebody who took `false` for `true`."""
    if self.token is not None:
        yield sql.SQL("SELECT pg_catalog.set_config('tidegate.jwt', %s, false)"), [self.token]


LEAKY_HELPER = Weakening("leaky_helper", patches=(("tidegate.query.session.Identity.openings", leaky),))


@pytest.fixture
def gate(published: World) -> Gate:
    return Gate(published)


def accepted(gate: Gate, token: str) -> None:
    """A breach, where the token lets anything through; and an error would tell, too."""
    session = gate.session(token)
    try:
        breach(ids(session) != set() or found(session) != set() or principal(session) is not None, "the token counts")
    except psycopg.Error as error:
        raise Breach("an error tells") from error


def by_hand(header: dict[str, Any], claims: dict[str, Any], signature: str) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)]
    return ".".join([*parts, signature])


class TestWhoHasAToken:
    def test_is_who_it_says(self, gate: Gate) -> None:
        session = gate.session(gate.token())
        assert seen(session) == {1}
        row = session.execute("SELECT principal, roles, attributes FROM tidegate.whoami()").fetchone()
        assert row == ("alice", ["note_reader"], {"regions": ["EU"]})
        assert session.execute("SELECT product FROM tidegate.products").fetchall() == [("team.note",)]
        present(session, gate.token(regions=["EU", "US"], sub="bob"))
        assert seen(session) == {1, 2}

    def test_may_be_for_several_audiences(self, gate: Gate) -> None:
        assert seen(gate.session(gate.token(aud=["other", AUDIENCE]))) == {1}

    def test_may_have_one_role_and_scalars(self, gate: Gate) -> None:
        token = gate.token(
            realm_access={"roles": "reader"}, regions="US", level=3, **{"https://example.com/tenant": "t"}
        )
        session = gate.session(token)
        assert seen(session) == {2}
        assert session.execute("SELECT attributes FROM tidegate.whoami()").fetchone() == (
            {"regions": ["US"], "tenant": ["t"], "clearance": ["3"]},
        )
        assert session.execute("SELECT tidegate.attribute_bigint('clearance')").fetchone() == (3,)

    def test_sees_nothing_by_a_claim_of_another_shape(self, gate: Gate) -> None:
        for regions in [{"EU": 1}, [["EU"]], ["EU", None], [{}], [], "", 7, True]:
            assert seen(gate.session(gate.token(regions=regions))) == set()

    def test_is_offered_what_a_rule_allows_her_role(self, gate: Gate) -> None:
        for roles in ([], ["unknown"], ["note_reader"]):
            session = gate.session(gate.token(realm_access={"roles": roles}))
            assert session.execute("SELECT count(*) FROM tidegate.products").fetchone() == (0,)
            assert session.execute("SELECT count(*) FROM tidegate.freshness").fetchone() == (0,)
            with pytest.raises(psycopg.errors.UndefinedObject):
                found(session, products=["team.note"])

    def test_keys_overlap_while_they_are_rotated(self, gate: Gate) -> None:
        new = SigningKey.generate("k2")
        add_key(gate.world.admin, ISSUER, new)
        assert seen(gate.session(gate.token())) == seen(gate.session(gate.token(key=new))) == {1}
        revoke_key(gate.world.admin, "k1", after=timedelta(minutes=5))
        assert seen(gate.session(gate.token())) == {1}
        revoke_key(gate.world.admin, "k1")
        assert seen(gate.session(gate.token())) == set()
        assert seen(gate.session(gate.token(key=new))) == {1}

    def test_secrets_of_any_length(self, gate: Gate) -> None:
        for length in [32, 63, 64, 65, 200]:
            key = SigningKey(f"long{length}", bytes(range(1, 256))[:length])
            add_key(gate.world.admin, ISSUER, key)
            assert principal(gate.session(gate.token(key=key))) == "alice"

    def test_a_mapped_role_has_what_it_inherits(self, gate: Gate) -> None:
        senior = gate.world.role("senior", "note_reader")
        set_issuer(
            gate.world.admin,
            TokenIssuer(
                ISSUER, AUDIENCE, roles_claim="roles", role_map={"s": senior}, attribute_map={"regions": "regions"}
            ),
        )
        assert seen(gate.session(gate.token(roles=["s"]))) == {1}


class TestForgery:
    @attack(NO_SIGNATURE)
    def test_signed_with_another_secret(self, gate: Gate) -> None:
        accepted(gate, gate.token(key=SigningKey.generate("k1")))

    @attack(NO_SIGNATURE)
    def test_swapped_payload(self, gate: Gate) -> None:
        """Alice's header and signature around claims of her own making."""
        ours, others = gate.token(realm_access={"roles": []}).split("."), gate.token(sub="root").split(".")
        accepted(gate, ".".join([ours[0], others[1], ours[2]]))

    @attack(ALG_NONE)
    def test_alg_none(self, gate: Gate) -> None:
        for signature in ("", "A" * 43):
            accepted(gate, by_hand({"alg": "none", "kid": "k1"}, gate.claims(), signature))

    @attack(ANY_ALGORITHM)
    def test_another_algorithm_than_hs256(self, gate: Gate) -> None:
        """The header does not choose how the signature is verified, though this one is right by HS256."""
        for algorithm in ["RS256", "hs256", "HS512", None, ["HS256"]]:
            header = {"alg": algorithm, "kid": "k1", "typ": "JWT"}
            signed = by_hand(header, gate.claims(), "").rstrip(".")
            inner, outer = gate.key.pads()
            digest = hashlib.sha256(outer + hashlib.sha256(inner + signed.encode()).digest()).digest()
            accepted(gate, f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}")

    @attack(CRIT_IGNORED)
    def test_critical_extensions_that_are_not_understood(self, gate: Gate) -> None:
        headers = {"kid": "k1", "crit": ["exp"], "exp": 1}
        accepted(gate, jwt.encode(gate.claims(), gate.key.secret, "HS256", headers=headers))

    @attack(ANY_KID)
    def test_unknown_kid(self, gate: Gate) -> None:
        for kid in ["k2", "", "K1", "k1 ", "%"]:
            accepted(gate, jwt.encode(gate.claims(), gate.key.secret, "HS256", headers={"kid": kid}))

    @attack(NO_REVOCATION)
    def test_revoked_kid(self, gate: Gate) -> None:
        revoke_key(gate.world.admin, "k1")
        accepted(gate, gate.token())

    @attack(NO_WINDOW)
    def test_kid_out_of_its_time(self, gate: Gate) -> None:
        for window in ("now() + interval '1 minute', NULL", "now() - interval '1 hour', now() - interval '1 second'"):
            gate.world.admin.execute(f"UPDATE tidegate.token_key SET (not_before, not_after) = ({window})")  # type: ignore[arg-type]
            accepted(gate, gate.token())

    @attack(NO_SIGNATURE)
    def test_signed_by_the_pads_of_a_removed_key(self, gate: Gate) -> None:
        """The kid is there again, with another secret."""
        gate.world.admin.execute("DELETE FROM tidegate.token_key")
        add_key(gate.world.admin, ISSUER, SigningKey.generate("k1"))
        accepted(gate, gate.token())


class TestClaims:
    @attack(NO_EXP)
    def test_expired(self, gate: Gate) -> None:
        now = int(time.time())
        accepted(gate, gate.token(iat=now - 600, exp=now - 11))

    @attack(NO_NBF)
    def test_not_yet_valid(self, gate: Gate) -> None:
        accepted(gate, gate.token(nbf=int(time.time()) + 60))

    @attack(NO_IAT)
    def test_issued_in_the_future(self, gate: Gate) -> None:
        now = int(time.time())
        accepted(gate, gate.token(iat=now + 60, exp=now + 120))

    @attack(NO_LIFETIME)
    def test_living_longer_than_its_issuer_may_let_it(self, gate: Gate) -> None:
        now = int(time.time())
        accepted(gate, gate.token(iat=now - 3600, exp=now + 60))
        accepted(gate, gate.token(exp=10**12))

    @attack(NO_AUD)
    def test_for_somebody_else(self, gate: Gate) -> None:
        for aud in ["other", "", ["other"], "tidegate2"]:
            accepted(gate, gate.token(aud=aud))

    @attack(AUD_OF_ANY_TYPE)
    def test_audience_of_another_shape(self, gate: Gate) -> None:
        for aud in ({AUDIENCE: 1}, [AUDIENCE, 1], [AUDIENCE, ["b"]], [AUDIENCE, None]):
            accepted(gate, gate.key.sign(gate.claims() | {"aud": aud}))

    @attack(NO_ISS)
    def test_a_key_speaks_for_its_own_issuer_only(self, gate: Gate) -> None:
        """Another issuer is believed as well, and none of its roles means anything; its key signs as ours."""
        set_issuer(gate.world.admin, TokenIssuer("https://small.example.com/", AUDIENCE))
        small = SigningKey.generate("small")
        add_key(gate.world.admin, "https://small.example.com/", small)
        accepted(gate, gate.token(key=small))

    def test_what_is_required(self, gate: Gate) -> None:
        for claim in ["iss", "aud", "sub", "iat", "exp"]:
            accepted(gate, gate.token(**{claim: None}))

    def test_a_principal_is_a_text(self, gate: Gate) -> None:
        for value in ["", 7, True, [], {}, ["alice"]]:
            accepted(gate, gate.key.sign(gate.claims() | {"sub": value}))

    @attack(UNMAPPED_ROLES)
    def test_a_role_that_the_map_does_not_name(self, gate: Gate) -> None:
        breach(seen(gate.session(gate.token(realm_access={"roles": ["note_reader"]}))) != set(), "unmapped role")

    def test_an_empty_map_gives_no_role(self, gate: Gate) -> None:
        set_issuer(gate.world.admin, TokenIssuer(ISSUER, AUDIENCE, attribute_map={"regions": "regions"}))
        session = gate.session(gate.token())
        assert principal(session) == "alice"
        assert seen(session) == set()

    @attack(SUPERUSERS_COUNT)
    def test_a_role_that_became_a_superuser(self, gate: Gate) -> None:
        chief = gate.world.role("chief")
        set_issuer(
            gate.world.admin,
            TokenIssuer(
                ISSUER, AUDIENCE, roles_claim="roles", role_map={"c": chief}, attribute_map={"regions": "regions"}
            ),
        )
        gate.world.admin.execute(sql.SQL("ALTER ROLE {} SUPERUSER").format(sql.Identifier(chief)))
        breach(seen(gate.session(gate.token(roles=["c"]))) != set(), "a member of everything")

    @attack(ATTRIBUTES_BY_NAME)
    def test_attributes_of_a_role_of_the_same_name(self, gate: Gate) -> None:
        namesake = gate.world.role("namesake", regions=["EU", "US"])
        breach(ids(gate.session(gate.token(sub=namesake, regions=None))) != set(), "attributes of a namesake")

    @attack(GLASS_BY_NAME)
    def test_break_glass_of_a_role_of_the_same_name(self, world: World) -> None:
        world.publish(contract(ALLOW, {"id": "no", "effect": "require", "when": "row.region = 'US'"}))
        world.note(1, region="EU")
        gate = Gate(world)
        namesake = world.role("namesake", "tidegate_emergency")
        world.admin.execute(
            "INSERT INTO tidegate.break_glass (principal, role_oid, reason, expires_at) "
            "SELECT rolname, oid, 'test', now() + interval '1 minute' FROM pg_roles WHERE rolname = %s",
            [namesake],
        )
        breach(ids(gate.session(gate.token(sub=namesake))) != set(), "a namesake's emergency")


MALFORMED = [
    "",
    ".",
    "..",
    "...",
    "a.b.c",
    "a.b." + "A" * 43,
    "A.A." + "A" * 43,
    "e30.e30." + "A" * 43,
    " ",
    "null",
    "\\",
    "Bearer x",
    "é.é." + "A" * 43,
    by_hand({"alg": "HS256", "kid": "k1"}, {}, "A" * 43),
    by_hand({"alg": "HS256", "kid": 1}, {}, "A" * 43),
    base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"\\u0000"}').rstrip(b"=").decode() + ".e30." + "A" * 43,
    base64.urlsafe_b64encode(b"\xff\xfe\xfd").rstrip(b"=").decode() + ".e30." + "A" * 43,
    base64.urlsafe_b64encode(b"[" * 5000).rstrip(b"=").decode() + ".e30." + "A" * 43,
    "A" * 1_000_000,
    "W10.W10." + "A" * 43,
    "In0.In0." + "A" * 43,
]


class TestMalformed:
    @attack(ERRORS_TELL)
    def test_no_error_tells(self, gate: Gate) -> None:
        session = gate.session()
        for token in MALFORMED:
            present(session, token)
            try:
                assert principal(session) is None, token
                assert ids(session) == set(), token
            except psycopg.Error as error:
                raise Breach(f"{token[:60]} is told of: {error}") from error

    def test_nor_of_signed_nonsense(self, gate: Gate) -> None:
        """Whoever has the key may sign what is no claims, too."""
        session = gate.session()
        for payload in (
            b"",
            b"[]",
            b'"x"',
            b"7",
            b"null",
            b"\xff",
            b"{",
            b'{"exp": 1e999999999}',
            b'{"a":"\\u0000"}',
            b"[" * 3000,
        ):
            present(session, jwt.api_jws.encode(payload, gate.key.secret, "HS256", headers={"kid": "k1"}))
            assert principal(session) is None, payload
        huge = gate.claims() | {"exp": 10**400}
        present(session, gate.key.sign(huge))
        assert principal(session) is None

    @attack(NO_LIMIT)
    def test_oversized(self, gate: Gate) -> None:
        assert principal(gate.session(gate.token(x="y" * 5000))) == "alice"
        accepted(gate, gate.token(x="y" * 9000))

    def test_other_spellings_of_a_good_token(self, gate: Gate) -> None:
        good = gate.token()
        head, payload, signature = good.split(".")
        session = gate.session()
        last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        at = last.index(signature[-1])
        for token in (
            good + "=",
            good + "\n",
            " " + good,
            good + ".",
            "." + good,
            good.replace(".", ".."),
            f"{head}=.{payload}.{signature}",
            f"{head}.{payload}.{signature[:-1]}{last[at ^ 1]}",
            f"{head}.{payload}.{signature[:20]}\n{signature[20:]}",
            f"{head}.{payload}.{signature.swapcase()}",
            f"{head}.{payload}",
            f"{head}.{payload}.{signature}.{signature}",
        ):
            present(session, token)
            assert principal(session) is None, token
        present(session, good)
        assert principal(session) == "alice"


class TestReplay:
    @attack(EVERYBODY_IS_A_GATEWAY)
    def test_under_a_login_that_is_no_gateway(self, gate: Gate) -> None:
        thief = gate.world.role("thief", "tidegate_reader")
        session = gate.world.login(thief)
        present(session, gate.token())
        breach(found(session) != set() or principal(session) != thief, "a stolen token counts anywhere")

    def test_adds_nothing_to_who_has_a_role_of_her_own(self, gate: Gate) -> None:
        session = gate.world.login(gate.world.role("us", "note_reader", regions=["US"]))
        present(session, gate.token())
        assert seen(session) == {2}

    @attack(ANY_GATEWAY)
    def test_under_another_gateway(self, published: World) -> None:
        gate = Gate(published, bound=True)
        assert seen(gate.session(gate.token())) == {1}
        session = published.login(published.role("other_app", "tidegate_gateway"))
        present(session, gate.token())
        breach(seen(session) != set() or principal(session) is not None, "a key of one gateway counts in another's")

    @attack(REMEMBERED)
    def test_on_a_pooled_connection_after_the_transaction(self, gate: Gate) -> None:
        """After it the setting is '', not NULL."""
        for end in ("COMMIT", "ROLLBACK"):
            session = gate.session()
            session.execute("BEGIN")
            present(session, gate.token(), local=True)
            assert ids(session) == {1}
            session.execute(end)  # type: ignore[arg-type]
            assert session.execute("SELECT current_setting('tidegate.jwt', true)").fetchone() == ("",)
            breach(ids(session) != set() or principal(session) is not None, "the next user is the last one")

    @attack(LEAKY_HELPER)
    def test_on_a_connection_of_the_helpers_pool(self, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tidegate.query.surface.POOL_SIZE", 1)
        with Client(gate.world.dsn(gate.login), Settings(_env_file=None)) as client:
            with client.as_token(gate.token()) as alice:
                assert not alice.why_nothing().startswith("no product")
            breach(not client.why_nothing().startswith("no product"), "the pool keeps who was there last")

    @attack(REMEMBERED)
    def test_after_it_expired_in_a_running_session(self, gate: Gate) -> None:
        """A key's end, since a second of waiting would show no more."""
        session = gate.session(gate.token())
        assert ids(session) == {1}
        present(session, "")
        breach(ids(session) != set(), "remembered")

    @attack(PLANS_REMEMBER)
    def test_by_a_prepared_statement(self, gate: Gate) -> None:
        for mode in ("force_generic_plan", "force_custom_plan"):
            session = gate.session()
            session.execute(f"SET plan_cache_mode = {mode}; PREPARE p AS SELECT id FROM rag_team.note ORDER BY id")  # type: ignore[arg-type]
            for region, expected in (("EU", [1]), ("US", [2]), ("EU", [1]), (None, [])):
                present(session, gate.token(regions=[region]) if region else "")
                for _ in range(6):
                    shown = [row[0] for row in session.execute("EXECUTE p").fetchall()]
                    breach(shown != expected, f"{shown} for {region}")


class TestGatewaySessions:
    @attack(SESSION_FILLS_IN, OFFERED_TO_THE_LOGIN)
    def test_without_a_token_nothing_is_seen(self, published: World) -> None:
        """Though somebody gave the gateway's login a role and attributes."""
        session = Gate(published, "note_reader", regions=["EU", "US"]).session()
        breach(ids(session) != set(), "plain SQL")
        breach(found(session, "eventual") != set() or found(session) != set(), "search")
        breach(session.execute("SELECT count(*) FROM tidegate.products").fetchone() != (0,), "products")
        breach(session.execute("SELECT count(*) FROM tidegate.freshness").fetchone() != (0,), "freshness")
        breach(session.execute("SELECT rag_team.note_live(1)").fetchone() != (False,), "live function")
        assert session.execute("SELECT * FROM tidegate.whoami()").fetchone() == (None, [], {})

    @attack(SEARCH_ASKS_THE_LOGIN, GLASS_OF_THE_LOGIN)
    def test_what_the_login_has_adds_nothing_to_a_token(self, published: World) -> None:
        """A role, attributes and an emergency of its own. Row-level security would hide what a search asks for beyond
        what the token allows; the search does not even ask for it."""
        gate = Gate(published, "note_reader", "tidegate_emergency", regions=["EU", "US"])
        published.admin.execute(
            "INSERT INTO tidegate.break_glass (principal, role_oid, reason, expires_at) "
            "SELECT rolname, oid, 'test', now() + interval '1 minute' FROM pg_roles WHERE rolname = %s",
            [gate.login],
        )
        for changes, regions, expected in (
            ({}, {"EU"}, {1}),
            ({"regions": ["US"]}, {"US"}, {2}),
            ({"regions": None}, set(), set()),
            ({"realm_access": None}, set(), set()),
        ):
            session = gate.session(gate.token(**changes))
            asked = "".join(
                condition for (condition,) in session.execute("SELECT condition FROM tidegate.search_scope(NULL)")
            )
            breach(asked == "true", "an emergency is the login's")
            breach(not {region for region in ("EU", "US") if region in asked} <= regions, "attributes are the login's")
            assert seen(session) == expected

    @attack(SET_ROLE_LEADS_OUT)
    def test_set_role_does_not_lead_out(self, published: World) -> None:
        """Though somebody made the gateway's login a member of a reader."""
        alice = published.role("alice", "note_reader", regions=["EU", "US"])
        session = Gate(published, alice).session()
        take(session, alice)
        breach(seen(session) != set(), "SET ROLE")

    def test_set_role_leads_in(self, gate: Gate) -> None:
        """An administrator's session, or any that may take the gateway's role, is the gateway's."""
        session = gate.world.as_superuser()
        take(session, gate.login)
        assert seen(session) == set()
        present(session, gate.token())
        assert seen(session) == {1}

    def test_no_role_may_be_taken(self, gate: Gate) -> None:
        alice = gate.world.role("alice", "note_reader", regions=["EU"])
        session = gate.session(gate.token())
        for role in (alice, "note_reader", "tidegate_owner", "tidegate_worker", "tidegate_admin", "postgres"):
            with pytest.raises(
                (
                    psycopg.errors.InsufficientPrivilege,
                    psycopg.errors.UndefinedObject,
                    psycopg.errors.InvalidParameterValue,
                )
            ):
                take(session, role)
            with pytest.raises(psycopg.Error):
                session.execute(sql.SQL("SET SESSION AUTHORIZATION {}").format(sql.Identifier(role)))
        assert seen(session) == {1}

    @attack(SETTINGS_ARE_BELIEVED)
    def test_no_setting_makes_somebody(self, gate: Gate) -> None:
        session = gate.session()
        names = [
            f"tidegate.{name}"
            for name in ("principal", "role", "roles", "user", "claims", "regions", "attributes", "last", "gateway")
        ]
        names += [f"request.jwt.{name}" for name in ("claims", "claim.sub")]
        names += [
            row[0]
            for row in session.execute("SELECT name FROM pg_settings WHERE context = 'user' AND vartype = 'string'")
        ]
        kept = {"search_path", "role", "session_authorization", "client_encoding"}
        for name in (name for name in names if name not in kept):
            for value in ("note_reader", "alice", "EU"):
                try:
                    session.execute("SELECT set_config(%s, %s, false)", [name, value])
                except psycopg.Error:
                    continue
            session.execute("SELECT set_config('tidegate.role', 'note_reader', false)")
            breach(ids(session) != set() or principal(session) is not None, f"setting {name}")

    @attack(KEYS_READABLE)
    def test_keys_cannot_be_read_and_used(self, gate: Gate) -> None:
        session = gate.session()
        with refused(psycopg.errors.InsufficientPrivilege):
            rows = session.execute("SELECT kid, inner_pad, outer_pad FROM tidegate.token_key").fetchall()
            kid, inner, outer = rows[0]
            signed = by_hand({"alg": "HS256", "kid": kid}, gate.claims(regions=["EU", "US"]), "").rstrip(".")
            digest = hashlib.sha256(outer + hashlib.sha256(inner + signed.encode()).digest()).digest()
            present(session, f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}")
            assert seen(session) == {1, 2}

    @attack(PRIVATE_FUNCTIONS_OPEN)
    def test_private_functions_cannot_be_called(self, gate: Gate) -> None:
        session = gate.session(gate.token())
        for call in (
            "verified_claims()",
            "token_roles()",
            "token_principal()",
            "token_attribute_texts('regions')",
            "token_part('e30')",
            "attribute_texts_of('alice', 'regions')",
            "acts_as_of('alice', 'note_reader')",
            "roles_act_as_of('{alice}', 'note_reader')",
            "breaks_glass_of('alice', 'team.note')",
            "claim_texts_of('{}', 'x')",
            "token_principal_of('{}', 'x')",
        ):
            with refused(psycopg.errors.InsufficientPrivilege):
                session.execute(f"SELECT tidegate.{call}")  # type: ignore[arg-type]

    def test_control_tables_cannot_be_read_or_written(self, gate: Gate) -> None:
        session = gate.session(gate.token())
        for table in (
            "token_key",
            "token_issuer",
            "principal_attribute",
            "break_glass",
            "rule",
            "product",
            "audit_event",
        ):
            for statement in ("SELECT * FROM tidegate.{}", "DELETE FROM tidegate.{}"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.execute(sql.SQL(statement).format(sql.Identifier(table)))

    def test_shadowed_names_prove_nothing(self, gate: Gate) -> None:
        session = gate.session()
        session.execute(
            """
            CREATE FUNCTION pg_temp.verified_claims() RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"sub":"alice"}'::jsonb $$;
            CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT ''::bytea $$;
            CREATE FUNCTION pg_temp.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '1970-01-01'::timestamptz $$;
            CREATE FUNCTION pg_temp.pg_has_role(oid, name, text) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
            CREATE TEMP TABLE token_key (kid text, inner_pad bytea, outer_pad bytea);
            CREATE TEMP TABLE pg_roles (oid oid, rolname name, rolsuper boolean);
            SET search_path = pg_temp, pg_catalog, tidegate, public;
            """
        )
        now = int(time.time())
        for token in (gate.token(key=SigningKey.generate("k1")), gate.token(iat=now - 600, exp=now - 60)):
            present(session, token)
            assert seen(session) == set()
        present(session, gate.token())
        assert seen(session) == {1}

    @attack(NOBODY_IS_DENIED_NOTHING)
    def test_a_token_taken_away_within_a_statement_lifts_no_denial(self, world: World) -> None:
        """What policies ask is asked once a statement, when a row first needs it: not all under the same token.

        Row 1 is met by nobody, who has no denied role, and hidden by another rule before it is asked who may
        see it; row 2 by Alice, who is denied it.
        """
        world.publish(
            contract(
                # Two of them, so that the planner does not take one apart and ask for the role first.
                {**ALLOW, "when": "row.price > 0"},
                {**ALLOW, "id": "more", "to": ["note_writer"], "when": "row.price > 1"},
                {"id": "a", "effect": "deny", "to": ["few_denied"], "when": "row.price = 2"},
                {"id": "cheap", "effect": "require", "when": "row.price < 10"},
            )
        )
        world.note(1, price=50)
        world.note(2, price=2)
        world.note(3, price=3)
        issuer = TokenIssuer(ISSUER, AUDIENCE, roles_claim="roles", role_map={"r": "note_reader", "d": "few_denied"})
        gate = Gate(world, issuer=issuer)
        token = gate.token(roles=["r", "d"])
        session = gate.session(token)
        assert seen(session) == {3}
        for steps in (
            [("1", ""), ("2", token), ("3", token)],
            [("2", ""), ("2", token)],
            [("3", token), ("2", ""), ("2", token)],
        ):
            rows = session.execute(
                "SELECT n.id FROM unnest(%s::bigint[], %s::text[]) AS step (id, token) "
                "CROSS JOIN LATERAL (SELECT set_config('tidegate.jwt', step.token, false) AS done) AS s "
                "CROSS JOIN LATERAL (SELECT id FROM rag_team.note WHERE id = step.id AND s.done IS NOT NULL OFFSET 0) AS n",
                [[id_ for id_, _ in steps], [token for _, token in steps]],
            ).fetchall()
            breach((2,) in rows, "a denied row")


class TestAdministrators:
    def test_put_keys_in_and_cannot_take_them_out(self, gate: Gate) -> None:
        session = gate.world.login(gate.world.role("dba", "tidegate_admin"))
        set_issuer(session, MAPPED)
        add_key(session, ISSUER, SigningKey.generate("k9"))
        assert session.execute("SELECT kid FROM tidegate.token_key ORDER BY 1").fetchall() == [("k1",), ("k9",)]
        for column in ("inner_pad", "outer_pad", "*"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(f"SELECT {column} FROM tidegate.token_key")  # type: ignore[arg-type]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("UPDATE tidegate.token_key SET inner_pad = outer_pad")
        revoke_key(session, "k9")
        assert principal(gate.session(gate.token(key=gate.key))) == "alice"
