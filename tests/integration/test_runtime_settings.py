"""Runtime settings on a real etcd: everywhere within a second, back again after their time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from mulligan.api.common.v1.common_pb2 import ServiceSettings
from mulligan.api.meta.v1.request_response_pb2 import MetaConfigureRequest
from mulligan.caller import Caller
from mulligan.errors import Aborted
from mulligan.ids import new_id
from mulligan.runtime_settings import RuntimeSettings
from mulligan.stores import keys
from mulligan.stores.etcd import EtcdClient

ADMIN = Caller(account=new_id(), project="", grants=(), system=True)
OTHER = Caller(account=new_id(), project="", grants=(), system=True)


@pytest.fixture(autouse=True)
def root_level() -> Iterator[None]:
    """The log level of this process is what these tests change."""
    before = logging.getLogger().level
    logging.getLogger().setLevel("INFO")
    yield
    logging.getLogger().setLevel(before)


@pytest.fixture
def service() -> str:
    return f"test-{new_id()}"


@asynccontextmanager
async def process(etcd: EtcdClient, service: str) -> AsyncIterator[RuntimeSettings[ServiceSettings]]:
    settings = RuntimeSettings(etcd, service, ServiceSettings)
    await settings.start()
    yield settings
    await settings.close()


def change(expires_s: float = 0, validate_only: bool = False, **values: object) -> MetaConfigureRequest:
    settings = ServiceSettings(**values)  # type: ignore[arg-type]
    request = MetaConfigureRequest(request_id=new_id(), settings=settings, update_mask=FieldMask(paths=list(values)))
    request.validate_only = validate_only
    if expires_s:
        request.expires_after.CopyFrom(Duration(nanos=int(expires_s * 1e9)))
    return request


async def told(settings: RuntimeSettings[ServiceSettings], **values: object) -> float:
    """Waits until the values are in force; seconds that it took."""
    began = time.monotonic()
    changed = asyncio.Event()
    settings.on_change.append(lambda _: changed.set())
    async with asyncio.timeout(10):
        while any(getattr(settings.current, name) != value for name, value in values.items()):
            await changed.wait()
            changed.clear()
    return time.monotonic() - began


async def test_a_change_is_everywhere_within_a_second_and_after_a_restart(etcd: EtcdClient, service: str) -> None:
    async with process(etcd, service) as here, process(etcd, service) as there:
        answer = await here.configure(change(log_level="debug", max_in_flight=7), ADMIN)
        assert (answer.log_level, answer.max_in_flight, answer.max_deadline_seconds) == ("debug", 7, 60)
        assert here.current == answer
        assert await told(there, max_in_flight=7) < 1
        assert logging.getLogger().level == logging.DEBUG
    async with process(etcd, service) as again:
        assert again.current == answer


async def test_only_the_masked_fields_change(etcd: EtcdClient, service: str) -> None:
    async with process(etcd, service) as settings:
        await settings.configure(change(max_in_flight=7), ADMIN)
        request = change(max_deadline_seconds=9)
        request.settings.max_in_flight = 5
        assert (await settings.configure(request, ADMIN)).max_in_flight == 7
        assert (await settings.configure(MetaConfigureRequest(), ADMIN)).max_deadline_seconds == 9


async def test_validate_only_changes_nothing(etcd: EtcdClient, service: str) -> None:
    async with process(etcd, service) as settings:
        answer = await settings.configure(change(max_in_flight=7, validate_only=True), ADMIN)
        assert answer.max_in_flight == 7
        assert settings.current.max_in_flight == 1_000
        assert not (await etcd.kv.get(keys.settings(service))).kvs


async def test_a_temporary_value_gives_way_to_the_former_one(etcd: EtcdClient, service: str) -> None:
    async with process(etcd, service) as here, process(etcd, service) as there:
        await here.configure(change(max_in_flight=7), ADMIN)
        await here.configure(change(max_in_flight=8, log_level="debug", expires_s=0.8), ADMIN)
        await told(there, max_in_flight=8, log_level="debug")
        for each in (here, there):
            assert await told(each, max_in_flight=7, log_level="info") < 1.5
        assert logging.getLogger().level == logging.INFO
    async with process(etcd, service) as again:
        assert again.current.max_in_flight == 7


async def test_a_temporary_value_ends_while_nobody_runs(etcd: EtcdClient, service: str) -> None:
    clock = time.time_ns() // 1000
    early = RuntimeSettings(etcd, service, ServiceSettings, clock=lambda: clock)
    await early.start()
    await early.configure(change(max_in_flight=8, expires_s=0.9), ADMIN)
    assert early.current.max_in_flight == 8
    await early.close()
    late = RuntimeSettings(etcd, service, ServiceSettings, clock=lambda: clock + 900_000)
    await late.start()
    assert late.current.max_in_flight == 1_000
    await late.configure(change(max_deadline_seconds=9), ADMIN)
    assert late.current.max_in_flight == 1_000
    await late.close()


async def test_a_retry_does_not_undo_what_came_after_it(etcd: EtcdClient, service: str) -> None:
    async with process(etcd, service) as settings:
        first = change(max_in_flight=7)
        await settings.configure(first, ADMIN)
        await settings.configure(change(max_in_flight=8), ADMIN)
        assert (await settings.configure(first, ADMIN)).max_in_flight == 8
        assert (await settings.configure(first, OTHER)).max_in_flight == 7
        first.settings.max_in_flight = 9
        with pytest.raises(Aborted) as refused:
            await settings.configure(first, ADMIN)
        assert refused.value.reason == "REQUEST_ID_REUSED"


async def test_changes_at_the_same_time_are_all_made(etcd: EtcdClient, service: str) -> None:
    async with process(etcd, service) as here, process(etcd, service) as there:
        requests = [change(max_in_flight=7), change(max_deadline_seconds=9), change(max_request_bytes=2_048)]
        await asyncio.gather(
            *(each.configure(request, ADMIN) for request, each in zip(requests, (here, there, here), strict=True))
        )
        for each in (here, there):
            await told(each, max_in_flight=7, max_deadline_seconds=9, max_request_bytes=2_048)


async def test_rubbish_in_etcd_leaves_the_defaults_in_force(etcd: EtcdClient, service: str) -> None:
    for rubbish in (b"rubbish", b"[]", b'{"settings":{"max_in_flight":{"value":"many"},"later":{"value":1}}}'):
        await etcd.kv.put(keys.settings(service), rubbish)
        async with process(etcd, service) as settings:
            assert settings.current.max_in_flight == 1_000
