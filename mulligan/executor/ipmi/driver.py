"""The IPMI driver: what steps ask, put to the worker process."""

from __future__ import annotations

import base64
import time
from typing import Any

from mulligan.errors import Unavailable
from mulligan.executor.drivers import BmcFailure, BmcTarget, BootDevice, Power, PowerCommand
from mulligan.executor.ipmi.failures import Failure, FailureKind, explain, unreachable
from mulligan.executor.ipmi.process import NotBegun, WorkerLost, WorkerProcess

# A BMC has at least this part of its time to itself, or is asked later.
OWN_PART = 0.5


class IpmiDriver:
    """Drives BMCs over IPMI 2.0 (UDP, usually port 623)."""

    def __init__(self, worker: WorkerProcess) -> None:
        """The worker is started and closed by whoever made it."""
        self._worker = worker

    async def read_power(self, bmc: BmcTarget, timeout_s: float) -> Power:
        """Whether the machine is on."""
        return Power(await self._ask(bmc, "read-power", "", "read the power state", timeout_s))

    async def set_power(self, bmc: BmcTarget, command: PowerCommand, timeout_s: float) -> None:
        """Gives a power command."""
        await self._ask(bmc, "set-power", command.value, f"take the power command {command.value}", timeout_s)

    async def read_boot_device(self, bmc: BmcTarget, timeout_s: float) -> BootDevice:
        """The boot override."""
        value = await self._ask(bmc, "read-boot-device", "", "read the boot device", timeout_s)
        return BootDevice(name=str(value["name"]), persistent=bool(value["persistent"]))

    async def set_boot_device(self, bmc: BmcTarget, device: str, timeout_s: float) -> None:
        """Sets the boot override for the next boot."""
        await self._ask(bmc, "set-boot-device", device, f"set the boot device {device}", timeout_s)

    async def _ask(self, bmc: BmcTarget, operation: str, argument: str, doing: str, timeout_s: float) -> Any:
        # This process and the worker read the same clock.
        expires = time.monotonic() + timeout_s
        job = {
            "operation": operation,
            "argument": argument,
            "host": bmc.host,
            "port": bmc.port,
            "username": base64.b64encode(bmc.username.encode()).decode(),
            "password": base64.b64encode(bmc.password).decode(),
            "start_by": expires - OWN_PART * timeout_s,
            "expires": expires,
        }
        try:
            reply = await self._worker.request(job, timeout_s)
        except NotBegun as error:
            raise _busy(bmc) from error
        except TimeoutError:
            raise unreachable(bmc, timeout_s) from None
        except WorkerLost:
            message = (
                f"the IPMI worker was replaced while it worked on BMC {bmc.address}; nothing is known of the outcome"
            )
            raise BmcFailure("BMC_COMMAND_FAILED", message, retryable=True) from None
        if "failure" not in reply:
            return reply["value"]
        failure = Failure.from_json(reply["failure"])
        raise _busy(bmc) if failure.kind is FailureKind.EXPIRED else explain(bmc, doing, failure)


def _busy(bmc: BmcTarget) -> Unavailable:
    return Unavailable(f"BMC {bmc.address} was not asked: the IPMI worker is busy with others or does not run")
