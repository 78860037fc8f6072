"""Access tokens: what verifies, and the reason for each way in which one does not."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mulligan.caller import Caller, Grant
from mulligan.clock import SECOND
from mulligan.errors import Unauthenticated
from mulligan.iam import tokens
from mulligan.ids import new_id

NOW = 1_763_800_000 * SECOND
KEY = Ed25519PrivateKey.generate()
KEYS = {"first": KEY.public_key()}
CALLER = Caller(
    account=new_id(),
    project=new_id(),
    grants=(Grant("member", False, ""), Grant("operator", True, new_id())),
    token_id=new_id(),
    session=new_id(),
    issued_us=NOW + 123_457,
    expires_us=NOW + tokens.ACCESS_LIFETIME_US,
)


def claims(**changes: Any) -> dict[str, Any]:
    good = jwt.decode(tokens.sign(CALLER, "first", KEY), options={"verify_signature": False})
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def encode(payload: dict[str, Any], key: Any = KEY, algorithm: str = "EdDSA", kid: str = "first") -> str:
    return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": kid})


def segment(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def reason(token: str, now_us: int = NOW) -> str:
    with pytest.raises(Unauthenticated) as caught:
        tokens.verify(token, KEYS, now_us)
    return caught.value.reason


def test_what_was_signed_comes_back_to_the_microsecond() -> None:
    assert tokens.verify(tokens.sign(CALLER, "first", KEY), KEYS, NOW) == CALLER


def test_expired_at_the_very_second() -> None:
    token = tokens.sign(CALLER, "first", KEY)
    assert reason(token, CALLER.expires_us) == "TOKEN_EXPIRED"
    tokens.verify(token, KEYS, CALLER.expires_us - 1)


def test_other_audience() -> None:
    assert reason(encode(claims(aud="another"))) == "TOKEN_AUDIENCE"
    assert reason(encode(claims(aud=None))) == "TOKEN_AUDIENCE"


def test_wrong_signature_and_unknown_key() -> None:
    stranger = Ed25519PrivateKey.generate()
    assert reason(tokens.sign(CALLER, "first", stranger)) == "TOKEN_FORGED"
    assert reason(tokens.sign(CALLER, "second", KEY)) == "TOKEN_FORGED"
    assert reason(jwt.encode(claims(), KEY, algorithm="EdDSA")) == "TOKEN_FORGED"
    assert reason(encode(claims(iss="another"))) == "TOKEN_FORGED"


def test_changed_claims() -> None:
    head, _, signature = tokens.sign(CALLER, "first", KEY).split(".")
    assert reason(f"{head}.{segment(claims(grants=[['admin', 1, '']]))}.{signature}") == "TOKEN_FORGED"


def test_an_expired_forgery_is_a_forgery() -> None:
    assert reason(tokens.sign(CALLER, "first", Ed25519PrivateKey.generate()), NOW * 2) == "TOKEN_FORGED"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE"])
def test_no_algorithm(algorithm: str) -> None:
    head = segment({"alg": algorithm, "typ": "JWT", "kid": "first"})
    assert reason(f"{head}.{segment(claims())}.") == "TOKEN_FORGED"


@pytest.mark.parametrize(
    "secret",
    [
        KEYS["first"].public_bytes(Encoding.Raw, PublicFormat.Raw),
        json.dumps(tokens.public_jwk("first", KEYS["first"])).encode(),
    ],
)
def test_public_key_as_a_shared_secret(secret: bytes) -> None:
    signed = f"{segment({'alg': 'HS256', 'typ': 'JWT', 'kid': 'first'})}.{segment(claims())}"
    digest = hmac.new(secret, signed.encode(), "sha256").digest()
    assert reason(f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}") == "TOKEN_FORGED"


def test_other_asymmetric_algorithm() -> None:
    assert reason(encode(claims(), ec.generate_private_key(ec.SECP256R1()), "ES256")) == "TOKEN_FORGED"


def test_a_key_that_the_token_brings_along_is_not_used() -> None:
    stranger = Ed25519PrivateKey.generate()
    headers = {"kid": "stranger", "jwk": tokens.public_jwk("stranger", stranger.public_key())}
    assert reason(jwt.encode(claims(), stranger, algorithm="EdDSA", headers=headers)) == "TOKEN_FORGED"


@pytest.mark.parametrize(
    "token",
    ["", "x", "a.b", "a.b.c", "..", "é.é.é", "\x00", "a" * 40_000, "W10.W10.W10", "eyJhbGciOiJFZERTQSJ9"],
)
def test_not_a_token(token: str) -> None:
    assert reason(token) == "TOKEN_MALFORMED"


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"prj": 7},
        {"grants": "admin"},
        {"grants": [["admin", 1]]},
        {"grants": None},
        {"exp": "soon"},
        {"exp": 1e400},
        {"jti": None},
        {"iat": {}},
    ],
)
def test_signed_but_not_the_claims_of_a_token(changes: dict[str, Any]) -> None:
    assert reason(encode({**claims(), **changes} if "exp" in changes else claims(**changes))) == "TOKEN_MALFORMED"


@pytest.mark.parametrize("kind", ["account", "project", "session", "token"])
def test_revocations_kill_what_was_issued_up_to_then(kind: str) -> None:
    identities = {
        "account": CALLER.account,
        "project": CALLER.project,
        "session": CALLER.session,
        "token": CALLER.token_id,
    }
    entry = json.dumps({"before_us": CALLER.issued_us}).encode()
    revocations = {f"{kind}/{identities[kind]}": entry}
    assert tokens.revoked(CALLER, revocations)
    assert not tokens.revoked(replace(CALLER, issued_us=CALLER.issued_us + 1), revocations)
    assert not tokens.revoked(CALLER, {f"{kind}/{new_id()}": entry})
    with pytest.raises(Unauthenticated) as caught:
        tokens.require_not_revoked(CALLER, revocations)
    assert caught.value.reason == "TOKEN_REVOKED"


def test_a_revocation_that_cannot_be_read_kills() -> None:
    assert tokens.revoked(CALLER, {f"account/{CALLER.account}": b"?"})


def test_public_keys_travel_as_jwk() -> None:
    jwk = json.dumps(tokens.public_jwk("first", KEYS["first"])).encode()
    assert tokens.public_key_from_jwk(jwk) == KEYS["first"]
    assert b'"d"' not in jwk
    for wrong in (b"", b"[]", b"{}", b'{"kty":"oct","k":"AA"}', b'{"kty":"OKP","crv":"X25519","x":"AAAA"}'):
        with pytest.raises(ValueError, match=r"."):
            tokens.public_key_from_jwk(wrong)
