"""Sessions: lines of refresh tokens, one for each login. Each refresh token works once and yields the next.

A refresh token is "mlr_" and, in base64url, the session's id, its turn in the line, and an HMAC-SHA256 over both with a
key that only this session has. So a token that was used before is told from one that never was: the first ends the
line, because two hold it; the second is a forgery and ends nothing.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mulligan.api.iam.v1.iam_pb2 import Tokens
from mulligan.caller import Caller, Grant
from mulligan.clock import SECOND, Clock, to_timestamp
from mulligan.iam import tokens
from mulligan.iam.errors import refresh_refused
from mulligan.iam.model import Account
from mulligan.iam.outbox import latest_revocation
from mulligan.iam.tables import sessions
from mulligan.ids import new_id
from mulligan.secretbox import SecretBox

# From the login on; refreshing does not make it longer.
SESSION_LIFETIME_US: Final = 12 * 3600 * SECOND

# A used or expired token is told from a forgery for this long after its line has ended by itself.
REMEMBER_US: Final = 86_400 * SECOND

PREFIX: Final = "mlr_"
_TURN_BYTES: Final = 4
_CODE_BYTES: Final = 32
_TOKEN_BYTES: Final = 16 + _TURN_BYTES + _CODE_BYTES


@dataclass(frozen=True, slots=True)
class Session:
    """One line; `turn` is the number of the refresh token that works."""

    id: str
    account: str
    project: str
    turn: int
    key: bytes
    expire_us: int


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """What a refresh token says of itself; true only when its code was checked."""

    session: str
    turn: int
    code: bytes

    @classmethod
    def parse(cls, text: str) -> RefreshToken:
        """Raises Unauthenticated (TOKEN_MALFORMED) for anything that is none."""
        try:
            raw = base64.b64decode(text.removeprefix(PREFIX).encode("ascii"), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            raw = b""
        if not text.startswith(PREFIX) or len(raw) != _TOKEN_BYTES:
            raise refresh_refused("TOKEN_MALFORMED")
        turn = int.from_bytes(raw[16 : 16 + _TURN_BYTES], "big")
        return cls(str(UUID(bytes=raw[:16])), turn, raw[16 + _TURN_BYTES :])

    @classmethod
    def of(cls, session: str, turn: int, key: bytes) -> RefreshToken:
        """The genuine one."""
        return cls(session, turn, hmac.digest(key, _signed_part(session, turn), "sha256"))

    def __str__(self) -> str:
        raw = _signed_part(self.session, self.turn) + self.code
        return PREFIX + base64.urlsafe_b64encode(raw).decode()


def _signed_part(session: str, turn: int) -> bytes:
    return UUID(session).bytes + turn.to_bytes(_TURN_BYTES, "big")


class Sessions:
    """Begins, continues and ends sessions; everything inside the caller's transaction."""

    def __init__(self, box: SecretBox, clock: Clock) -> None:
        self._box = box
        self._clock = clock

    async def begin(
        self,
        connection: AsyncConnection,
        account: Account,
        project: str,
        grants: tuple[Grant, ...],
        signing: tuple[str, Ed25519PrivateKey],
    ) -> Tokens:
        """The first tokens of a new session. The account's row has to be held."""
        end_us = self._clock() + SESSION_LIFETIME_US
        expire_us = min(end_us, account.expire_us) if account.expire_us is not None else end_us
        session = Session(new_id(), account.id, project, 1, secrets.token_bytes(32), expire_us)
        caller = await self._caller(connection, session, grants)
        values = {
            "id": session.id,
            "account": account.id,
            "project": project or None,
            "turn": session.turn,
            "sealed_key": self._box.seal(session.key, _context(session.id)),
            "issue_us": caller.issued_us,
            "expire_us": expire_us,
        }
        await connection.execute(insert(sessions).values(values))
        return _tokens(session, caller, signing)

    async def next(
        self,
        connection: AsyncConnection,
        session: Session,
        grants: tuple[Grant, ...],
        signing: tuple[str, Ed25519PrivateKey],
    ) -> Tokens:
        """The next tokens of a session that `find` gave in this transaction."""
        following = Session(
            session.id, session.account, session.project, session.turn + 1, session.key, session.expire_us
        )
        caller = await self._caller(connection, following, grants)
        query = update(sessions).where(sessions.c.id == session.id)
        await connection.execute(query.values(turn=following.turn, issue_us=caller.issued_us))
        return _tokens(following, caller, signing)

    async def find(self, connection: AsyncConnection, token: RefreshToken) -> Session:
        """The session that a genuine refresh token belongs to, held until the transaction ends.

        Raises Unauthenticated (TOKEN_FORGED) when its code is wrong, (TOKEN_REVOKED) when the session is gone.
        """
        query = select(sessions).where(sessions.c.id == token.session).with_for_update()
        row = (await connection.execute(query)).first()
        if row is None:
            raise refresh_refused("TOKEN_REVOKED")
        session = Session(
            row.id,
            row.account,
            row.project or "",
            row.turn,
            self._box.open(row.sealed_key, _context(row.id)),
            row.expire_us,
        )
        genuine = RefreshToken.of(token.session, token.turn, session.key)
        if not hmac.compare_digest(genuine.code, token.code):
            raise refresh_refused("TOKEN_FORGED")
        return session

    async def account_of(self, connection: AsyncConnection, token: RefreshToken) -> str | None:
        """The account that the token's session is of, to be held before the session is."""
        query = select(sessions.c.account).where(sessions.c.id == token.session)
        return (await connection.execute(query)).scalar()

    async def end(self, connection: AsyncConnection, session: str) -> int:
        """Ends one session; returns when its latest access token was issued."""
        return await self._end(connection, sessions.c.id == session)

    async def end_of_account(self, connection: AsyncConnection, account: str) -> int:
        """Ends all sessions of an account; returns when the latest access token was issued."""
        return await self._end(connection, sessions.c.account == account)

    async def end_in_project(self, connection: AsyncConnection, project: str) -> int:
        """Ends all sessions that act in a project; returns when the latest access token was issued."""
        return await self._end(connection, sessions.c.project == project)

    async def latest_of(self, connection: AsyncConnection, account: str) -> int:
        """When the latest access token of an account was issued; 0 if none may be valid."""
        query = select(func.max(sessions.c.issue_us)).where(sessions.c.account == account)
        return (await connection.execute(query)).scalar() or 0

    async def _end(self, connection: AsyncConnection, condition: ColumnElement[bool]) -> int:
        ended = await connection.execute(delete(sessions).where(condition).returning(sessions.c.issue_us))
        return max(ended.scalars(), default=0)

    async def purge(self, connection: AsyncConnection) -> None:
        """Drops sessions that ended by themselves long ago."""
        await connection.execute(delete(sessions).where(sessions.c.expire_us + REMEMBER_US <= self._clock()))

    async def _caller(self, connection: AsyncConnection, session: Session, grants: tuple[Grant, ...]) -> Caller:
        # Later than any revocation of what came before, even one by a host whose clock is ahead.
        revoked_us = await latest_revocation(connection, session.account, session.project)
        issued_us = max(self._clock(), revoked_us + 1)
        return Caller(
            account=session.account,
            project=session.project,
            grants=grants,
            token_id=new_id(),
            session=session.id,
            issued_us=issued_us,
            expires_us=min(self._clock() + tokens.ACCESS_LIFETIME_US, session.expire_us),
        )


def _tokens(session: Session, caller: Caller, signing: tuple[str, Ed25519PrivateKey]) -> Tokens:
    return Tokens(
        access_token=tokens.sign(caller, *signing),
        access_expire_time=to_timestamp(caller.expires_us // SECOND * SECOND),
        refresh_token=str(RefreshToken.of(session.id, session.turn, session.key)),
        refresh_expire_time=to_timestamp(session.expire_us),
        account=session.account,
        project=session.project,
    )


def _context(session: str) -> str:
    return f"iam.sessions/{session}"
