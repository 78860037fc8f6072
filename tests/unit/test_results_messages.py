"""Which messages of the results stream can never be saved."""

from __future__ import annotations

from typing import Any, cast

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from actors.results import ResultsActor
from mulligan.api.internal.v1.task_pb2 import StepResult
from mulligan.control.results import ResultSaver
from mulligan.ids import new_id
from mulligan.stores.nats import Poisoned


class MemorySaver:
    """Takes every result."""

    def __init__(self) -> None:
        self.saved: list[StepResult] = []

    async def save(self, result: StepResult) -> None:
        self.saved.append(result)


def actor() -> tuple[Any, MemorySaver]:
    """An actor outside of Ray, without its stores."""
    made, saver = object.__new__(ResultsActor), MemorySaver()
    made._saver = cast(ResultSaver, saver)
    return made, saver


@pytest.mark.parametrize("data", [b"\xff", b"", StepResult(operation="provision-1").SerializeToString()])
async def test_a_message_that_names_no_operation_is_parked(data: bytes) -> None:
    results, saver = actor()
    with pytest.raises(Poisoned):
        await results._save(Msg(Client(), data=data))
    assert saver.saved == []


async def test_a_result_is_saved() -> None:
    results, saver = actor()
    result = StepResult(operation=new_id(), step="read-power")
    await results._save(Msg(Client(), data=result.SerializeToString()))
    assert saver.saved == [result]
