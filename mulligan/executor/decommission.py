"""Decommission: the machine is off, as its BMC says, before its claim is given back.

    soft-power-off  its operating system is asked, and given some time
    power-off       off, whatever it takes

The control service then releases the claim.
"""

from __future__ import annotations

from typing import Final

from mulligan.control import model
from mulligan.executor.drivers import BmcFailure, Power, PowerCommand
from mulligan.executor.model import Context, Done, Outcome, Step
from mulligan.executor.power import change_deadline_s, ensure_power, read_until

# An operating system that did not go down in this time is not waited for.
SOFT_OFF_S: Final = 60


async def soft_power_off(context: Context) -> Outcome:
    """Never fails for a machine that does not listen: the next step does not ask."""
    if await context.hardware.power() is Power.OFF:
        return Done(f"power={Power.OFF}")
    try:
        await context.hardware.command(PowerCommand.SOFT_OFF)
    except BmcFailure as failure:
        if failure.reason != "BMC_COMMAND_FAILED":
            raise
        return Done(f"power={Power.ON} soft-off=refused")
    seen = await read_until(context, Power.OFF, min(SOFT_OFF_S, context.settings.bmc_state_seconds))
    return Done(f"power={seen}")


async def power_off(context: Context) -> Outcome:
    """Forced, read back."""
    return await ensure_power(context, Power.OFF, PowerCommand.OFF)


STEPS: Final = (
    Step(model.SOFT_POWER_OFF, soft_power_off, change_deadline_s),
    Step(model.POWER_OFF, power_off, change_deadline_s),
)
