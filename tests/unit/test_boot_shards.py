"""Which control shard answers a machine that boots, while some of them are sick."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from actors.handles import ActorDirectory
from gateways.boot import ControlShards
from mulligan.api.internal.v1.boot_pb2 import (
    BootScriptRequest,
    BootScriptResponse,
    PhoneHomeRequest,
)
from mulligan.errors import DeadlineExceeded, FailedPrecondition, MulliganError, NotFound, Unavailable

REQUEST = BootScriptRequest(mac="02:00:00:00:00:01")
SCRIPT = BootScriptResponse(script="#!ipxe\n")


@dataclass
class MemoryDirectory:
    """Control shards by name, each with its script or with what it fails with."""

    answers: dict[str, BootScriptResponse | MulliganError]
    asked: list[str] = field(default_factory=list)

    def shards(self, service: str) -> list[str]:
        return sorted(self.answers)

    async def internal(self, service: str, shard: str, method: str, request: bytes, timeout_s: float) -> bytes:
        self.asked.append(shard)
        answer = self.answers[shard]
        if isinstance(answer, MulliganError):
            raise answer
        return answer.SerializeToString()


def control(**answers: BootScriptResponse | MulliganError) -> tuple[ControlShards, MemoryDirectory]:
    directory = MemoryDirectory(answers)
    return ControlShards(cast(ActorDirectory, directory)), directory


@pytest.mark.parametrize("failure", [Unavailable("away"), DeadlineExceeded("no answer")])
async def test_a_sick_shard_does_not_stop_the_machines_of_the_others(failure: MulliganError) -> None:
    shards, directory = control(a=failure, b=NotFound("not mine"), c=SCRIPT)
    assert await shards.boot_script(REQUEST) == SCRIPT
    assert directory.asked == ["a", "b", "c"]


async def test_a_shard_that_failed_is_asked_last_until_it_answers() -> None:
    shards, directory = control(a=Unavailable("away"), b=SCRIPT)
    await shards.boot_script(REQUEST)
    directory.asked.clear()
    await shards.boot_script(REQUEST)
    assert directory.asked == ["b"]
    directory.answers = {"a": SCRIPT, "b": NotFound("not mine")}
    await shards.boot_script(REQUEST)
    directory.asked.clear()
    await shards.boot_script(REQUEST)
    assert directory.asked == ["a"]


async def test_a_machine_that_only_a_sick_shard_may_know_is_told_to_come_again() -> None:
    shards, _ = control(a=Unavailable("away"), b=NotFound("not mine"))
    with pytest.raises(Unavailable):
        await shards.boot_script(REQUEST)


async def test_what_no_shard_knows_is_not_found() -> None:
    shards, _ = control(a=NotFound("not mine"), b=NotFound("not mine"))
    with pytest.raises(NotFound):
        await shards.boot_script(REQUEST)


async def test_a_spent_token_is_an_answer() -> None:
    shards, directory = control(a=FailedPrecondition("spent"), b=SCRIPT)
    with pytest.raises(FailedPrecondition):
        await shards.phone_home(PhoneHomeRequest(token="x" * 43))
    assert directory.asked == ["a"]
