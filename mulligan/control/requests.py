"""The first answer to every mutating request, so that a repeated one gets the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg
from google.protobuf.message import Message

from mulligan.caller import Caller
from mulligan.control.store import Database
from mulligan.errors import Aborted, MulliganError
from mulligan.requests import request_digest, require_request_id
from mulligan.secretbox import SecretBox

# A request may be repeated for this long.
KEPT_S = 7 * 86_400


class RequestLog:
    """Requests by account, project and id. Digests are sealed: from a bare one a password could be guessed."""

    def __init__(self, box: SecretBox) -> None:
        self._box = box

    async def once(
        self,
        database: Database,
        caller: Caller,
        request_id: str,
        request: Message,
        act: Callable[[], Awaitable[Message]],
    ) -> bytes:
        """The answer that the request got before, or that of `act`, which saves it where it saves what it does.

        Raises what `act` raises, but Aborted for an asyncpg.UniqueViolationError.
        """

        async def answered() -> bytes | None:
            async with database.reading() as connection:
                return await self.find(connection, caller, request_id, request)

        before = await answered()
        if before is not None:
            return before
        try:
            return (await act()).SerializeToString()
        except (asyncpg.UniqueViolationError, MulliganError) as refusal:
            # What was refused may be the repetition of a request that was served meanwhile.
            before = await answered()
            if before is not None:
                return before
            if isinstance(refusal, MulliganError):
                raise
            raise Aborted(
                "another request makes the same thing now; send this one again in a moment", retry_after_s=1
            ) from None

    async def find(
        self, connection: asyncpg.Connection, caller: Caller, request_id: str, request: Message
    ) -> bytes | None:
        """The response that the request got before; None when it is new.

        Raises Aborted (REQUEST_ID_REUSED) when the id belongs to another request.
        """
        canonical = require_request_id(request_id)
        row = await connection.fetchrow(
            "SELECT digest, response FROM control.requests WHERE account = $1 AND project = $2 AND request_id = $3",
            caller.account,
            caller.project,
            canonical,
        )
        if row is None:
            return None
        if self._box.open(row["digest"], canonical) != request_digest(request):
            raise Aborted(
                f"request_id {canonical} was used for another request; take a new one", reason="REQUEST_ID_REUSED"
            )
        return bytes(row["response"])

    async def save(
        self,
        connection: asyncpg.Connection,
        caller: Caller,
        request_id: str,
        request: Message,
        response: Message,
        now_us: int,
    ) -> None:
        """Keeps the response; raises asyncpg.UniqueViolationError when the same request came in meanwhile."""
        canonical = require_request_id(request_id)
        await connection.execute(
            "INSERT INTO control.requests (account, project, request_id, digest, response, create_us)"
            " VALUES ($1, $2, $3, $4, $5, $6)",
            caller.account,
            caller.project,
            canonical,
            self._box.seal(request_digest(request), canonical),
            response.SerializeToString(),
            now_us,
        )


async def purge_requests(connection: asyncpg.Connection, before_us: int) -> None:
    """Forgets requests that are older."""
    await connection.execute("DELETE FROM control.requests WHERE create_us < $1", before_us)
