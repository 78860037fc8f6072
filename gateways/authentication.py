"""Who calls: verified access tokens, remembered by digest until they expire, are revoked or lose their key."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Final, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mulligan.caller import ANONYMOUS, Caller
from mulligan.clock import Clock
from mulligan.errors import MulliganError, Unauthenticated
from mulligan.iam import tokens

log = logging.getLogger(__name__)

# Tokens that one gateway remembers; a verification costs 0.15 ms, so forgetting one does no harm.
MAX_REMEMBERED: Final = 10_000


class Watched(Protocol):
    """Keys and values that change by themselves: a `mulligan.stores.etcd.WatchedPrefix`."""

    @property
    def items(self) -> Mapping[str, bytes]:
        """What there is now."""
        ...

    @property
    def revision(self) -> int:
        """Grows with each change."""
        ...

    @property
    def on_change(self) -> list[Callable[[str, bytes | None], None]]:
        """Called with the key and the new value, None for one that is gone."""
        ...


# Of a call: keys and values.
Metadata = Iterable[tuple[str, str | bytes]]


class Need(Enum):
    """What a method asks of the token."""

    # It is not looked at.
    NOTHING = 0
    # It may be missing, but not wrong.
    VALID_IF_GIVEN = 1
    VALID = 2


class Identity:
    """One verified token, with what was worked out for it so far."""

    __slots__ = ("caller", "ended", "key_id", "listeners", "passages", "passages_tree")

    def __init__(self, caller: Caller, key_id: str = "") -> None:
        self.caller = caller
        # What the token was signed with.
        self.key_id = key_id
        # Why it counts no more.
        self.ended: MulliganError | None = None
        # Told when it counts no more before it expires: the streams that were opened with it.
        self.listeners: set[Callable[[MulliganError], None]] = set()
        # Kept by gateways.routing: decisions by method and region, true for one tree of regions.
        self.passages: dict[tuple[str, str], Any] = {}
        self.passages_tree: object = None

    def end(self, error: MulliganError) -> None:
        """Tells everyone who relies on it."""
        self.ended = error
        for listener in list(self.listeners):
            listener(error)


class Authentication:
    """Turns the metadata of a call into an identity."""

    def __init__(self, keys: Watched, revocations: Watched, clock: Clock, most: int = MAX_REMEMBERED) -> None:
        """`keys` are JWKs by key id, `revocations` as `mulligan.iam.tokens.revoked` reads them."""
        self._revocations = revocations
        self._clock = clock
        self._most = most
        self._anonymous = Identity(ANONYMOUS)
        self._remembered: dict[bytes, Identity] = {}
        # Which remembered tokens a revocation, a key of `revocations`, would concern.
        self._concerned: dict[str, set[bytes]] = {}
        self._keys: dict[str, Ed25519PublicKey] = {}
        for key_id, value in keys.items.items():
            self._key_changed(key_id, value)
        keys.on_change.append(self._key_changed)
        revocations.on_change.append(self._revocation_changed)

    def now_us(self) -> int:
        """The time by which tokens are judged."""
        return self._clock()

    def identify(self, metadata: Metadata, need: Need) -> Identity:
        """The identity that the call's token stands for; raises Unauthenticated with the specific reason."""
        if need is Need.NOTHING:
            return self._anonymous
        token = _bearer_token(metadata)
        if token is None:
            if need is Need.VALID_IF_GIVEN:
                return self._anonymous
            raise Unauthenticated(
                "this call needs an access token in its authorization metadata; log in to get one",
                reason="TOKEN_MISSING",
            )
        digest = hashlib.sha256(token.encode()).digest()
        identity = self._remembered.get(digest)
        if identity is not None and identity.caller.expires_us > self._clock():
            return identity
        return self._verify(token, digest)

    def require_current(self, identity: Identity) -> None:
        """Raises Unauthenticated when the token that was accepted some time ago would not be accepted now.

        An identity that was forgotten meanwhile heard of nothing, so keys and revocations are looked at again.
        """
        if identity.ended is not None:
            raise identity.ended
        caller = identity.caller
        if not caller.account:
            return
        if caller.expires_us <= self._clock():
            raise Unauthenticated(
                "the access token expired while the request came in; send it again with a new one",
                reason="TOKEN_EXPIRED",
            )
        if identity.key_id not in self._keys:
            raise _keyless()
        tokens.require_not_revoked(caller, self._revocations.items)

    def _verify(self, token: str, digest: bytes) -> Identity:
        self._forget(digest)
        caller = tokens.verify(token, self._keys, self._clock())
        tokens.require_not_revoked(caller, self._revocations.items)
        if len(self._remembered) >= self._most:
            self._make_room()
        identity = self._remembered[digest] = Identity(caller, jwt.get_unverified_header(token)["kid"])
        for key in tokens.revocation_keys(caller):
            self._concerned.setdefault(key, set()).add(digest)
        return identity

    def _make_room(self) -> None:
        """Forgets the oldest that no open stream relies on: a stream has to hear of a revocation."""
        idle = next((digest for digest, each in self._remembered.items() if not each.listeners), None)
        if idle is not None:
            self._forget(idle)

    def _forget(self, digest: bytes) -> None:
        identity = self._remembered.pop(digest, None)
        if identity is None:
            return
        for key in tokens.revocation_keys(identity.caller):
            digests = self._concerned.get(key, set())
            digests.discard(digest)
            if not digests:
                self._concerned.pop(key, None)

    def _key_changed(self, key_id: str, value: bytes | None) -> None:
        gone = self._keys.pop(key_id, None)
        if value is not None:
            try:
                self._keys[key_id] = tokens.public_key_from_jwk(value)
            except ValueError as error:
                log.error("key=%s cannot be used to verify tokens: %s", key_id, error)
        if gone is not None and self._keys.get(key_id) != gone:
            self._end_signed_by(key_id)

    def _end_signed_by(self, key_id: str) -> None:
        signed = [(digest, each) for digest, each in self._remembered.items() if each.key_id == key_id]
        for digest, identity in signed:
            self._forget(digest)
            identity.end(_keyless())

    def _revocation_changed(self, key: str, value: bytes | None) -> None:
        if value is None:
            return
        for digest in list(self._concerned.get(key, ())):
            identity = self._remembered[digest]
            try:
                tokens.require_not_revoked(identity.caller, self._revocations.items)
            except Unauthenticated as error:
                self._forget(digest)
                identity.end(error)


def _bearer_token(metadata: Metadata) -> str | None:
    found: str | None = None
    for key, value in metadata:
        if key == "authorization":
            if found is not None or not isinstance(value, str):
                raise _malformed()
            found = value
    if found is None:
        return None
    scheme, _, token = found.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise _malformed()
    return token


def _keyless() -> Unauthenticated:
    return Unauthenticated("the key that signed the access token is gone; log in again", reason="TOKEN_FORGED")


def _malformed() -> Unauthenticated:
    return Unauthenticated(
        'authorization must be "Bearer " and an access token, once; log in to get one', reason="TOKEN_MALFORMED"
    )
