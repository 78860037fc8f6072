"""Handlers about accounts: users, application credentials, passwords."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from mulligan.api.iam.v1 import request_response_pb2 as pb
from mulligan.caller import Caller, Grant
from mulligan.clock import from_timestamp
from mulligan.errors import FailedPrecondition, PermissionDenied
from mulligan.iam import store
from mulligan.iam.database import lock
from mulligan.iam.errors import denied, invalid, last_administrator, login_refused, not_found
from mulligan.iam.login import end_account
from mulligan.iam.model import APPLICATION_CREDENTIAL, USER, Account, valid_password, valid_role
from mulligan.iam.named import ensure_name, named
from mulligan.iam.parts import Parts, as_system, handed_on
from mulligan.iam.passwords import new_secret
from mulligan.iam.policy import SCOPE_PROJECT, permits
from mulligan.ids import parse_id
from mulligan.meta.model import check_name
from mulligan.requests import decode_page_token, derived_id, encode_page_token, page_size, require_request_id

_UPDATE, _DELETE = "iam.account.update", "iam.account.delete"


class AccountHandlers:
    """Part of IamService."""

    parts: Parts

    async def create_user(self, request: pb.CreateUserRequest, caller: Caller) -> pb.CreateUserResponse:
        """An enabled user without any role."""
        name, parts = check_name(request.name), self.parts
        identifier = derived_id(caller.account, caller.project, require_request_id(request.request_id))
        secret_hash = await parts.passwords.hash(valid_password(request.password, "password"))
        account = Account(identifier, USER, True, secret_hash, parts.clock())

        async def act(connection: AsyncConnection) -> pb.CreateUserResponse:
            await store.insert_account(connection, account)
            return pb.CreateUserResponse(account=account.message())

        naming = named(parts.names, "account", name, identifier)
        response, repeated = await parts.outcomes.once(caller, request, pb.CreateUserResponse, act, naming)
        if repeated:
            await ensure_name(parts, response.account.id, naming)
        return response

    async def create_application_credential(
        self, request: pb.CreateApplicationCredentialRequest, caller: Caller
    ) -> pb.CreateApplicationCredentialResponse:
        """A credential whose rights are fixed now, never more than its maker's. The secret is shown once."""
        name, parts = check_name(request.name), self.parts
        identifier = derived_id(caller.account, caller.project, require_request_id(request.request_id))
        expire_us = from_timestamp(request.expire_time, "expire_time") if request.HasField("expire_time") else None
        grants = await self._delegated(request, caller)
        secret = new_secret()
        account = Account(
            identifier,
            APPLICATION_CREDENTIAL,
            True,
            await parts.passwords.hash(secret),
            parts.clock(),
            caller.project,
            caller.account,
            expire_us,
        )

        async def act(connection: AsyncConnection) -> pb.CreateApplicationCredentialResponse:
            await self._require_maker(connection, caller)
            if expire_us is not None and expire_us <= parts.clock():
                raise invalid("expire_time", "must lie in the future")
            await store.insert_account(connection, account)
            await store.insert_credential_grants(connection, identifier, grants)
            return pb.CreateApplicationCredentialResponse(account=account.message(), secret=secret)

        naming = named(parts.names, "account", name, identifier, caller.project)
        kind = pb.CreateApplicationCredentialResponse
        response, repeated = await parts.outcomes.once(caller, request, kind, act, naming)
        if repeated:
            await ensure_name(parts, response.account.id, naming)
        return response

    async def get_account(self, request: pb.GetAccountRequest, caller: Caller) -> pb.GetAccountResponse:
        """One that the caller may see."""
        identifier = parse_id(request.id, "id")
        async with self.parts.database.read() as connection:
            account = await store.visible_account(connection, caller, identifier)
        if account is None:
            raise not_found("account", identifier)
        return pb.GetAccountResponse(account=account.message())

    async def list_accounts(self, request: pb.ListAccountsRequest, caller: Caller) -> pb.ListAccountsResponse:
        """Those that the caller may see, by id."""
        size, after = page_size(request.page_size), page_after(request.page_token)
        async with self.parts.database.read() as connection:
            found = await store.list_accounts(connection, caller, after, size + 1)
        return pb.ListAccountsResponse(
            accounts=[account.message() for account in found[:size]],
            next_page_token=next_page([account.id for account in found], size),
        )

    async def set_password(self, request: pb.SetPasswordRequest, caller: Caller) -> pb.SetPasswordResponse:
        """Another password; all tokens of the account die."""
        parts = self.parts
        seen = as_system(caller, _UPDATE)
        identifier = parse_id(request.account, "account") if request.account else caller.account
        require_request_id(request.request_id)
        new_hash = await parts.passwords.hash(valid_password(request.new_password, "new_password"))
        proven = await self._prove(caller, request.old_password) if identifier == caller.account else None

        async def act(connection: AsyncConnection) -> pb.SetPasswordResponse:
            account = await store.visible_account(connection, seen, identifier, lock=True)
            await self._require_settable(account, identifier, seen, proven)
            if proven is not None:
                # Again: guesses made side by side count as if made one after another.
                await parts.throttle.check(connection, identifier)
                await parts.throttle.succeeded(connection, identifier)
            await store.set_secret_hash(connection, identifier, new_hash)
            await end_account(parts, connection, identifier)
            return pb.SetPasswordResponse()

        response, _ = await parts.outcomes.once(caller, request, pb.SetPasswordResponse, act)
        await parts.outbox.flush()
        return response

    async def set_account_enabled(
        self, request: pb.SetAccountEnabledRequest, caller: Caller
    ) -> pb.SetAccountEnabledResponse:
        """Enabled or not. The tokens of a disabled account die, and those of the credentials that it made."""
        identifier, parts = parse_id(request.id, "id"), self.parts

        async def act(connection: AsyncConnection) -> pb.SetAccountEnabledResponse:
            account = await store.visible_account(connection, caller, identifier, lock=True)
            if account is None:
                raise not_found("account", identifier)
            await store.set_enabled(connection, identifier, request.enabled)
            if not request.enabled:
                await require_administrator(connection, account)
                for each in (identifier, *await store.credentials_of(connection, identifier)):
                    await end_account(parts, connection, each)
            message = account.message()
            message.enabled = request.enabled
            return pb.SetAccountEnabledResponse(account=message)

        response, _ = await parts.outcomes.once(caller, request, pb.SetAccountEnabledResponse, act)
        await parts.outbox.flush()
        return response

    async def delete_account(self, request: pb.DeleteAccountRequest, caller: Caller) -> pb.DeleteAccountResponse:
        """Gone, with its assignments, the credentials that it made, and all their tokens."""
        identifier, parts = parse_id(request.id, "id"), self.parts

        async def act(connection: AsyncConnection) -> pb.DeleteAccountResponse:
            account = await store.visible_account(connection, caller, identifier, lock=True)
            if account is None:
                raise not_found("account", identifier)
            if not _is_own(account, caller) and not as_system(caller, _UPDATE).system:
                raise denied("delete this account", _UPDATE)
            doomed = [*await store.credentials_of(connection, identifier), identifier]
            for each in doomed:
                await end_account(parts, connection, each)
            await store.delete_accounts(connection, doomed)
            await require_administrator(connection, account)
            await parts.outbox.forget_names(connection, doomed)
            return pb.DeleteAccountResponse()

        response, _ = await parts.outcomes.once(caller, request, pb.DeleteAccountResponse, act)
        await parts.outbox.flush()
        return response

    # Application credentials

    async def _delegated(self, request: pb.CreateApplicationCredentialRequest, caller: Caller) -> tuple[Grant, ...]:
        """The grants that were asked for; PERMISSION_DENIED for a role or region that the caller lacks itself."""
        if not caller.project:
            raise FailedPrecondition("an application credential belongs to a project; log in to one first")
        if not request.roles:
            raise invalid("roles", "is empty; name at least one of your own")
        region = parse_id(request.region, "region") if request.region else ""
        tree = await self.parts.regions.tree([region])
        if region and not tree.is_visible(region, caller):
            raise not_found("region", region)
        wanted = [Grant(valid_role(role, "roles"), False, region) for role in dict.fromkeys(request.roles)]
        grants = await handed_on(self.parts, wanted, caller.grants)
        for want in wanted:
            got = {grant.region for grant in grants if grant.role == want.role}
            if not got or (region and region not in got):
                raise PermissionDenied(
                    f"you do not have the role {want.role} yourself in this project and region, so no credential of "
                    "yours can have it"
                )
        return grants

    async def _require_maker(self, connection: AsyncConnection, caller: Caller) -> None:
        """A user, in a project that stays: a credential that made others would outlive its own end."""
        maker = await store.hold_account(connection, caller.account)
        if maker is None or not await store.hold_project(connection, caller.project):
            raise not_found("project", caller.project)
        if not maker.is_user:
            raise PermissionDenied("an application credential cannot make another; log in as a user")

    # Passwords

    async def _prove(self, caller: Caller, old_password: str) -> str | None:
        """The stored hash if it is that of the caller's password, judged under the same delays as a login."""
        parts = self.parts
        async with parts.database.read() as connection:
            await parts.throttle.check(connection, caller.account)
            account = await store.account_by_id(connection, caller.account)
        stored = account.secret_hash if account else None
        if await parts.passwords.verify(stored, old_password):
            return stored
        async with parts.database.write() as connection:
            await parts.throttle.check(connection, caller.account)
            await parts.throttle.failed(connection, caller.account)
        return None

    async def _require_settable(
        self, account: Account | None, identifier: str, caller: Caller, proven: str | None
    ) -> None:
        if account is None:
            raise not_found("account", identifier)
        if not account.is_user:
            raise FailedPrecondition("the secret of an application credential never changes; make another one")
        # It may have been given another secret while that one was checked.
        if identifier == caller.account and proven != account.secret_hash:
            raise login_refused()
        if identifier != caller.account and not caller.system:
            raise denied("set the password of another account", _UPDATE)


def _is_own(account: Account, caller: Caller) -> bool:
    """Whether it is a credential that the caller made, or of its project if its role there counts in every region."""
    if account.is_user or account.project != caller.project:
        return False
    return account.owner == caller.account or not permits(caller.grants, _DELETE, SCOPE_PROJECT, caller.project).regions


async def require_administrator(connection: AsyncConnection, changed: Account) -> None:
    """Refuses a change of a user that leaves nobody who can let anybody in.

    To be called after the change, before the commit: of two such changes at once the second sees the first.
    """
    if changed.is_user:
        await lock(connection, "administrators")
        if not await store.has_administrator(connection):
            raise last_administrator()


def page_after(token: str) -> str:
    """The id that the page before ended with; "" for the first page."""
    position = decode_page_token(token, {"after": str})
    return parse_id(position["after"], "page_token") if position else ""


def next_page(ids: list[str], size: int) -> str:
    """The token of the next page, given one id more than fits into this one; "" when there is none."""
    return encode_page_token({"after": ids[size - 1]}) if len(ids) > size else ""
