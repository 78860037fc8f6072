"""Machines, BMCs and operations as rows, and what they look like on the wire. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from google.protobuf.timestamp_pb2 import Timestamp

from mulligan.api.control.v1 import machine_pb2, operation_pb2
from mulligan.clock import to_timestamp

PROVISIONING: Final = machine_pb2.MACHINE_STATE_PROVISIONING
ACTIVE: Final = machine_pb2.MACHINE_STATE_ACTIVE
DECOMMISSIONING: Final = machine_pb2.MACHINE_STATE_DECOMMISSIONING
DECOMMISSIONED: Final = machine_pb2.MACHINE_STATE_DECOMMISSIONED
FAILED: Final = machine_pb2.MACHINE_STATE_FAILED

PROVISION: Final = operation_pb2.OPERATION_KIND_PROVISION
DECOMMISSION: Final = operation_pb2.OPERATION_KIND_DECOMMISSION

QUEUED: Final = operation_pb2.OPERATION_STATE_QUEUED
RUNNING: Final = operation_pb2.OPERATION_STATE_RUNNING
OPERATION_SUCCEEDED: Final = operation_pb2.OPERATION_STATE_SUCCEEDED
OPERATION_FAILED: Final = operation_pb2.OPERATION_STATE_FAILED

STEP_WAITING: Final = operation_pb2.STEP_STATE_WAITING
STEP_RUNNING: Final = operation_pb2.STEP_STATE_RUNNING
STEP_RETRYING: Final = operation_pb2.STEP_STATE_RETRYING
STEP_DONE: Final = operation_pb2.STEP_STATE_DONE
STEP_FAILED: Final = operation_pb2.STEP_STATE_FAILED

# Names of steps, in the task's kind and in Operation.steps.
READ_POWER: Final = "read-power"
SOFT_POWER_OFF: Final = "soft-power-off"
POWER_OFF: Final = "power-off"
SET_BOOT_DEVICE: Final = "set-boot-device"
POWER_ON: Final = "power-on"
WAIT_PHONE_HOME: Final = "wait-phone-home"
VERIFY_POWER: Final = "verify-power"
RELEASE_CLAIM: Final = "release-claim"

# What an operation of each kind does, in order. RELEASE_CLAIM is done by the control service, the rest by executors.
PLANS: Final[Mapping[int, tuple[str, ...]]] = {
    PROVISION: (READ_POWER, POWER_OFF, SET_BOOT_DEVICE, POWER_ON, WAIT_PHONE_HOME, VERIFY_POWER),
    DECOMMISSION: (SOFT_POWER_OFF, POWER_OFF, RELEASE_CLAIM),
}

# The task's kind, as its subject names it.
KIND_NAMES: Final[Mapping[int, str]] = {PROVISION: "provision", DECOMMISSION: "decommission"}


@dataclass(frozen=True, slots=True)
class Bmc:
    """How a provider's hardware is reached; without its password."""

    provider: str
    region: str
    driver: str
    host: str
    port: int
    username: str
    boot_mac: str
    update_us: int

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Bmc:
        """From a row of control.bmcs."""
        return cls(
            provider=str(row["provider"]),
            region=str(row["region"]),
            driver=row["driver"],
            host=row["host"],
            port=row["port"],
            username=row["username"],
            boot_mac=row["boot_mac"],
            update_us=row["update_us"],
        )

    def to_message(self) -> machine_pb2.Bmc:
        """As it goes over the wire."""
        config = machine_pb2.BmcConfig(
            driver=self.driver, host=self.host, port=self.port, username=self.username, boot_mac=self.boot_mac
        )
        return machine_pb2.Bmc(
            provider=self.provider, region=self.region, config=config, update_time=to_timestamp(self.update_us)
        )


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine of a project. Times are microseconds since the epoch; None: never."""

    id: str
    region: str
    project: str
    claim: str
    # None: the claim is open-ended.
    claim_end_us: int | None
    provider: str
    kernel_url: str
    initrd_url: str
    kernel_args: str
    state: int
    state_since_us: int
    state_reason: str
    state_deadline_us: int | None
    operation: str
    fence: int
    version: int
    power: str
    power_read_us: int | None
    netboot_us: int | None
    boot_script_us: int | None
    phone_home_us: int | None
    evidence: str
    fault: str
    create_us: int

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Machine:
        """From a row of control.machines."""
        return cls(**{name: _plain(row[name]) for name in cls.__dataclass_fields__})

    def to_message(self) -> machine_pb2.Machine:
        """As it goes over the wire."""
        return machine_pb2.Machine(
            id=self.id,
            region=self.region,
            project=self.project,
            claim=self.claim,
            provider=self.provider,
            config=machine_pb2.MachineConfig(
                kernel_url=self.kernel_url, initrd_url=self.initrd_url, kernel_args=self.kernel_args
            ),
            status=machine_pb2.MachineStatus(
                power=self.power,
                power_read_time=optional_timestamp(self.power_read_us),
                boot_script_time=optional_timestamp(self.boot_script_us),
                phone_home_time=optional_timestamp(self.phone_home_us),
                evidence=self.evidence,
            ),
            state=cast(machine_pb2.MachineState, self.state),
            state_since=to_timestamp(self.state_since_us),
            state_reason=self.state_reason,
            state_deadline=optional_timestamp(self.state_deadline_us),
            operation=self.operation,
            create_time=to_timestamp(self.create_us),
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an operation."""

    name: str
    state: int
    attempts: int
    start_us: int | None
    done_us: int | None
    evidence: str
    message: str

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Step:
        """From a row of control.steps."""
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})

    def to_message(self) -> operation_pb2.Step:
        """As it goes over the wire."""
        return operation_pb2.Step(
            name=self.name,
            state=cast(operation_pb2.StepState, self.state),
            attempts=self.attempts,
            start_time=optional_timestamp(self.start_us),
            done_time=optional_timestamp(self.done_us),
            evidence=self.evidence,
            message=self.message,
        )


@dataclass(frozen=True, slots=True)
class Operation:
    """Work on a machine."""

    id: str
    region: str
    project: str
    machine: str
    kind: int
    state: int
    error_reason: str
    error_message: str
    error_step: str
    version: int
    hold_fence: int
    create_us: int
    done_us: int | None
    steps: Sequence[Step]

    @classmethod
    def from_row(cls, row: Mapping[str, Any], steps: Sequence[Step]) -> Operation:
        """From a row of control.operations and its steps in order."""
        names = [name for name in cls.__dataclass_fields__ if name != "steps"]
        return cls(**{name: _plain(row[name]) for name in names}, steps=steps)

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.state in (OPERATION_SUCCEEDED, OPERATION_FAILED)

    def to_message(self) -> operation_pb2.Operation:
        """As it goes over the wire."""
        message = operation_pb2.Operation(
            id=self.id,
            region=self.region,
            project=self.project,
            machine=self.machine,
            kind=cast(operation_pb2.OperationKind, self.kind),
            state=cast(operation_pb2.OperationState, self.state),
            steps=[step.to_message() for step in self.steps],
            create_time=to_timestamp(self.create_us),
            done_time=optional_timestamp(self.done_us),
            etag=str(self.version),
        )
        if self.state == OPERATION_FAILED:
            message.error.reason = self.error_reason
            message.error.message = self.error_message
            message.error.step = self.error_step
        return message


def optional_timestamp(microseconds: int | None) -> Timestamp | None:
    """The instant on the wire; None for an absent one."""
    return None if microseconds is None else to_timestamp(microseconds)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | str) else str(value)
