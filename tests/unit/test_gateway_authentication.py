"""Tokens at the door: each refusal with its reason, and what is remembered for how long."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateways.authentication import Authentication, Identity, Need
from mulligan.caller import Caller
from mulligan.clock import SECOND, now_us
from mulligan.errors import MulliganError, Unauthenticated
from tests.gateway_parts import KEY_ID, MEMBER, MemoryPrefix, Signer, bearer


class World:
    """An authentication with a clock and stores that a test moves."""

    def __init__(self, most: int = 100) -> None:
        self.now = now_us()
        self.signer = Signer()
        self.keys = MemoryPrefix({KEY_ID: self.signer.jwk})
        self.revocations = MemoryPrefix()
        self.authentication = Authentication(self.keys, self.revocations, lambda: self.now, most)

    def identify(self, token: str) -> Identity:
        """The identity of a call with this token."""
        return self.authentication.identify(bearer(token), Need.VALID)

    def refusal(self, metadata: Any) -> str:
        """Why a call with this metadata is refused."""
        with pytest.raises(Unauthenticated) as refused:
            self.authentication.identify(metadata, Need.VALID)
        return refused.value.reason

    def revoke(self, key: str, before_us: int) -> None:
        """As the IAM service does."""
        self.revocations.put(key, json.dumps({"before_us": before_us}).encode())


def encoded(part: dict[str, Any]) -> str:
    """A part of a JWT."""
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def claims_of(token: str) -> dict[str, Any]:
    """What a token says."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def test_a_valid_token_tells_who_calls() -> None:
    world = World()
    caller = world.signer.caller(MEMBER, project="p")
    identity = world.identify(world.signer.token(caller))
    known = replace(identity.caller, expires_us=0)
    assert known == replace(caller, expires_us=0)
    assert world.authentication.identify((("authorization", f"bearer {world.signer.token(caller)}"),), Need.VALID)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ((), "TOKEN_MISSING"),
        ((("authorization", ""),), "TOKEN_MALFORMED"),
        ((("authorization", "Bearer "),), "TOKEN_MALFORMED"),
        ((("authorization", "Basic dTpw"),), "TOKEN_MALFORMED"),
        ((("authorization", "Bearer nonsense"),), "TOKEN_MALFORMED"),
        ((("authorization", "Bearer a.b.c"),), "TOKEN_MALFORMED"),
        ((("authorization", "Bearer " + "x" * 40_000),), "TOKEN_MALFORMED"),
    ],
)
def test_no_token_or_none_of_ours(metadata: Any, reason: str) -> None:
    assert World().refusal(metadata) == reason


def test_two_tokens_are_one_too_many() -> None:
    world = World()
    once = bearer(world.signer.token(world.signer.caller(MEMBER)))
    assert world.refusal(once + once) == "TOKEN_MALFORMED"


def test_an_expired_token_is_refused_also_when_it_was_accepted_before() -> None:
    world = World()
    token = world.signer.token(world.signer.caller(MEMBER, lifetime_s=60))
    world.identify(token)
    world.now += 61 * SECOND
    assert world.refusal(bearer(token)) == "TOKEN_EXPIRED"


def test_forgeries_are_refused() -> None:
    world = World()
    token = world.signer.token(world.signer.caller(MEMBER))
    claims = claims_of(token)
    header, _, signature = token.split(".")
    public = world.signer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    raw = world.signer.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    forged = {
        "signed by another key of the same name": Signer().token(world.signer.caller(MEMBER)),
        "signed by a key that is not known": Signer("other").token(world.signer.caller(MEMBER)),
        "changed claims": f"{header}.{encoded({**claims, 'grants': [['admin', 1, '']]})}.{signature}",
        "no signature at all": f"{encoded({'alg': 'none', 'typ': 'JWT', 'kid': KEY_ID})}.{encoded(claims)}.",
        "alg none in other letters": f"{encoded({'alg': 'nOnE', 'kid': KEY_ID})}.{encoded(claims)}.",
        "the public key as a shared secret": _hs256(claims, raw),
        "the public key's PEM as a shared secret": _hs256(claims, public),
        "no key id": _without_key_id(world),
    }
    assert {name: world.refusal(bearer(each)) for name, each in forged.items()} == dict.fromkeys(forged, "TOKEN_FORGED")


def _hs256(claims: dict[str, Any], secret: bytes) -> str:
    signed = f"{encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': KEY_ID})}.{encoded(claims)}"
    mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def _without_key_id(world: World) -> str:
    token = world.signer.token(world.signer.caller(MEMBER))
    return jwt.encode(claims_of(token), world.signer.key, algorithm="EdDSA")


