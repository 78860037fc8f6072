"""The IAM service on real stores, driven as a gateway does: token in, permission judged, serialized request, reply."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status

from mulligan.api.iam.v1 import iam_service_pb2
from mulligan.api.iam.v1 import request_response_pb2 as pb
from mulligan.api.iam.v1.iam_pb2 import Tokens
from mulligan.api.options.v1 import options_pb2
from mulligan.caller import ANONYMOUS, Caller
from mulligan.clock import now_us
from mulligan.dispatch import OK, MethodTable
from mulligan.errors import MulliganError, PermissionDenied, from_status
from mulligan.iam import policy, tokens
from mulligan.iam.service import MIGRATIONS, SERVICE, IamService
from mulligan.ids import new_id
from mulligan.meta.regions import RegionRecord
from mulligan.stores import keys
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient, WatchedPrefix
from mulligan.stores.migrate import migrate
from mulligan.stores.postgres import Ownership, connect_pool

DESCRIPTOR = iam_service_pb2.DESCRIPTOR.services_by_name["IamService"]
PASSWORD = "correct horse battery"
NOTHING = "nothing was refused"


class MovableClock:
    """The system's clock, moved forward by hand, or stopped."""

    def __init__(self) -> None:
        self.ahead_us = 0
        self._stopped_us = 0

    def __call__(self) -> int:
        return (self._stopped_us or now_us()) + self.ahead_us

    def stop(self) -> None:
        """From now on it moves by hand only."""
        self._stopped_us = now_us()


@dataclass
class Bench:
    """A service, the gateway's view of keys and revocations, and a first admin."""

    addresses: Addresses
    etcd: EtcdClient
    service: IamService
    clock: MovableClock
    keys: WatchedPrefix
    revocations: WatchedPrefix
    admin_name: str
    table: MethodTable = field(init=False)

    def __post_init__(self) -> None:
        self.table = MethodTable(DESCRIPTOR, self.service)

    def caller(self, token: str) -> Caller:
        """What a gateway makes of a token; raises Unauthenticated."""
        public = {key_id: tokens.public_key_from_jwk(jwk) for key_id, jwk in self.keys.items.items()}
        caller = tokens.verify(token, public, self.clock())
        tokens.require_not_revoked(caller, self.revocations.items)
        return caller

    async def call(self, method: str, request: Message, token: str = "") -> Any:
        """The response to a request with that token; raises what the caller of a gateway would see."""
        options = DESCRIPTOR.methods_by_name[method].GetOptions()
        authz: options_pb2.Authz = options.Extensions[options_pb2.authz]  # type: ignore[index]
        caller = ANONYMOUS if authz.scope == policy.SCOPE_ANONYMOUS else self.caller(token)
        decision = policy.permits(caller.grants, authz.permission, authz.scope, caller.project)
        if not decision.allowed:
            raise PermissionDenied(f"{method} needs {authz.permission}")
        judged = replace(caller, permission=authz.permission, system=decision.system)
        if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:  # type: ignore[attr-defined]
            request.request_id = new_id()  # type: ignore[attr-defined]
        code, payload = await self.table.call(method, judged, request.SerializeToString())
        if code != OK:
            raise from_status(Status.FromString(payload))
        return GetMessageClass(DESCRIPTOR.methods_by_name[method].output_type).FromString(payload)

    async def login(self, account: str, secret: str = PASSWORD, project: str = "") -> Tokens:
        """Tokens of a login."""
        request = pb.LoginRequest(account=account, secret=secret, project=project)
        response: pb.LoginResponse = await self.call("Login", request)
        return response.tokens

    async def admin(self) -> str:
        """An access token of the first admin."""
        return (await self.login(self.admin_name)).access_token

    async def project(self, admin: str) -> str:
        """A new project's id."""
        request = pb.CreateProjectRequest(name=unique("project"))
        return str((await self.call("CreateProject", request, admin)).project.id)

    async def user(self, admin: str, *roles: tuple[str, str]) -> str:
        """A new user's id, with roles in projects ("": the system)."""
        request = pb.CreateUserRequest(name=unique("user"), password=PASSWORD)
        account = (await self.call("CreateUser", request, admin)).account.id
        for role, project in roles:
            await self.assign(admin, account, role, project)
        return str(account)

    async def assign(self, admin: str, account: str, role: str, project: str = "", region: str = "") -> str:
        """A new assignment's id."""
        request = pb.CreateAssignmentRequest(account=account, role=role, project=project, region=region)
        return str((await self.call("CreateAssignment", request, admin)).assignment.id)

    async def credential(self, token: str, *roles: str, **fields: Any) -> pb.CreateApplicationCredentialResponse:
        """A new application credential."""
        request = pb.CreateApplicationCredentialRequest(name=unique("robot"), roles=roles, **fields)
        response: pb.CreateApplicationCredentialResponse = await self.call(
            "CreateApplicationCredential", request, token
        )
        return response

    async def settled(self) -> None:
        """Waits until the gateway's view has all that is in etcd now."""
        marker = keys.iam_revoked("token", new_id())
        lease = await self.etcd.lease.grant(60)
        response = await self.etcd.kv.put(marker, json.dumps({"before_us": 0}), lease=lease.ID)
        assert await self.revocations.wait_changed(response.header.revision - 1, 5.0)


def unique(noun: str) -> str:
    """A name that nobody else has: tests share one etcd."""
    return f"{noun} {new_id()[-12:]}"


async def refused(awaitable: Any) -> str:
    """The reason of the failure that has to come."""
    try:
        await awaitable
    except MulliganError as error:
        return error.reason
    return NOTHING


async def region(etcd: EtcdClient, parent: str = "", visibility: str = "public") -> str:
    """A region as the metadata service keeps it."""
    record = RegionRecord(new_id(), parent, "", visibility)
    await etcd.kv.put(keys.meta_region(record.id), record.to_json())
    return record.id


async def alive(bench: Bench, token: str) -> str:
    """Why a gateway that has heard of everything refuses the token, or NOTHING."""
    await bench.settled()
    return await refused(bench.call("WhoAmI", pb.WhoAmIRequest(), token))


async def prepared(addresses: Addresses, state_dir: Path, name: str) -> tuple[Addresses, Path]:
    """The schema made, and a file that asks for a first admin called `name`; returns its path."""
    file = state_dir / "secrets" / "admin.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"account": name, "secret": PASSWORD}))
    await migrate(addresses, SERVICE, MIGRATIONS)
    return replace(addresses, state_dir=state_dir), file


@asynccontextmanager
async def opened(addresses: Addresses, etcd: EtcdClient, state_dir: Path, name: str) -> AsyncIterator[Bench]:
    """A bench on an empty database, with the first admin called `name`."""
    own, _ = await prepared(addresses, state_dir, name)
    async with another(own, etcd, name) as bench:
        yield bench


@asynccontextmanager
async def another(addresses: Addresses, etcd: EtcdClient, name: str) -> AsyncIterator[Bench]:
    """A further owner of the same database, as after a restart."""
    pool = await connect_pool(addresses, maximum=1)
    try:
        ownership = await Ownership.take(pool, SERVICE, "global")
    finally:
        await pool.close()
    clock = MovableClock()
    public, revocations = WatchedPrefix(etcd, keys.IAM_KEYS), WatchedPrefix(etcd, keys.IAM_REVOKED)
    service = await IamService.open(addresses, etcd, ownership, clock)
    try:
        await public.start()
        await revocations.start()
        yield Bench(addresses, etcd, service, clock, public, revocations, name)
    finally:
        await public.close()
        await revocations.close()
        await service.close()
