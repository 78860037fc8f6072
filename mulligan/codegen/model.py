"""Reads what protoc hands to a plugin into a model of the API that knows no programming language.

    Api ── Service ── Method ── Field
                        ├── Route, Authz       what the proto's annotations say
                        ├── Paging             the list's item field, when it pages
                        └── Resume             where a broken stream goes on, when it can

A smart client of any language is rendered from this model: `mulligan.codegen.python` is the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

OPTIONS_PACKAGE = "mulligan.options.v1"

_PACKAGE = re.compile(r"mulligan\.([a-z]+)\.v1")

# Numbers of FileDescriptorProto.service, ServiceDescriptorProto.method, FileDescriptorProto.message_type and
# DescriptorProto.field: the paths that protoc files comments under.
_SERVICE, _METHOD, _MESSAGE, _FIELD = 6, 2, 4, 2

# Type numbers of fields, by the names that protos use: 9 -> string.
_KINDS: dict[int, str] = {
    int(number): name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()
}

# (client streams, server streams)
_STREAMING = {(False, False): "none", (False, True): "server", (True, False): "client", (True, True): "both"}


class InvalidApi(Exception):
    """The protos do not say what a client must know; the message names the place and what is missing."""


@dataclass(frozen=True)
class TypeName:
    """A message or enum: the proto file that defines it and its name inside its package."""

    file: str
    package: str
    name: str


@dataclass(frozen=True)
class Field:
    """One field of a request."""

    name: str
    # double, int64, bool, string, bytes …, or message, enum.
    kind: str
    comment: str
    type: TypeName | None = None
    repeated: bool = False
    # Set when it is a map: kinds (and type) of its keys and values.
    map_key: Field | None = None
    map_value: Field | None = None
    oneof: str = ""


@dataclass(frozen=True)
class Route:
    """Where a method goes and how it may travel."""

    region_field: str
    # none, merge or first.
    fan_out: str
    retry_safe: bool
    solo: bool


@dataclass(frozen=True)
class Authz:
    """Who may call a method; the scope is anonymous, authenticated, project or system."""

    permission: str
    scope: str


@dataclass(frozen=True)
class Paging:
    """A list in pages: its repeated field and the type of one item."""

    item_field: str
    item: TypeName


@dataclass(frozen=True)
class Resume:
    """A stream that can go on where it broke."""

    request_field: str
    response_field: str
    complete_field: str


@dataclass(frozen=True)
class Method:
    """One RPC."""

    name: str
    comment: str
    request: TypeName
    response: TypeName
    fields: tuple[Field, ...]
    # none, server, client or both.
    streaming: str
    route: Route
    authz: Authz
    request_id: bool
    paging: Paging | None
    resume: Resume | None


@dataclass(frozen=True)
class Service:
    """One service of the API; `name` is its short name, as in `mulligan.<name>.v1`."""

    name: str
    file: str
    package: str
    full_name: str
    comment: str
    methods: tuple[Method, ...]


@dataclass(frozen=True)
class Api:
    """Every service in the files that protoc was asked to generate for."""

    services: tuple[Service, ...]


def read_api(request: CodeGeneratorRequest) -> Api:
    """The model of the files to generate; raises InvalidApi where an annotation is missing or wrong."""
    reader = _Reader(request.proto_file)
    return Api(tuple(service for name in sorted(request.file_to_generate) for service in reader.services(name)))


def _comments(file: FileDescriptorProto) -> dict[str, str]:
    """Comments of services, methods and fields by full name, each one paragraph of text."""
    names: dict[tuple[int, ...], str] = {}
    for i, service in enumerate(file.service):
        names[_SERVICE, i] = f"{file.package}.{service.name}"
        for j, method in enumerate(service.method):
            names[_SERVICE, i, _METHOD, j] = f"{file.package}.{service.name}.{method.name}"
    for i, message in enumerate(file.message_type):
        for j, field in enumerate(message.field):
            names[_MESSAGE, i, _FIELD, j] = f"{file.package}.{message.name}.{field.name}"
    return {
        names[tuple(location.path)]: " ".join(location.leading_comments.split())
        for location in file.source_code_info.location
        if tuple(location.path) in names
    }


class _Reader:
    """Reads services through a descriptor pool of their own, so that no generated module is needed."""

    def __init__(self, files: Iterable[FileDescriptorProto]) -> None:
        self._pool = DescriptorPool()
        self._protos = {file.name: file for file in files}
        self._comments: dict[str, str] = {}
        for file in self._protos.values():
            self._pool.Add(file)
            self._comments |= _comments(file)
        self._authz = self._pool.FindExtensionByName(f"{OPTIONS_PACKAGE}.authz")
        self._route = self._pool.FindExtensionByName(f"{OPTIONS_PACKAGE}.route")
        self._options = GetMessageClass(self._pool.FindMessageTypeByName("google.protobuf.MethodOptions"))

    def services(self, file_name: str) -> list[Service]:
        file = self._pool.FindFileByName(file_name)
        return [self._service(service) for service in file.services_by_name.values()]

    def _service(self, service: ServiceDescriptor) -> Service:
        file = service.file
        package = _PACKAGE.fullmatch(file.package)
        if package is None:
            raise InvalidApi(f"{file.name}: package must be mulligan.<service>.v1, not {file.package}")
        return Service(
            name=package[1],
            file=file.name,
            package=file.package,
            full_name=service.full_name,
            comment=self._comment(service.full_name),
            methods=tuple(self._method(method) for method in service.methods),
        )

    def _method(self, method: MethodDescriptor) -> Method:
        fields = self._fields(method.input_type)
        route, authz = self._annotations(method)
        if route.region_field and route.region_field not in {field.name for field in fields}:
            raise InvalidApi(f"{method.full_name}: region_field names {route.region_field}, which its request lacks")
        return Method(
            name=method.name,
            comment=self._comment(method.full_name),
            request=_type_name(method.input_type),
            response=_type_name(method.output_type),
            fields=fields,
            streaming=_STREAMING[method.client_streaming, method.server_streaming],
            route=route,
            authz=authz,
            request_id="request_id" in method.input_type.fields_by_name,
            paging=_paging(method),
            resume=_resume(method),
        )

    def _annotations(self, method: MethodDescriptor) -> tuple[Route, Authz]:
        service = method.containing_service
        proto = self._protos[service.file.name].service[service.index].method[method.index]
        options: Any = self._options.FromString(proto.options.SerializeToString())
        for option in (self._authz, self._route):
            if not options.HasExtension(option):
                raise InvalidApi(f"{method.full_name} lacks option ({option.full_name}); every RPC declares it")
        authz, route = options.Extensions[self._authz], options.Extensions[self._route]
        return (
            Route(route.region_field, _choice(route, "fan_out"), route.retry_safe, route.solo),
            Authz(authz.permission, _choice(authz, "scope")),
        )

    def _fields(self, message: Descriptor) -> tuple[Field, ...]:
        return tuple(self._field(field) for field in message.fields)

    def _field(self, field: FieldDescriptor) -> Field:
        entry = field.message_type if field.message_type and field.message_type.GetOptions().map_entry else None
        named = field.message_type or field.enum_type
        oneof = field.containing_oneof
        return Field(
            name=field.name,
            kind=_KINDS[field.type],
            comment=self._comments.get(field.full_name, ""),
            type=_type_name(named) if named else None,
            repeated=field.is_repeated and entry is None,
            map_key=self._field(entry.fields_by_name["key"]) if entry else None,
            map_value=self._field(entry.fields_by_name["value"]) if entry else None,
            oneof=oneof.name if oneof else "",
        )

    def _comment(self, full_name: str) -> str:
        comment = self._comments.get(full_name, "")
        if not comment:
            raise InvalidApi(f"{full_name} has no comment; its client would have no documentation")
        return comment


def _type_name(descriptor: Descriptor | EnumDescriptor) -> TypeName:
    return TypeName(descriptor.file.name, descriptor.file.package, descriptor.name)


def _choice(options: Any, field: str) -> str:
    """FAN_OUT_MERGE of enum FanOut -> merge."""
    enum = options.DESCRIPTOR.fields_by_name[field].enum_type
    name: str = enum.values_by_number[getattr(options, field)].name
    prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.name).upper()
    return name.removeprefix(f"{prefix}_").lower()


def _paging(method: MethodDescriptor) -> Paging | None:
    request, response = method.input_type, method.output_type
    if "page_token" not in request.fields_by_name or "next_page_token" not in response.fields_by_name:
        return None
    items = [(field.name, field.message_type) for field in response.fields if field.is_repeated and field.message_type]
    if len(items) != 1:
        raise InvalidApi(f"{response.full_name} pages, so it must have exactly one repeated message field")
    return Paging(items[0][0], _type_name(items[0][1]))


def _resume(method: MethodDescriptor) -> Resume | None:
    """A request with `after_<x>` goes on from a response's `<x>`, once its `synced` says so."""
    response = method.output_type.fields_by_name
    for field in method.input_type.fields:
        position = field.name.removeprefix("after_")
        if method.server_streaming and position != field.name and position in response:
            return Resume(field.name, position, "synced" if "synced" in response else "")
    return None
