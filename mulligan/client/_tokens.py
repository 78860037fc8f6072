"""Access tokens: got by logging in, renewed before they expire, by one task however many calls wait."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

from mulligan.api.iam.v1.iam_client import IamClient
from mulligan.api.iam.v1.iam_pb2 import Tokens
from mulligan.client._config import Credentials, Timeouts
from mulligan.client._time import Time
from mulligan.client._transport import Metadata
from mulligan.clock import SECOND, from_timestamp
from mulligan.errors import MulliganError, Unauthenticated

# A token is renewed when a fifth of its life, but at most a minute, is left.
_MARGIN = 0.2
_LONGEST_MARGIN_US = 60 * SECOND

# After a failed renewal in the background, and after a refused login, the service is left alone for so long.
_PAUSE_US = 5 * SECOND
_REFUSAL_US = 30 * SECOND


@dataclass(frozen=True, slots=True)
class SavedTokens:
    """Tokens as a cache keeps them; times are microseconds on this host's clock."""

    access_token: str = field(repr=False)
    issued_us: int
    expires_us: int
    refresh_token: str = field(repr=False)
    refresh_expires_us: int
    account: str
    project: str


class TokenCache(Protocol):
    """Keeps tokens from one run of a program to the next."""

    def load(self) -> SavedTokens | None:
        """What was saved last."""
        ...

    def save(self, tokens: SavedTokens | None) -> None:
        """Keeps tokens, or forgets them."""
        ...

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Held while tokens are renewed: a refresh token works once, so two processes must not use it both."""
        ...


CredentialSource = Credentials | Callable[[], Credentials]


class TokenSource:
    """The tokens of one client."""

    def __init__(
        self,
        iam: IamClient,
        time: Time,
        timeouts: Timeouts,
        credentials: CredentialSource | None = None,
        cache: TokenCache | None = None,
    ) -> None:
        self._iam = iam
        self._time = time
        self._timeouts = timeouts
        self._credentials = credentials
        self._cache = cache
        self._hold(cache.load() if cache else None)
        self._renewal: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._failed_us = 0
        self.on_new_tokens: Callable[[], Awaitable[None]] | None = None

    @property
    def tokens(self) -> SavedTokens | None:
        """What it holds now."""
        return self._tokens

    @property
    def is_anonymous(self) -> bool:
        """Whether it neither has tokens nor a way to get some."""
        return self._tokens is None and self._credentials is None

    def current(self) -> Metadata | None:
        """The metadata of a call, when the token is good; a token near its end is renewed in the background."""
        now = self._time.now_us()
        if now < self._renew_at_us:
            return self._metadata
        if self._tokens is None or now >= self._tokens.expires_us:
            return None
        if self._renewal is None and (self._failure is None or now >= self._failed_us + _PAUSE_US):
            self._begin_renewal()
        return self._metadata

    async def get(self) -> Metadata:
        """The metadata of a call, after logging in or refreshing where needed. Raises Unauthenticated."""
        metadata = self.current()
        if metadata is not None:
            return metadata
        if isinstance(self._failure, Unauthenticated) and self._time.now_us() < self._failed_us + _REFUSAL_US:
            raise self._failure
        if self.is_anonymous:
            return ()
        await asyncio.shield(self._renewal or self._begin_renewal())
        return self._metadata

    def reject(self, metadata: Metadata) -> None:
        """A gateway refused this token: it is not used again, though its refresh token may be."""
        if self._tokens and metadata == self._metadata:
            self._hold(replace(self._tokens, issued_us=0, expires_us=0))

    @property
    def can_renew(self) -> bool:
        """Whether a new token may be had without asking a person."""
        return self._credentials is not None or bool(self._tokens and self._tokens.refresh_token)

    async def login(self, credentials: Credentials) -> None:
        """Logs in, from now on with these credentials. Raises Unauthenticated when they are refused."""
        self._credentials = credentials
        async with self._lock():
            await self._log_in(credentials)

    async def logout(self) -> None:
        """Revokes the tokens and forgets them and the credentials."""
        tokens = self._tokens
        if tokens:
            await self._iam.revoke(token=tokens.refresh_token or tokens.access_token, timeout_s=self._timeouts.login_s)
        self._credentials = None
        self._keep(None)

    async def close(self) -> None:
        """Lets a renewal under way finish: a refresh token that was used and not replaced is lost."""
        if self._renewal:
            await asyncio.wait([self._renewal], timeout=self._timeouts.login_s)

    def _begin_renewal(self) -> asyncio.Task[None]:
        self._renewal = asyncio.create_task(self._renew(), name="mulligan-token")
        self._renewal.add_done_callback(self._renewed)
        return self._renewal

    def _renewed(self, task: asyncio.Task[None]) -> None:
        self._renewal = None
        self._failure = None if task.cancelled() else task.exception()
        self._failed_us = self._time.now_us()

    async def _renew(self) -> None:
        async with self._lock():
            if not self._adopt_saved() and not await self._refresh():
                await self._log_in(self._credentials)
        if self.on_new_tokens:
            await self.on_new_tokens()

    def _lock(self) -> AbstractAsyncContextManager[None]:
        return self._cache.lock() if self._cache else nullcontext()

    def _adopt_saved(self) -> bool:
        """Takes over what another process has renewed in the meantime."""
        saved = self._cache.load() if self._cache else None
        if not saved or self._time.now_us() >= saved.expires_us - _margin_us(saved):
            return False
        if self._tokens and saved.access_token == self._tokens.access_token:
            return False
        self._hold(saved)
        return True

    async def _refresh(self) -> bool:
        tokens = self._tokens
        if not tokens or not tokens.refresh_token or self._time.now_us() >= tokens.refresh_expires_us:
            return False
        try:
            response = await self._iam.refresh(refresh_token=tokens.refresh_token, timeout_s=self._timeouts.login_s)
        except Unauthenticated:
            return False
        except MulliganError:
            if self._credentials is None:
                raise
            return False
        self._keep(self._received(response.tokens))
        return True

    async def _log_in(self, source: CredentialSource | None) -> None:
        credentials = source() if callable(source) else source
        if credentials is None:
            self._keep(None)
            raise Unauthenticated("the session is over; log in again with `mulligan login`", reason="TOKEN_EXPIRED")
        response = await self._iam.login(
            account=credentials.account,
            secret=credentials.secret,
            project=credentials.project,
            timeout_s=self._timeouts.login_s,
        )
        self._keep(self._received(response.tokens))

    def _keep(self, tokens: SavedTokens | None) -> None:
        self._hold(tokens)
        self._failure = None
        if self._cache:
            self._cache.save(tokens)

    def _hold(self, tokens: SavedTokens | None) -> None:
        self._tokens = tokens
        self._metadata: Metadata = (("authorization", f"Bearer {tokens.access_token}"),) if tokens else ()
        self._renew_at_us = tokens.expires_us - _margin_us(tokens) if tokens else 0

    def _received(self, tokens: Tokens) -> SavedTokens:
        now = self._time.now_us()
        issued, expires = _lifetime(tokens, now)
        refresh_life = from_timestamp(tokens.refresh_expire_time, "refresh_expire_time") - issued
        return SavedTokens(
            access_token=tokens.access_token,
            issued_us=now,
            expires_us=now + expires - issued,
            refresh_token=tokens.refresh_token,
            refresh_expires_us=now + refresh_life,
            account=tokens.account,
            project=tokens.project,
        )


def _lifetime(tokens: Tokens, now_us: int) -> tuple[int, int]:
    """When the token was issued and when it expires, both on the service's clock: this host's may be wrong."""
    expires = from_timestamp(tokens.access_expire_time, "access_expire_time")
    try:
        payload = tokens.access_token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return int(claims["iat"] * SECOND), expires
    except (IndexError, ValueError, KeyError, TypeError):
        return now_us, expires  # not a JWT, so nothing is known of the service's clock


def _margin_us(tokens: SavedTokens) -> int:
    return min(_LONGEST_MARGIN_US, int((tokens.expires_us - tokens.issued_us) * _MARGIN))
