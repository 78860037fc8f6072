"""A whole system with machines behind it, as a tenant sees it: machines begin, come to a step, end, are checked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import asyncpg

from cluster.status import host_status
from mulligan.api.control.v1 import machine_pb2, operation_pb2
from mulligan.api.control.v1.machine_pb2 import BmcConfig, Machine
from mulligan.api.control.v1.operation_pb2 import Operation
from mulligan.api.resource.v1 import claim_pb2
from mulligan.api.resource.v1.claim_pb2 import Claim, ClaimSpec, ProviderGroupConstraint, RequestGroup
from mulligan.client import Client, Credentials
from mulligan.errors import MulliganError
from mulligan.ids import new_id
from mulligan.inventory import load_deployment, packaged_deployment
from mulligan.park import Park, ParkOptions
from mulligan.resource.audit import overcommitted
from mulligan.stores.addresses import Addresses
from tests.system import System, running_system
from tests.waiting import eventually

RACK = "east-row1-rack1"
RACK_NODES = 20
# Long enough to be caught waiting for its machine, on a busy host too.
BOOT_S = 2.0

CALL_S = 60.0
OPERATION_S = 120.0
HEALTHY_S = 120.0

SUCCEEDED = operation_pb2.OPERATION_STATE_SUCCEEDED
FAILED = operation_pb2.OPERATION_STATE_FAILED
MACHINE_ACTIVE = machine_pb2.MACHINE_STATE_ACTIVE
MACHINE_FAILED = machine_pb2.MACHINE_STATE_FAILED
CLAIM_ACTIVE = claim_pb2.CLAIM_STATE_ACTIVE
RELEASED = claim_pb2.CLAIM_STATE_RELEASED


@dataclass(frozen=True)
class Life:
    """One machine from its claim on."""

    claim: str
    machine: str
    # Its provision.
    operation: str
    # Of its BMC in the park.
    number: int
    # What the park had counted before.
    before: Mapping[str, int]


@dataclass
class Field:
    """The system, those who use it, and what it has told them."""

    system: System
    operator: Client
    tenant: Client
    region: str
    # Provider groups by the ends of their names: rack1, rack2 …
    racks: Mapping[str, str]
    park: Park
    # Providers that have a BMC, with its number.
    numbers: Mapping[str, int]
    # Every claim that was acknowledged, with the state that it must be in.
    claims: dict[str, int] = field(default_factory=dict)
    # Seconds from a kill until work was done and until all was healthy again, by victim.
    recoveries: dict[str, tuple[float, float]] = field(default_factory=dict)

    def whole_machine(self, rack: str = "rack1") -> ClaimSpec:
        """One machine of a rack for oneself."""
        where = ProviderGroupConstraint(require=[self.racks[rack]])
        return ClaimSpec(groups=[RequestGroup(name="machine", provider_groups=where, exclusive=True)])

    async def claim(self, rack: str = "rack1") -> Claim:
        """A machine's claim."""
        spec = self.whole_machine(rack)
        claim = (await self.tenant.resource.create_claim(region=self.region, spec=spec, timeout_s=CALL_S)).claim
        self.claims[claim.id] = CLAIM_ACTIVE
        return claim

    async def begin(self, *, bmc_delay_s: float = 0.0) -> Life:
        """Claims a machine and begins to provision it; its BMC answers that late."""
        claim = await self.claim()
        number = self.numbers[claim.allocations[0].provider]
        return await self.provision(claim.id, number, delay_s=bmc_delay_s)

    async def provision(self, claim: str, number: int, **faults: bool | float) -> Life:
        """Provisions what was claimed, its BMC or machine having these faults (see Faults)."""
        before = await self.park.set_faults(number, **faults)
        answer = await self.tenant.control.provision(region=self.region, claim=claim, timeout_s=CALL_S)
        return Life(claim, answer.machine.id, answer.operation.id, number, before)

    async def counted(self, life: Life, what: str) -> int:
        """How much higher the park's count is since the life began: boots, reports, power_commands …"""
        return int((await self.park.show(life.number))[what]) - life.before[what]

    async def reach(self, life: Life, step: str) -> None:
        """Returns while that step of its provision runs; fails when the operation ends before."""
        async for answer in self.tenant.control.watch_operation(
            region=self.region, id=life.operation, timeout_s=OPERATION_S
        ):
            states = {each.name: each.state for each in answer.operation.steps}
            assert states[step] != operation_pb2.STEP_STATE_DONE, f"{step} was over before it was seen"
            if states[step] == operation_pb2.STEP_STATE_RUNNING:
                return
        raise AssertionError(f"{life.operation} ended before {step}")

    async def ended(self, operation: str) -> Operation:
        """The operation at its end, as its watcher is told, whatever happens to the watch on the way."""
        last = Operation()
        async for answer in self.tenant.control.watch_operation(
            region=self.region, id=operation, timeout_s=OPERATION_S
        ):
            last = answer.operation
        assert last.state in (SUCCEEDED, FAILED), last
        return last

    async def machine(self, life: Life) -> Machine:
        """As it is now."""
        answer = await self.tenant.control.get_machine(region=self.region, id=life.machine, timeout_s=CALL_S)
        return answer.machine

    async def retire(self, life: Life) -> None:
        """Decommissions it: off, its claim given back."""
        await self.retired(life, await self.decommission(life))

    async def decommission(self, life: Life) -> str:
        """Begins to; the operation's id."""
        answer = await self.tenant.control.decommission(region=self.region, machine=life.machine, timeout_s=CALL_S)
        # Until the operation ends it may be either.
        del self.claims[life.claim]
        return answer.operation.id

    async def retired(self, life: Life, decommission: str) -> None:
        """The decommission ends well."""
        operation = await self.ended(decommission)
        assert operation.state == SUCCEEDED, operation.error
        self.claims[life.claim] = RELEASED
        assert (await self.park.show(life.number))["power"] == "off"

    async def healthy(self) -> None:
        """Returns when everything works: the host's processes, and all that the gateways know of."""
        await eventually(lambda: host_status(self.system.settings).ready, HEALTHY_S)
        await eventually(self._is_healthy, HEALTHY_S)

    async def _is_healthy(self) -> bool:
        try:
            return (await self.operator.catalog.get_status(timeout_s=10)).healthy
        except MulliganError:
            return False

    async def check_books(self) -> None:
        """Nothing is over-committed, and every acknowledged claim is there in its state."""
        connection = await asyncpg.connect(Addresses.load(self.system.settings).postgres, timeout=10)
        try:
            assert await overcommitted(connection) == 0
        finally:
            await connection.close()
        wanted = dict(self.claims)
        told = self.tenant.resource.list_claims(region=self.region, timeout_s=CALL_S)
        found = {claim.id: claim.state async for claim in told}
        for id, state in wanted.items():
            if id not in found:
                claim = (await self.tenant.resource.get_claim(region=self.region, id=id, timeout_s=CALL_S)).claim
                found[id] = claim.state
            # Unless it is being given back at the moment.
            if self.claims.get(id) == state:
                assert found[id] == state, f"claim {id} is {claim_pb2.ClaimState.Name(found[id])}"


