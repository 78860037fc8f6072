"""Access tokens: JWTs signed with EdDSA (Ed25519), made by the IAM service and verified by every gateway.

Claims: iss and aud "mulligan"; sub the account; prj the project ("" is the system); jti; sid, the session whose
refresh made it; grants as [role, system 0 or 1, region]; iat and exp in seconds, iat with a fraction because a
revocation kills what was issued up to an instant.

Pure: keys, revocations and the time are handed in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm
from jwt.exceptions import (
    InvalidAlgorithmError,
    InvalidAudienceError,
    InvalidIssuerError,
    InvalidSignatureError,
    MissingRequiredClaimError,
    PyJWTError,
)

from mulligan.caller import Caller, Grant
from mulligan.clock import SECOND
from mulligan.errors import Unauthenticated

ISSUER: Final = "mulligan"
AUDIENCE: Final = "mulligan"
ALGORITHM: Final = "EdDSA"

ACCESS_LIFETIME_US: Final = 600 * SECOND

# Room for some hundred grants; more than this is not a token of ours.
MAX_TOKEN_CHARACTERS: Final = 32_768

_OPTIONS: Final[Any] = {
    "require": ["iss", "aud", "sub", "prj", "jti", "sid", "grants", "iat", "exp"],
    # Times are judged below, by the clock that was handed in.
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_sub": False,
    "verify_jti": False,
}


def sign(caller: Caller, key_id: str, key: Ed25519PrivateKey) -> str:
    """The access token that says what `caller` holds; `issued_us`, `expires_us`, `token_id`, `session` are set."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": caller.account,
        "prj": caller.project,
        "jti": caller.token_id,
        "sid": caller.session,
        "grants": [[grant.role, int(grant.system), grant.region] for grant in caller.grants],
        "iat": caller.issued_us / SECOND,
        "exp": caller.expires_us // SECOND,
    }
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": key_id})


def verify(token: str, keys: Mapping[str, Ed25519PublicKey], now_us: int) -> Caller:
    """The caller that a token speaks for; raises Unauthenticated with the reason that it is not accepted for.

    TOKEN_MALFORMED: not a JWT of ours at all. TOKEN_FORGED: another algorithm, an unknown key or a wrong signature.
    TOKEN_AUDIENCE: made for another system. TOKEN_EXPIRED. Revocations are judged apart, by `revoked`.
    """
    claims = _verified_claims(token, keys)
    try:
        caller = _caller(claims)
    except (TypeError, ValueError, OverflowError):
        raise _malformed() from None
    if caller.expires_us <= now_us:
        raise Unauthenticated("the access token has expired; refresh it or log in again", reason="TOKEN_EXPIRED")
    return caller


def _verified_claims(token: str, keys: Mapping[str, Ed25519PublicKey]) -> dict[str, Any]:
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise _malformed()
    try:
        header = jwt.get_unverified_header(token)
        # The algorithm is ours to choose, never the token's.
        key = keys.get(str(header.get("kid"))) if header.get("alg") == ALGORITHM else None
        if key is None:
            raise _forged()
        return jwt.decode(token, key, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER, options=_OPTIONS)
    except (InvalidSignatureError, InvalidAlgorithmError, InvalidIssuerError):
        raise _forged() from None
    except InvalidAudienceError:
        raise _audience() from None
    except MissingRequiredClaimError as error:
        raise (_audience() if error.claim == "aud" else _malformed()) from None
    except (PyJWTError, ValueError, RecursionError):
        raise _malformed() from None


def _caller(claims: Mapping[str, Any]) -> Caller:
    texts = [claims[name] for name in ("sub", "prj", "jti", "sid")]
    if not all(isinstance(text, str) for text in texts) or not texts[0]:
        raise TypeError("sub, prj, jti and sid are strings")
    grants = tuple(Grant(str(role), bool(system), str(region)) for role, system, region in claims["grants"])
    return Caller(
        account=texts[0],
        project=texts[1],
        grants=grants,
        token_id=texts[2],
        session=texts[3],
        issued_us=round(float(claims["iat"]) * SECOND),
        expires_us=int(claims["exp"]) * SECOND,
    )


def _malformed() -> Unauthenticated:
    return Unauthenticated("this is not a valid access token; log in to get one", reason="TOKEN_MALFORMED")


def _forged() -> Unauthenticated:
    return Unauthenticated(
        "the access token was not signed by a key of this system; log in to get another", reason="TOKEN_FORGED"
    )


def _audience() -> Unauthenticated:
    return Unauthenticated("the access token was made for another system; log in to this one", reason="TOKEN_AUDIENCE")


def revocation_keys(caller: Caller) -> tuple[str, ...]:
    """Keys below /mulligan/iam/revoked/ whose entry would kill this caller's token."""
    own = (f"account/{caller.account}", f"session/{caller.session}", f"token/{caller.token_id}")
    return (*own, f"project/{caller.project}") if caller.project else own


def revoked(caller: Caller, revocations: Mapping[str, bytes]) -> bool:
    """Whether one of the revocations, `<kind>/<id>` to JSON {"before_us": …}, kills this caller's token.

    An entry that cannot be read kills: it was put there to do so.
    """
    for key in revocation_keys(caller):
        value = revocations.get(key)
        if value is not None and caller.issued_us <= _before_us(value):
            return True
    return False


def _before_us(value: bytes) -> int:
    try:
        return int(json.loads(value)["before_us"])
    except (ValueError, TypeError, KeyError):
        return 1 << 62


def require_not_revoked(caller: Caller, revocations: Mapping[str, bytes]) -> None:
    """Raises Unauthenticated (TOKEN_REVOKED) for a caller whose token was revoked."""
    if revoked(caller, revocations):
        raise Unauthenticated("the access token was revoked; log in again", reason="TOKEN_REVOKED")


def public_jwk(key_id: str, key: Ed25519PublicKey) -> dict[str, str]:
    """The public key as a JSON Web Key (RFC 8037)."""
    jwk: dict[str, str] = OKPAlgorithm.to_jwk(key, as_dict=True)
    return {"kty": jwk["kty"], "crv": jwk["crv"], "x": jwk["x"], "kid": key_id, "alg": ALGORITHM, "use": "sig"}


def public_key_from_jwk(value: bytes | str) -> Ed25519PublicKey:
    """The key of a JSON Web Key as the IAM service publishes it; raises ValueError for anything else."""
    try:
        key = OKPAlgorithm.from_jwk(json.loads(value))
    except (PyJWTError, TypeError, KeyError) as error:
        raise ValueError(f"not an Ed25519 public key: {error}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("not an Ed25519 public key")
    return key
