"""What a gateway reads from descriptors, and what it refuses to start with."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor

from gateways.assembly import CATALOG
from gateways.gateway import SERVICES
from gateways.methods import FanOut, InvalidMethod, methods_of
from mulligan.api.options.v1 import options_pb2


def service(**method: Any) -> ServiceDescriptor:
    """A service with one method, Do, whose options are given as text of the option messages."""
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="mulligan.test.v1", syntax="proto3")
    request = file.message_type.add(name="DoRequest")
    string = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
    single = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    request.field.add(name="region", number=1, type=string, label=single)
    request.field.add(name="count", number=2, type=descriptor_pb2.FieldDescriptorProto.TYPE_INT32, label=single)
    declared = file.service.add(name="TestService").method.add(
        name="Do", input_type=".mulligan.test.v1.DoRequest", output_type=".mulligan.test.v1.DoRequest"
    )
    declared.client_streaming = method.get("client_streaming", False)
    for name in ("authz", "route"):
        if name in method:
            extension: Any = getattr(options_pb2, name)
            declared.options.Extensions[extension].CopyFrom(method[name])
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    found: ServiceDescriptor = pool.FindServiceByName("mulligan.test.v1.TestService")
    return found


ANYONE = options_pb2.Authz(scope=options_pb2.SCOPE_ANONYMOUS)
ONE = options_pb2.Route(fan_out=options_pb2.FAN_OUT_NONE)


@pytest.mark.parametrize("name", [*SERVICES, "catalog"])
def test_every_service_of_ours_says_enough(name: str) -> None:
    descriptor = SERVICES.get(name, CATALOG)
    methods = methods_of(descriptor)
    assert len(methods) == len(descriptor.methods)
    assert {method.service for method in methods} == {name}


def test_a_method_is_read_as_declared() -> None:
    create = {method.name: method for method in methods_of(SERVICES["resource"])}["CreateClaim"]
    assert create.path == "/mulligan.resource.v1.ResourceService/CreateClaim"
    assert (create.permission, create.scope) == ("resource.claim.create", options_pb2.SCOPE_PROJECT)
    assert (create.region_field, create.fan_out, create.retry_safe, create.solo) == (
        "region",
        FanOut.FIRST,
        True,
        False,
    )
    lists = {method.name for method in methods_of(SERVICES["resource"]) if method.paged}
    assert lists == {"ListProviderGroups", "ListProviders", "ListClaims", "ListQuotas"}


@pytest.mark.parametrize(
    ("options", "lack"),
    [
        ({"route": ONE}, "authz"),
        ({"authz": ANYONE}, "route"),
        ({"authz": options_pb2.Authz(permission="a.b.c"), "route": ONE}, "scope"),
        ({"authz": options_pb2.Authz(scope=options_pb2.SCOPE_SYSTEM), "route": ONE}, "permission"),
        ({"authz": ANYONE, "route": options_pb2.Route(retry_safe=True)}, "fans out"),
        ({"authz": ANYONE, "route": options_pb2.Route(fan_out="FAN_OUT_NONE", region_field="absent")}, "absent"),
        ({"authz": ANYONE, "route": options_pb2.Route(fan_out="FAN_OUT_NONE", region_field="count")}, "count"),
        (
            {
                "authz": ANYONE,
                "route": options_pb2.Route(fan_out="FAN_OUT_FIRST", region_field="region"),
                "client_streaming": True,
            },
            "one shard",
        ),
    ],
)
def test_a_method_that_says_too_little_stops_the_start(options: dict[str, Any], lack: str) -> None:
    with pytest.raises(InvalidMethod, match=lack):
        methods_of(service(**options))


def test_the_descriptor_that_the_refusals_are_made_from_is_accepted_when_complete() -> None:
    route = options_pb2.Route(fan_out="FAN_OUT_NONE", region_field="region")
    (method,) = methods_of(service(authz=ANYONE, route=route))
    assert method.anonymous
    assert method.service == "test"
