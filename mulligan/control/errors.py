"""What goes wrong in the control service, worded once."""

from __future__ import annotations

from mulligan.control.model import Machine
from mulligan.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound

STATE_NAMES = {1: "PROVISIONING", 2: "ACTIVE", 3: "DECOMMISSIONING", 4: "DECOMMISSIONED", 5: "FAILED"}


def machine_not_found(machine: str) -> NotFound:
    """There is none, or the caller may not know of it."""
    return NotFound(f"there is no machine {machine}; ListMachines tells which there are", metadata={"machine": machine})


def operation_not_found(operation: str) -> NotFound:
    """There is none, or the caller may not know of it."""
    return NotFound(
        f"there is no operation {operation}; ListOperations tells which there are", metadata={"operation": operation}
    )


def claim_not_found(claim: str) -> NotFound:
    """There is none, or it is another project's."""
    return NotFound(f"there is no claim {claim}; ListClaims tells which there are", metadata={"claim": claim})


def bmc_not_found(provider: str) -> NotFound:
    """The provider has none here."""
    return NotFound(f"provider {provider} has no BMC; RegisterBmc adds one", metadata={"provider": provider})


def claim_not_active(claim: str, why: str) -> FailedPrecondition:
    """Its window is not now."""
    return FailedPrecondition(
        f"claim {claim} {why}; a machine can be made while the claim's window lasts",
        reason="CLAIM_NOT_ACTIVE",
        metadata={"claim": claim},
    )


def claim_of_several_providers(claim: str, count: int) -> InvalidArgument:
    """One machine is one provider."""
    return InvalidArgument(
        f"claim {claim} has allocations on {count} providers; a machine is made of a claim with one", field="claim"
    )


def provider_has_no_bmc(provider: str, region: str) -> FailedPrecondition:
    """Nothing tells how to reach the hardware."""
    return FailedPrecondition(
        f"provider {provider} has no BMC in region {region}; an operator registers it with RegisterBmc",
        reason="PROVIDER_HAS_NO_BMC",
        metadata={"provider": provider},
    )


def claim_has_machine(machine: Machine) -> AlreadyExists:
    """A claim has one machine at a time."""
    return AlreadyExists(
        f"claim {machine.claim} has machine {machine.id}, which is {STATE_NAMES[machine.state]}; decommission it first",
        metadata={"machine": machine.id, "claim": machine.claim},
    )


def provider_has_machine(provider: str) -> FailedPrecondition:
    """A machine of another claim that lasts runs there; whose it is stays untold."""
    return FailedPrecondition(
        f"a machine of another claim runs on provider {provider}: this claim shares it, an exclusive one would have"
        " reserved it whole; claim another provider, with exclusive set",
        reason="IN_USE",
        metadata={"provider": provider},
    )


def provider_is_taken_back(provider: str) -> FailedPrecondition:
    """A machine of a claim that ended was still there and is being taken back now."""
    return FailedPrecondition(
        f"provider {provider} is being taken back from its former user; try again in a moment",
        reason="IN_USE",
        metadata={"provider": provider},
        retry_after_s=5,
    )


def bmc_in_use(provider: str, machine: str) -> FailedPrecondition:
    """A machine runs there."""
    return FailedPrecondition(
        f"machine {machine} runs on provider {provider}; decommission it before its BMC is deleted or moved",
        reason="IN_USE",
        metadata={"provider": provider, "machine": machine},
    )


def mac_taken(boot_mac: str, provider: str) -> AlreadyExists:
    """Boot scripts are found by MAC address, so each is one machine's."""
    return AlreadyExists(
        f"boot_mac {boot_mac} belongs to the BMC of provider {provider}; correct it, or delete that BMC first",
        field="config.boot_mac",
        metadata={"provider": provider},
    )


def wrong_state(machine: Machine, wanted: str) -> FailedPrecondition:
    """The machine's state does not allow it; says what does."""
    return FailedPrecondition(
        f"machine {machine.id} is {STATE_NAMES[machine.state]}; {wanted}",
        metadata={"machine": machine.id, "operation": machine.operation},
    )


def wrong_region(region: str, shard: str) -> FailedPrecondition:
    """The region is served by another shard."""
    return FailedPrecondition(
        f"region {region} is served by shard {shard}; ask there, after the catalogue was read again",
        reason="WRONG_REGION",
        metadata={"region": region, "shard": shard},
    )


def machine_has_name(machine: str, name: str) -> InvalidArgument:
    """A second provision keeps the name; RenameObject changes it."""
    return InvalidArgument(
        f"machine {machine} of this claim is named {name!r}; leave name empty, or change it with RenameObject",
        field="name",
        metadata={"machine": machine},
    )
