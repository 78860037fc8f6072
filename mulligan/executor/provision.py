"""Provision: from whatever the machine does now to one that was booted from the network and phoned home.

    read-power       the BMC answers and takes our credentials
    power-off        off, so that a machine found on later was powered on by this operation
    set-boot-device  the next boot, and only that, comes from the network
    power-on         on; from now on its boot script is served
    wait-phone-home  it ran what it was given
    verify-power     it is still on

Every step looks before it acts, so each may run again after any interruption: no command toggles or resets, and the
one boot from the network is not used up twice.
"""

from __future__ import annotations

from typing import Final

from mulligan.api.control.v1.request_response_pb2 import ExecutorSettings
from mulligan.clock import SECOND
from mulligan.control import model
from mulligan.executor.drivers import Power, PowerCommand
from mulligan.executor.model import Context, Done, Failed, HomeStatus, Outcome, Retry, Step
from mulligan.executor.power import answer_deadline_s, change_deadline_s, ensure_power

NETWORK: Final = "network"

# Left to a wait that is taken up again after its time was over already, by an executor that was away.
LAST_LOOK_S: Final = 1


async def read_power(context: Context) -> Outcome:
    """The BMC answers."""
    return Done(f"power={await context.hardware.power()}")


async def power_off(context: Context) -> Outcome:
    """Whatever ran there is a leftover: forced off."""
    return await ensure_power(context, Power.OFF, PowerCommand.OFF)


async def set_boot_device(context: Context) -> Outcome:
    """One-shot, read back."""
    hardware = context.hardware
    await hardware.set_boot_device(NETWORK)
    read = await hardware.boot_device()
    evidence = f"bootdev={read.name}{' persistent' if read.persistent else ''}"
    if read.name == NETWORK:
        return Done(evidence)
    message = (
        f"BMC {hardware.address} took the boot device network but says {read.name}; "
        "look for a boot override in the machine's setup that forbids it"
    )
    return Retry("BMC_STATE_NOT_REACHED", message, evidence)


async def power_on(context: Context) -> Outcome:
    """Its boot script is served from right before the command on."""
    return await ensure_power(context, Power.ON, PowerCommand.ON, before=context.open_netboot)


async def wait_phone_home(context: Context) -> Outcome:
    """Fails when the time is up: nothing that could be repeated would change that."""
    seconds = context.settings.phone_home_seconds
    ends = max(context.started_us + seconds * SECOND, context.clock() + LAST_LOOK_S * SECOND)
    home = await context.wait_home(ends)
    if home.phone_home_us is not None:
        return Done(home.evidence)
    return Failed("PHONE_HOME_MISSING", _missing(home, seconds), home.evidence)


def _missing(home: HomeStatus, seconds: int) -> str:
    if home.boot_script_us is None:
        return (
            f"the machine is on but did not ask for its boot script within {seconds} s; check that boot_mac is right, "
            "that it boots from the network, and that its network reaches the boot endpoint"
        )
    return (
        f"the machine fetched its boot script but did not phone home within {seconds} s; "
        "look at its console: the kernel or initrd of the machine's config may not start"
    )


async def verify_power(context: Context) -> Outcome:
    """A machine that phoned home and went off again is not provisioned."""
    seen = await context.hardware.power()
    if seen is Power.ON:
        return Done(f"power={seen}")
    message = f"the machine phoned home but BMC {context.hardware.address} says that it is off; look at its console"
    return Retry("BMC_STATE_NOT_REACHED", message, f"power={seen}")


def _phone_home_deadline_s(settings: ExecutorSettings) -> float:
    return settings.phone_home_seconds


STEPS: Final = (
    Step(model.READ_POWER, read_power, answer_deadline_s),
    Step(model.POWER_OFF, power_off, change_deadline_s),
    Step(model.SET_BOOT_DEVICE, set_boot_device, answer_deadline_s),
    Step(model.POWER_ON, power_on, change_deadline_s, powers_on=True),
    Step(model.WAIT_PHONE_HOME, wait_phone_home, _phone_home_deadline_s),
    Step(model.VERIFY_POWER, verify_power, answer_deadline_s),
)