def test_a_token_for_another_system_is_refused() -> None:
    world = World()
    claims = claims_of(world.signer.token(world.signer.caller(MEMBER)))
    for changed in ({**claims, "aud": "another"}, {key: value for key, value in claims.items() if key != "aud"}):
        token = jwt.encode(changed, world.signer.key, algorithm="EdDSA", headers={"kid": KEY_ID})
        assert world.refusal(bearer(token)) == "TOKEN_AUDIENCE"


@pytest.mark.parametrize("kind", ["token", "session", "account", "project"])
def test_a_revoked_token_is_refused_at_once_and_its_streams_are_told(kind: str) -> None:
    world = World()
    caller = world.signer.caller(MEMBER, project="a-project")
    token, other = world.signer.token(caller), world.signer.token(world.signer.caller(MEMBER))
    identity, kept = world.identify(token), world.identify(other)
    told: list[MulliganError] = []
    identity.listeners.add(told.append)
    ids = {
        "token": caller.token_id,
        "session": caller.session,
        "account": caller.account,
        "project": caller.project,
    }
    world.revoke(f"{kind}/{ids[kind]}", world.now + SECOND)
    assert [error.reason for error in told] == ["TOKEN_REVOKED"]
    assert world.refusal(bearer(token)) == "TOKEN_REVOKED"
    assert world.identify(other) is kept


def test_a_revocation_spares_what_was_issued_after_it() -> None:
    world = World()
    caller = world.signer.caller(MEMBER)
    token = world.signer.token(caller)
    identity = world.identify(token)
    world.revoke(f"account/{caller.account}", caller.issued_us - SECOND)
    assert world.identify(token) is identity
    world.revocations.delete(f"account/{caller.account}")
    assert world.identify(token) is identity


def test_a_removed_key_ends_its_tokens_and_a_new_one_is_taken_up() -> None:
    world = World()
    token = world.signer.token(world.signer.caller(MEMBER))
    identity = world.identify(token)
    told: list[MulliganError] = []
    identity.listeners.add(told.append)
    following = Signer("next-key")
    world.keys.put("next-key", following.jwk)
    assert world.identify(token) is identity, "a key that is added ends nothing"
    world.identify(following.token(following.caller(MEMBER)))
    world.keys.delete(KEY_ID)
    assert len(told) == 1
    assert world.refusal(bearer(token)) == "TOKEN_FORGED"


def test_a_retired_key_that_is_removed_ends_its_own_tokens_only() -> None:
    world = World()
    following = Signer("next-key")
    world.keys.put("next-key", following.jwk)
    old = world.identify(world.signer.token(world.signer.caller(MEMBER)))
    token = following.token(following.caller(MEMBER))
    current = world.identify(token)
    told: list[str] = []
    old.listeners.add(lambda _: told.append("old"))
    current.listeners.add(lambda _: told.append("current"))
    world.keys.delete(KEY_ID)
    assert told == ["old"]
    assert world.identify(token) is current
    world.revoke(f"session/{current.caller.session}", world.now + SECOND)
    assert told == ["old", "current"], "it still hears of revocations"


def test_a_key_that_is_put_again_unchanged_ends_nothing() -> None:
    world = World()
    token = world.signer.token(world.signer.caller(MEMBER))
    identity = world.identify(token)
    world.keys.put(KEY_ID, world.signer.jwk)
    assert world.identify(token) is identity


def test_a_key_that_cannot_be_read_leaves_the_others() -> None:
    world = World()
    world.keys.put("broken", b"{}")
    world.identify(world.signer.token(world.signer.caller(MEMBER)))


def test_so_many_tokens_are_remembered_and_no_more() -> None:
    world = World(most=3)
    tokens = [world.signer.token(world.signer.caller(MEMBER)) for _ in range(5)]
    first = world.identify(tokens[0])
    first.listeners.add(lambda _: None)
    second = world.identify(tokens[1])
    for token in tokens[2:]:
        world.identify(token)
    assert world.identify(tokens[0]) is first, "a stream relies on it"
    assert world.identify(tokens[1]) is not second
    assert len(world.authentication._remembered) <= 4
    assert {len(digests) for digests in world.authentication._concerned.values()} == {1}


def test_methods_that_are_open_do_not_look_at_tokens_unless_these_widen_the_answer() -> None:
    world = World()
    expired = bearer(world.signer.token(world.signer.caller(MEMBER, lifetime_s=-1)))
    assert world.authentication.identify(expired, Need.NOTHING).caller.account == ""
    assert world.authentication.identify((), Need.VALID_IF_GIVEN).caller.account == ""
    with pytest.raises(Unauthenticated):
        world.authentication.identify(expired, Need.VALID_IF_GIVEN)


def test_the_caller_is_no_more_than_the_token_says() -> None:
    world = World()
    identity = world.identify(world.signer.token(replace(world.signer.caller(MEMBER), permission="x", system=True)))
    assert isinstance(identity.caller, Caller)
    assert (identity.caller.permission, identity.caller.system) == ("", False)
