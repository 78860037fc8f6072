"""How an executor reaches a machine's hardware, whatever its BMC speaks."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Power(StrEnum):
    """What a BMC says about its machine."""

    ON = "on"
    OFF = "off"


class PowerCommand(StrEnum):
    """What a BMC is told. Each may be repeated: none of them toggles or resets."""

    ON = "on"
    OFF = "off"
    # Asks the operating system, which may take its time or refuse.
    SOFT_OFF = "soft-off"


@dataclass(frozen=True, slots=True)
class BootDevice:
    """The boot override that a BMC holds: "network", "disk", "default" …"""

    name: str
    # For every boot, not for the next one only.
    persistent: bool


@dataclass(frozen=True, slots=True)
class BmcTarget:
    """Where a BMC is and who may log in to it. Its text form shows no password."""

    driver: str
    host: str
    port: int
    username: str
    password: bytes = field(repr=False)

    @property
    def address(self) -> str:
        """For people: 10.1.2.3:623 or [fd00::1]:623."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class BmcFailure(Exception):
    """A BMC did not do what it was asked to. The message is for the operator and holds no secret."""

    def __init__(self, reason: str, message: str, *, retryable: bool) -> None:
        """`reason` is one of mulligan.common.v1.ErrorReason without its prefix."""
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retryable = retryable


class Driver(Protocol):
    """One kind of BMC. Every method raises BmcFailure, after `timeout_s` seconds at the latest.

    It raises Unavailable when the BMC was not asked, which is no fault of its own: that is tried until it can be.
    Once a method has returned or raised, nothing of what it was asked comes into force any more; when it is cancelled
    that holds from `timeout_s` on.
    """

    async def read_power(self, bmc: BmcTarget, timeout_s: float) -> Power:
        """Whether the machine is on, as the BMC tells now."""

    async def set_power(self, bmc: BmcTarget, command: PowerCommand, timeout_s: float) -> None:
        """Gives the command; that the BMC took it does not mean that the machine obeys."""

    async def read_boot_device(self, bmc: BmcTarget, timeout_s: float) -> BootDevice:
        """The override for the next boot, as the BMC tells now."""

    async def set_boot_device(self, bmc: BmcTarget, device: str, timeout_s: float) -> None:
        """Sets the override for the next boot only."""
