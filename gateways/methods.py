"""The RPCs of a service as its descriptor declares them: who may call each, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from mulligan.api.options.v1 import options_pb2

# The stubs of generated extensions lack the type that the stubs of the runtime ask for.
_AUTHZ: Any = options_pb2.authz
_ROUTE: Any = options_pb2.route


class FanOut(Enum):
    """What is done when a request reaches several shards."""

    NONE = options_pb2.FAN_OUT_NONE
    MERGE = options_pb2.FAN_OUT_MERGE
    FIRST = options_pb2.FAN_OUT_FIRST


class InvalidMethod(Exception):
    """A descriptor lacks what a gateway must know of a method; the message names both."""


@dataclass(frozen=True, slots=True)
class Method:
    """The constant facts of one RPC."""

    # iam, meta, resource, control or catalog.
    service: str
    name: str
    # "/package.Service/Method", as gRPC names it.
    path: str
    request: type[Message]
    response: type[Message]
    # Empty: none is asked for.
    permission: str
    # A value of mulligan.options.v1.Scope.
    scope: int
    # Empty: the request names no region.
    region_field: str
    fan_out: FanOut
    retry_safe: bool
    solo: bool
    client_streaming: bool
    server_streaming: bool
    # It changes something, and what it makes lives in the very region that it names.
    mutating: bool
    # It lists page by page: page_size and page_token, next_page_token.
    paged: bool

    @property
    def anonymous(self) -> bool:
        """It may be called without a token."""
        return self.scope == options_pb2.SCOPE_ANONYMOUS

    @property
    def streaming(self) -> bool:
        """It may last for long: one side sends more than one message."""
        return self.client_streaming or self.server_streaming


def methods_of(descriptor: ServiceDescriptor) -> list[Method]:
    """Every RPC of a service; raises InvalidMethod when one says too little about who may call it or where it goes."""
    return [_method(each) for each in descriptor.methods]


def _method(descriptor: MethodDescriptor) -> Method:
    options = descriptor.GetOptions()
    if not (options.HasExtension(_AUTHZ) and options.HasExtension(_ROUTE)):
        raise InvalidMethod(f"{descriptor.full_name} needs both options, authz and route, of mulligan.options.v1")
    authz: options_pb2.Authz = options.Extensions[_AUTHZ]
    route: options_pb2.Route = options.Extensions[_ROUTE]
    request = descriptor.input_type
    method = Method(
        service=descriptor.containing_service.file.package.split(".")[1],
        name=descriptor.name,
        path=f"/{descriptor.containing_service.full_name}/{descriptor.name}",
        request=GetMessageClass(request),
        response=GetMessageClass(descriptor.output_type),
        permission=authz.permission,
        scope=authz.scope,
        region_field=route.region_field,
        fan_out=_fan_out(descriptor, route.fan_out),
        retry_safe=route.retry_safe,
        solo=route.solo,
        client_streaming=descriptor.client_streaming,
        server_streaming=descriptor.server_streaming,
        mutating="request_id" in request.fields_by_name,
        paged={"page_size", "page_token"} <= set(request.fields_by_name.keys()),
    )
    _check_authz(method)
    _check_region_field(method)
    return method


def _fan_out(descriptor: MethodDescriptor, value: int) -> FanOut:
    try:
        return FanOut(value)
    except ValueError:
        raise InvalidMethod(f"{descriptor.full_name} does not say in its route how it fans out") from None


def _check_authz(method: Method) -> None:
    if method.scope == options_pb2.SCOPE_UNSPECIFIED:
        raise InvalidMethod(f"{method.path} does not say in its authz which scope its permission needs")
    needs_permission = method.scope in (options_pb2.SCOPE_PROJECT, options_pb2.SCOPE_SYSTEM)
    if needs_permission and not method.permission:
        raise InvalidMethod(f"{method.path} is open to certain roles only, and does not name the permission")


def _check_region_field(method: Method) -> None:
    if method.client_streaming and method.fan_out is not FanOut.NONE:
        raise InvalidMethod(f"{method.path} sends many messages; each can go to one shard only")
    if not method.region_field:
        return
    field = method.request.DESCRIPTOR.fields_by_name.get(method.region_field)
    if field is None or field.type != FieldDescriptor.TYPE_STRING or field.is_repeated:
        raise InvalidMethod(f"{method.path} routes by {method.region_field}, which is no string of its request")
