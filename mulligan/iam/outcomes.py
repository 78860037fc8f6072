"""The first outcome of each mutating request, which its repetition gets again.

Outcome and digest of the request are sealed: the request may hold a password and the response a secret. They are kept
for a day, so a secret that is otherwise stored only as a hash can be read back by the same request for that long.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from google.protobuf.message import Message
from sqlalchemy import and_, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mulligan.caller import Caller
from mulligan.clock import SECOND, Clock
from mulligan.iam.database import Database
from mulligan.iam.errors import request_id_reused
from mulligan.iam.tables import requests
from mulligan.requests import request_digest, require_request_id
from mulligan.secretbox import SecretBox
from mulligan.stores.postgres import translate_errors

R = TypeVar("R", bound=Message)

KEEP_US: Final = 86_400 * SECOND
SYSTEM: Final = "00000000-0000-0000-0000-000000000000"
_DIGEST_BYTES: Final = 32

# Does what the request asks for, inside its transaction.
Act = Callable[[AsyncConnection], Awaitable[R]]


class MutatingRequest(Protocol):
    """A request message with a request_id."""

    request_id: str


@dataclass(frozen=True, slots=True)
class _Key:
    account: str
    project: str
    request_id: str

    def condition(self) -> Any:
        return and_(
            requests.c.account == self.account,
            requests.c.project == self.project,
            requests.c.request_id == self.request_id,
        )

    @property
    def context(self) -> str:
        return f"iam.requests/{self.account}/{self.project}/{self.request_id}"


class Outcomes:
    """Runs each mutating request once."""

    def __init__(self, database: Database, box: SecretBox, clock: Clock) -> None:
        self._database = database
        self._box = box
        self._clock = clock

    async def once(
        self,
        caller: Caller,
        request: Any,
        kind: type[R],
        act: Act[R],
        around: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    ) -> tuple[R, bool]:
        """The response, and whether it is that of an earlier request with this request_id.

        `around` is entered before `act` and left after the commit. Raises Aborted (REQUEST_ID_REUSED) when the earlier
        request was another one. Two at the same time: the second waits for the first.
        """
        key = _Key(caller.account, caller.project or SYSTEM, require_request_id(request.request_id))
        async with self._database.write() as connection:
            if not await self._claim(connection, key):
                return await self._stored(connection, key, request, kind), True
            if around is None:
                return await self._act(connection, key, request, act), False
            async with around():
                # Inside it a lost connection has to be told from a refusal: the commit may have been made.
                with translate_errors():
                    response = await self._act(connection, key, request, act)
                    await connection.commit()
            return response, False

    async def purge(self, connection: AsyncConnection) -> None:
        """Drops outcomes that nobody will ask for again."""
        await connection.execute(delete(requests).where(requests.c.create_us + KEEP_US <= self._clock()))

    async def _claim(self, connection: AsyncConnection, key: _Key) -> bool:
        values = {
            "account": key.account,
            "project": key.project,
            "request_id": key.request_id,
            "create_us": self._clock(),
        }
        query = insert(requests).values(values).on_conflict_do_nothing().returning(requests.c.request_id)
        return (await connection.execute(query)).first() is not None

    async def _act(self, connection: AsyncConnection, key: _Key, request: Message, act: Act[R]) -> R:
        response = await act(connection)
        plain = request_digest(request) + response.SerializeToString()
        query = update(requests).where(key.condition())
        await connection.execute(query.values(sealed_outcome=self._box.seal(plain, key.context)))
        return response

    async def _stored(self, connection: AsyncConnection, key: _Key, request: Message, kind: type[R]) -> R:
        sealed = (await connection.execute(select(requests.c.sealed_outcome).where(key.condition()))).scalar_one()
        plain = self._box.open(sealed, key.context)
        if not hmac.compare_digest(plain[:_DIGEST_BYTES], request_digest(request)):
            raise request_id_reused()
        return kind.FromString(plain[_DIGEST_BYTES:])
