"""The cast of the stories: one account for each identity, and plain gRPC channels to send as them."""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_status.rpc_status import from_call

from mulligan.api.catalog.v1 import catalog_service_pb2 as catalog
from mulligan.api.catalog.v1 import catalog_service_pb2_grpc as catalog_grpc
from mulligan.api.iam.v1 import iam_service_pb2_grpc as iam_grpc
from mulligan.api.iam.v1 import request_response_pb2 as iam
from mulligan.api.meta.v1 import meta_pb2, meta_service_pb2_grpc
from mulligan.api.meta.v1 import request_response_pb2 as meta
from mulligan.client import Credentials
from mulligan.errors import from_status
from mulligan.ids import new_id

PASSWORD = "correct horse battery staple"
DEADLINE_S = 30
# Identity, role, and whose project it is in; no project: the system.
ROLES = {"operator": "", "member": "ours", "reader": "ours", "stranger": "theirs", "newcomer": "fresh"}


@dataclass
class Cast:
    """Tokens by identity, channels by service, and values that every story knows."""

    channels: dict[str, grpc.aio.Channel]
    tokens: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)

    async def send(
        self, identity: str, service: str, method: MethodDescriptor, request: Message
    ) -> tuple[str, str, Message | None, str]:
        """Sends one request; answers the code's name, the reason, the response when there is one, and the message."""
        response_type = GetMessageClass(method.output_type)
        path = f"/{method.containing_service.full_name}/{method.name}"
        send = self.channels[service].unary_unary(path, type(request).SerializeToString, response_type.FromString)
        try:
            response = await send(request, timeout=DEADLINE_S, metadata=self.metadata(identity))
        except grpc.aio.AioRpcError as error:
            return error.code().name, _reason(error), None, error.details() or ""
        return "OK", "", response, ""

    def metadata(self, identity: str) -> list[tuple[str, str]]:
        """The headers that an identity sends; none for `nobody`."""
        token = self.tokens.get(identity)
        return [("authorization", f"Bearer {token}")] if token else []

    async def fresh_region(self) -> str:
        """A new public root region."""
        stub = meta_service_pb2_grpc.MetaServiceStub(self.channels["meta"])
        config = meta_pb2.RegionConfig(visibility=meta_pb2.VISIBILITY_PUBLIC)
        request = meta.CreateRegionRequest(request_id=new_id(), name=f"region-{new_id()}", config=config)
        answer = await stub.CreateRegion(request, timeout=DEADLINE_S, metadata=self.metadata("admin"))
        region: str = answer.region.id
        return region

    async def close(self) -> None:
        """Closes the channels."""
        for channel in set(self.channels.values()):
            await channel.close()


def _reason(error: grpc.aio.AioRpcError) -> str:
    status = from_call(error)
    return from_status(status).reason if status else ""


async def assemble(iam_address: str, ca: bytes, admin: Credentials) -> Cast:
    """Logs the bootstrap admin in at `iam_address`, finds the services and makes everybody else."""
    credentials = grpc.ssl_channel_credentials(ca)
    channel = grpc.aio.secure_channel(iam_address, credentials)
    cast = Cast({"iam": channel})
    cast.tokens["admin"] = await _login(cast, admin.account, admin.secret, "")
    watch = catalog_grpc.CatalogServiceStub(channel).WatchCatalog(
        catalog.WatchCatalogRequest(), metadata=cast.metadata("admin"), timeout=DEADLINE_S
    )
    async for answer in watch:
        for endpoint in answer.endpoints:
            if endpoint.service != "boot":
                cast.channels.setdefault(endpoint.service, grpc.aio.secure_channel(endpoint.address, credentials))
        if {"iam", "meta", "resource", "control"} <= set(cast.channels):
            break
    watch.cancel()
    await _make_accounts(cast)
    return cast


async def _make_accounts(cast: Cast) -> None:
    stub, admin = iam_grpc.IamServiceStub(cast.channels["iam"]), cast.metadata("admin")
    projects = {"": ""}
    for name in ("ours", "theirs", "fresh"):
        request = iam.CreateProjectRequest(request_id=new_id(), name=f"{name}-{new_id()}")
        projects[name] = (await stub.CreateProject(request, metadata=admin, timeout=DEADLINE_S)).project.id
    for identity, project in ROLES.items():
        user = iam.CreateUserRequest(request_id=new_id(), name=f"{identity}-{new_id()}", password=PASSWORD)
        account = (await stub.CreateUser(user, metadata=admin, timeout=DEADLINE_S)).account.id
        role = identity if identity in ("operator", "reader") else "member"
        assignment = iam.CreateAssignmentRequest(
            request_id=new_id(), account=account, role=role, project=projects[project]
        )
        await stub.CreateAssignment(assignment, metadata=admin, timeout=DEADLINE_S)
        cast.tokens[identity] = await _login(cast, account, PASSWORD, projects[project])
        cast.values |= {f"{identity}.account": account, f"{identity}.project": projects[project]}


async def _login(cast: Cast, account: str, secret: str, project: str) -> str:
    request = iam.LoginRequest(account=account, secret=secret, project=project)
    answer = await iam_grpc.IamServiceStub(cast.channels["iam"]).Login(request, timeout=DEADLINE_S)
    token: str = answer.tokens.access_token
    return token
