"""Handlers about tokens: logging in, refreshing, revoking, public keys, who one is."""

from __future__ import annotations

import json
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from mulligan.api.iam.v1 import request_response_pb2 as pb
from mulligan.api.iam.v1.iam_pb2 import Tokens
from mulligan.caller import Caller, Grant
from mulligan.clock import to_timestamp
from mulligan.errors import PermissionDenied, Unauthenticated
from mulligan.iam import store, tokens
from mulligan.iam.errors import denied, invalid, login_refused, not_found, refresh_refused
from mulligan.iam.model import PASSWORD_CHARACTERS, Account, grant_messages
from mulligan.iam.outbox import ACCOUNT, PROJECT, SESSION, TOKEN
from mulligan.iam.parts import Parts, as_system, grants_now
from mulligan.iam.sessions import PREFIX, RefreshToken
from mulligan.ids import parse_id
from mulligan.meta.model import slug_asked_for

_REVOKE = "iam.token.revoke"


class LoginHandlers:
    """Part of IamService."""

    parts: Parts

    async def login(self, request: pb.LoginRequest, caller: Caller) -> pb.LoginResponse:
        """Tokens for the right secret; LOGIN_REFUSED for everything else, after the same work."""
        parts = self.parts
        identifier, counted = await self._account_called(request.account)
        project = await self._project_called(request.project) if request.project else ""
        async with parts.database.read() as connection:
            account = await store.account_by_id(connection, identifier)
            subject = parts.throttle.subject(account.id if account else counted, request.account)
            await parts.throttle.check(connection, subject)
        fits = len(request.secret) <= PASSWORD_CHARACTERS[1]
        stored = account.secret_hash if account and fits else None
        proven = await parts.passwords.verify(stored, request.secret if fits else "")
        async with parts.database.write() as connection:
            # Again: guesses made side by side count as if made one after another.
            await parts.throttle.check(connection, subject)
            issued = await self._admit(connection, account, project) if proven and account else None
            if issued is None:
                await parts.throttle.failed(connection, subject)
            else:
                await parts.throttle.succeeded(connection, subject)
        if issued is None:
            raise login_refused()
        return pb.LoginResponse(tokens=issued)

    async def refresh(self, request: pb.RefreshRequest, caller: Caller) -> pb.RefreshResponse:
        """The next tokens of the session; a token that was used before ends it."""
        token = RefreshToken.parse(request.refresh_token)
        async with self.parts.database.write() as connection:
            issued, reason = await self._continue(connection, token)
        if issued is None:
            await self.parts.outbox.flush()
            raise refresh_refused(reason)
        return pb.RefreshResponse(tokens=issued)

    async def get_jwks(self, request: pb.GetJwksRequest, caller: Caller) -> pb.GetJwksResponse:
        """RFC 7517."""
        jwks = {"keys": list((await self.parts.keys.public()).values())}
        return pb.GetJwksResponse(jwks_json=json.dumps(jwks))

    async def who_am_i(self, request: pb.WhoAmIRequest, caller: Caller) -> pb.WhoAmIResponse:
        """What the token says."""
        return pb.WhoAmIResponse(
            account=caller.account,
            project=caller.project,
            grants=grant_messages(caller.grants),
            expire_time=to_timestamp(caller.expires_us),
        )

    async def revoke(self, request: pb.RevokeRequest, caller: Caller) -> pb.RevokeResponse:
        """Ends tokens; when it answers, no gateway that hears from etcd takes them any more."""
        target = request.WhichOneof("target")
        if target is None:
            raise invalid("target", "is missing; give a token, an account or a project")
        seen = as_system(caller, _REVOKE)

        async def act(connection: AsyncConnection) -> pb.RevokeResponse:
            if target == "token":
                await self._revoke_token(connection, seen, request.token)
            elif target == "account":
                await self._revoke_account(connection, seen, parse_id(request.account, "account"))
            else:
                await self._revoke_project(connection, seen, parse_id(request.project, "project"))
            return pb.RevokeResponse()

        response, _ = await self.parts.outcomes.once(caller, request, pb.RevokeResponse, act)
        await self.parts.outbox.flush()
        return response

    # Logging in

    async def _account_called(self, text: str) -> tuple[str, str]:
        """The id that the text is or is the name of, and that of an account whose slug it only asks for, or "".

        A failure counts for the second one when there is no first: spellings are told apart for nobody.
        """
        if identifier := _uuid(text):
            return identifier, ""
        exact, alike = await self.parts.names.resolve_many([(ACCOUNT, "", text), (ACCOUNT, "", slug_asked_for(text))])
        return exact or _NOBODY, alike or ""

    async def _project_called(self, text: str) -> str:
        """The id that the text is, or that it is the name of; one of nothing when it is neither."""
        return _uuid(text) or await self.parts.names.resolve(PROJECT, "", text) or _NOBODY

    async def _admit(self, connection: AsyncConnection, proven: Account, project: str) -> Tokens | None:
        """Tokens for an account that has proven itself, or None if it may not act there."""
        parts = self.parts
        account = await store.hold_account(connection, proven.id)
        # Disabled, deleted or given another secret while that one was checked.
        if account is None or not account.usable(parts.clock()) or account.secret_hash != proven.secret_hash:
            return None
        project = project or account.project or await self._default_project(connection, account)
        if project and not await store.hold_project(connection, project):
            return None
        grants = await grants_now(parts, connection, account, project)
        if not grants:
            return None
        return await parts.sessions.begin(connection, account, project, grants, await parts.keys.signing(connection))

    async def _default_project(self, connection: AsyncConnection, account: Account) -> str:
        """ "" (the system) for a user with a role there; else the only project that it has a role in."""
        found = {each.project for each in await store.assignments_of(connection, account.id)}
        if "" in found or not found:
            return ""
        if len(found) > 1:
            raise invalid("project", "is missing: the account has roles in several; name the one to act in")
        return found.pop()

    # Refreshing

    async def _continue(self, connection: AsyncConnection, token: RefreshToken) -> tuple[Tokens | None, str]:
        """The next tokens; or None, after the session was ended for it, and why."""
        parts = self.parts
        # Account before session: in the order in which deleting an account takes them.
        owner = await parts.sessions.account_of(connection, token)
        account = await store.hold_account(connection, owner) if owner else None
        session = await parts.sessions.find(connection, token)
        if session.expire_us <= parts.clock():
            raise refresh_refused("TOKEN_EXPIRED")
        grants: tuple[Grant, ...] = ()
        if account is not None and account.usable(parts.clock()):
            grants = await grants_now(parts, connection, account, session.project)
        if session.turn != token.turn or not grants:
            await end_session(parts, connection, session.id)
            return None, "TOKEN_REVOKED"
        return await parts.sessions.next(connection, session, grants, await parts.keys.signing(connection)), ""

    # Revoking

    async def _revoke_token(self, connection: AsyncConnection, caller: Caller, token: str) -> None:
        if token.startswith(PREFIX):
            await self._revoke_line(connection, caller, token)
            return
        try:
            revoked = tokens.verify(token, await self.parts.keys.verifying(connection), now_us=0)
        except Unauthenticated:
            raise invalid("token", "is not a token of this system") from None
        if revoked.account != caller.account and not caller.system:
            raise invalid("token", "is not one of yours")
        if revoked.expires_us > self.parts.clock():
            await self.parts.outbox.revoke_before(connection, TOKEN, revoked.token_id, revoked.issued_us)

    async def _revoke_line(self, connection: AsyncConnection, caller: Caller, token: str) -> None:
        try:
            session = await self.parts.sessions.find(connection, RefreshToken.parse(token))
        except Unauthenticated as error:
            if error.reason == "TOKEN_REVOKED":
                return
            raise invalid("token", "is not a token of this system") from None
        if session.account != caller.account and not caller.system:
            raise invalid("token", "is not one of yours")
        await end_session(self.parts, connection, session.id)

    async def _revoke_account(self, connection: AsyncConnection, caller: Caller, account: str) -> None:
        if await store.visible_account(connection, caller, account, lock=True) is None:
            raise not_found("account", account)
        if account != caller.account and not caller.system:
            raise denied("revoke the tokens of another account", _REVOKE)
        await end_account(self.parts, connection, account)

    async def _revoke_project(self, connection: AsyncConnection, caller: Caller, project: str) -> None:
        if not caller.system:
            raise _project_denied(project, caller)
        if not await store.hold_project(connection, project, to_delete=True):
            raise not_found("project", project)
        await end_project(self.parts, connection, project)


