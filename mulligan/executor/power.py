"""Reaching a power state: read, command, read back. What the steps of all operations share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mulligan.api.control.v1.request_response_pb2 import ExecutorSettings
from mulligan.clock import SECOND
from mulligan.executor.drivers import Power, PowerCommand
from mulligan.executor.model import BMC_ANSWER_S, Context, Done, Outcome, Retry

# Pauses between two looks at the power state; the last one repeats.
POLL_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0)


def change_deadline_s(settings: ExecutorSettings) -> float:
    """For a step that reads, commands and reads back until bmc_state_seconds are over."""
    return settings.bmc_state_seconds + 3 * BMC_ANSWER_S


def answer_deadline_s(_: ExecutorSettings) -> float:
    """For a step that only asks."""
    return 2 * BMC_ANSWER_S


async def ensure_power(
    context: Context,
    wanted: Power,
    command: PowerCommand,
    before: Callable[[], Awaitable[None]] | None = None,
) -> Outcome:
    """Brings the machine to `wanted` unless it is there; the BMC's word after the command decides.

    `before` runs right before the command, and not when none is needed.
    """
    if await context.hardware.power() is wanted:
        return Done(f"power={wanted}")
    if before is not None:
        await before()
    await context.hardware.command(command)
    seen = await read_until(context, wanted, context.settings.bmc_state_seconds)
    if seen is wanted:
        return Done(f"power={seen}")
    message = (
        f"BMC {context.hardware.address} took the power command {command} but still says that power is {seen} after "
        f"{context.settings.bmc_state_seconds} s; look at the machine's power supply and at the BMC's event log"
    )
    return Retry("BMC_STATE_NOT_REACHED", message, f"power={seen}")


async def read_until(context: Context, wanted: Power, seconds: float) -> Power:
    """The power state when it is the wanted one, else the last one that was read within the time."""
    ends = context.clock() + int(seconds * SECOND)
    looks = 0
    while True:
        seen = await context.hardware.power()
        left_s = (ends - context.clock()) / SECOND
        if seen is wanted or left_s <= 0:
            return seen
        await context.sleep(min(POLL_PAUSES_S[min(looks, len(POLL_PAUSES_S) - 1)], left_s))
        looks += 1