@asynccontextmanager
async def opened_field() -> AsyncIterator[Field]:
    """A system of its own with a small deployment, a tenant, and a rack of simulated machines."""
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(running_system())
        operator = await stack.enter_async_context(system.client())
        region = (await load_deployment(operator, packaged_deployment("100-shared"))).regions["east"]
        racks = {
            f"rack{number}": await operator.names.resolve("provider_group", f"east-row1-rack{number}", region)
            for number in range(1, 6)
        }
        options = ParkOptions(count=RACK_NODES, boot_url=await _boot_url(operator), boot_s=BOOT_S)
        park = await stack.enter_async_context(Park(options))
        numbers = dict(await asyncio.gather(*(_register(operator, region, park, n) for n in range(RACK_NODES))))
        tenant = await stack.enter_async_context(system.client(await _tenant(operator)))
        yield Field(system, operator, tenant, region, racks, park, numbers)


async def _boot_url(operator: Client) -> str:
    async for catalogue in operator.catalog.watch_catalog(timeout_s=30):
        for endpoint in catalogue.endpoints:
            if endpoint.service == "boot":
                return endpoint.address
    raise AssertionError("no boot endpoint")


async def _register(operator: Client, region: str, park: Park, number: int) -> tuple[str, int]:
    bmc = park.bmcs[number]
    provider = await operator.names.resolve("provider", f"{RACK}-node{number + 1}", region)
    config = BmcConfig(driver="ipmi", host=bmc.host, port=bmc.port, username=bmc.username, boot_mac=bmc.mac)
    await operator.control.register_bmc(region=region, provider=provider, config=config, password=park.options.password)
    return provider, number


async def _tenant(operator: Client) -> Credentials:
    name, password = f"user-{new_id()}", new_id()
    project = (await operator.iam.create_project(name=f"project-{new_id()}")).project.id
    user = (await operator.iam.create_user(name=name, password=password)).account.id
    await operator.iam.create_assignment(account=user, role="member", project=project)
    return Credentials(name, password, project)


def since(begun: float) -> float:
    """Seconds since then."""
    return time.monotonic() - begun