# An id that no object has: what is not found takes the same way as what is.
_NOBODY = "00000000-0000-0000-0000-000000000000"


def _uuid(text: str) -> str:
    """The text as an id; "" when it is none."""
    try:
        return str(UUID(text)) if len(text) == 36 else ""
    except ValueError:
        return ""


def _project_denied(project: str, caller: Caller) -> Exception:
    if project != caller.project:
        return not_found("project", project)
    error: PermissionDenied = denied("revoke the tokens of a project", _REVOKE)
    return error


async def end_session(parts: Parts, connection: AsyncConnection, session: str) -> None:
    """Kills all tokens of a session, whose row has to be locked; they count as dead once the outbox is flushed."""
    latest_us = await parts.sessions.end(connection, session)
    await parts.outbox.revoke(connection, SESSION, session, latest_us)


async def end_account(parts: Parts, connection: AsyncConnection, account: str) -> None:
    """Kills all tokens of an account, whose row has to be locked."""
    latest_us = await parts.sessions.end_of_account(connection, account)
    await parts.outbox.revoke(connection, ACCOUNT, account, latest_us)


async def end_project(parts: Parts, connection: AsyncConnection, project: str) -> None:
    """Kills all tokens that act in a project, whose row has to be locked."""
    latest_us = await parts.sessions.end_in_project(connection, project)
    await parts.outbox.revoke(connection, PROJECT, project, latest_us)
