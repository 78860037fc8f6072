"""What the control service is told about the claims of its machines."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mulligan.api.internal.v1.claims_pb2 import FindEndedClaimsRequest
from mulligan.clock import SECOND, now_us
from mulligan.ids import new_id
from mulligan.resource.ended import find_ended_claims
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.resource_parts import HOUR, Shard, running_shard, spec_of
from tests.waiting import eventually


@pytest.fixture
async def shard(fresh_addresses: Addresses, etcd: EtcdClient) -> AsyncIterator[Shard]:
    async with running_shard(fresh_addresses, etcd) as running:
        yield running


async def test_claims_that_were_released_are_over_or_are_not_there_have_ended(shard: Shard) -> None:
    await shard.provider()
    endless, later = await shard.claim(spec_of()), await shard.claim(spec_of(end=now_us() + HOUR))
    short, released = await shard.claim(spec_of(end=now_us() + SECOND)), await shard.claim(spec_of())
    await shard.release(released.id)
    unknown = new_id()
    asked = FindEndedClaimsRequest(claims=[endless.id, short.id, later.id, released.id, unknown])

    async def told() -> bool:
        answer = await find_ended_claims(shard.service.core, asked)
        return list(answer.ended) == [short.id, released.id, unknown]

    await eventually(told)
    assert not (await find_ended_claims(shard.service.core, FindEndedClaimsRequest())).ended
