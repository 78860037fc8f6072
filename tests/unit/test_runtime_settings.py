"""What Configure accepts. Nothing here reaches etcd: what is refused is refused before."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from mulligan.api.common.v1.common_pb2 import ServiceSettings
from mulligan.api.control.v1.request_response_pb2 import ExecutorConfigureRequest, ExecutorSettings
from mulligan.api.meta.v1.request_response_pb2 import MetaConfigureRequest
from mulligan.errors import InvalidArgument
from mulligan.ids import new_id
from mulligan.runtime_settings import RuntimeSettings, default_settings
from mulligan.stores.etcd import EtcdClient


def of_meta() -> RuntimeSettings[ServiceSettings]:
    return RuntimeSettings(EtcdClient(["127.0.0.1:1"]), "meta", ServiceSettings)


def change(**values: object) -> MetaConfigureRequest:
    settings = ServiceSettings(**values)  # type: ignore[arg-type]
    return MetaConfigureRequest(request_id=new_id(), settings=settings, update_mask=FieldMask(paths=list(values)))


def test_every_setting_has_a_default_within_its_bounds() -> None:
    for kind in (ServiceSettings, ExecutorSettings):
        settings = default_settings(kind)
        assert all(getattr(settings, field.name) for field in kind.DESCRIPTOR.fields)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("log_level", "chatty", "debug, info, warning, error"),
        ("log_level", "", "debug, info, warning, error"),
        ("max_in_flight", 0, "between 1 and 100000"),
        ("max_in_flight", 100_001, "between 1 and 100000"),
        ("max_request_bytes", 1_023, "between 1024 and 16777216"),
        ("max_request_bytes", 16_777_217, "between 1024 and 16777216"),
        ("max_deadline_seconds", 3_601, "between 1 and 3600"),
    ],
)
async def test_values_out_of_bounds_name_field_and_bounds(field: str, value: object, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said) as refused:
        await of_meta().configure(change(**{field: value}))
    assert refused.value.field == f"settings.{field}"


@pytest.mark.parametrize("field", ["max_tasks", "phone_home_seconds", "bmc_state_seconds", "step_attempts"])
async def test_executors_have_bounds_too(field: str) -> None:
    settings = RuntimeSettings(EtcdClient(["127.0.0.1:1"]), "executor", ExecutorSettings, apply_log_level=False)
    request = ExecutorConfigureRequest(request_id=new_id(), update_mask=FieldMask(paths=[field]))
    with pytest.raises(InvalidArgument) as refused:
        await settings.configure(request)
    assert refused.value.field == f"settings.{field}"


async def test_an_unknown_path_in_the_mask_is_refused() -> None:
    request = MetaConfigureRequest(request_id=new_id(), update_mask=FieldMask(paths=["verbosity"]))
    with pytest.raises(InvalidArgument, match="log_level, max_in_flight") as refused:
        await of_meta().configure(request)
    assert refused.value.field == "update_mask"


@pytest.mark.parametrize("seconds", [0, -1, 30 * 86_400 + 1])
async def test_an_expiry_out_of_bounds_is_refused(seconds: int) -> None:
    request = change(log_level="debug")
    request.expires_after.CopyFrom(Duration(seconds=seconds))
    with pytest.raises(InvalidArgument) as refused:
        await of_meta().configure(request)
    assert refused.value.field == "expires_after"


async def test_a_change_needs_a_request_id_and_a_look_does_not() -> None:
    request = change(log_level="debug")
    request.request_id = ""
    with pytest.raises(InvalidArgument) as refused:
        await of_meta().configure(request)
    assert refused.value.field == "request_id"
    assert (await of_meta().configure(MetaConfigureRequest())).max_in_flight == 1_000
