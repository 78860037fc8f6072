"""`mulligan demo`: the main job from nothing to a provisioned machine and back, through the gateways alone.

After bootstrap everything goes through the smart client, as an operator's and a tenant's programs would do it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.json_format import MessageToDict

from cluster.bootstrap import bring_up, settings_for
from cluster.down import bring_down
from cluster.status import HostStatus
from mulligan.api.catalog.v1.catalog_service_pb2 import GetStatusResponse
from mulligan.api.control.v1 import machine_pb2, operation_pb2
from mulligan.api.resource.v1.claim_pb2 import Claim, ClaimSpec
from mulligan.client import Client, Credentials
from mulligan.clock import now_us
from mulligan.config import Settings
from mulligan.errors import FailedPrecondition
from mulligan.ids import new_id
from mulligan.inventory import load_deployment, packaged_claim, packaged_deployment, resolve_claim
from mulligan.park import Park, ParkBmc, ParkOptions

DEPLOYMENT = "2k-shared"
SITE = "east"
RACK = "east-row1-rack1"
NODES = 20
OPERATION_DEADLINE_S = 120

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What the last line reports."""

    machine: str
    provisioned_s: float
    decommissioned_s: float


async def play(say: Say) -> Outcome:
    """Brings a system up in a folder of its own, runs the demo on it, and takes everything down whatever happened."""
    _end_in_order_on_signals()
    with tempfile.TemporaryDirectory(prefix="mulligan-demo-") as folder:
        # The user's own client file stays as it is.
        os.environ["XDG_CONFIG_HOME"] = f"{folder}/config"
        settings = settings_for({"state_dir": Path(folder) / "state", "port": 0}, environment={})
        begun = time.monotonic()
        try:
            addresses = await bring_up(settings, _Follower(say))
            say(f"bootstrap: all healthy after {time.monotonic() - begun:.1f} s; gateways {' '.join(addresses)}")
            return await run_demo(settings, addresses, say)
        finally:
            say("draining and stopping everything")
            await bring_down(settings)
            say("stopped; no process is left")


def _end_in_order_on_signals() -> None:
    """A closed terminal or `timeout` ends the demo as Ctrl-C does: with nothing left behind."""
    playing = asyncio.current_task()
    assert playing is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, playing.cancel)


class _Follower:
    """Tells once when a part of the host becomes ready."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._told: set[str] = set()

    def __call__(self, status: HostStatus) -> None:
        for child in status.children:
            if child.ready and child.name not in self._told:
                self._told.add(child.name)
                self._say(f"  {child.name} is ready")


async def run_demo(settings: Settings, addresses: list[str], say: Say) -> Outcome:
    """Plays operator, then tenant, on the running system of these settings; raises MulliganError with the cause."""
    admin_file = settings.state_dir / "secrets" / "admin.json"
    admin = json.loads(admin_file.read_text())
    ca_file = settings.state_dir / "tls" / "ca.crt"

    def connect(credentials: Credentials) -> Client:
        return Client.connect(addresses, ca_file=ca_file, credentials=credentials)

    async with AsyncExitStack() as stack:
        operator = await stack.enter_async_context(connect(Credentials(admin["account"], admin["secret"])))
        region = await _load(operator, say)
        await stack.enter_async_context(_park(operator, region, say))
        robot = await _make_tenant(operator, connect, say)
        tenant = await stack.enter_async_context(connect(robot))
        outcome = await _use(tenant, region, say)
        _tell_status(await operator.catalog.get_status(), say)
        return outcome


async def _load(operator: Client, say: Say) -> str:
    """Loads the deployment; answers the UUID of the site's region."""
    begun = time.monotonic()
    report = await load_deployment(operator, packaged_deployment(DEPLOYMENT))
    say(f"loaded {report.providers_made} providers of {DEPLOYMENT} in {time.monotonic() - begun:.1f} s")
    return report.regions[SITE]


@asynccontextmanager
async def _park(operator: Client, region: str, say: Say) -> AsyncIterator[Park]:
    """Simulated machines with real IPMI in front of them, registered to the nodes of one rack."""
    options = ParkOptions(count=NODES, boot_url=await _boot_url(operator), password=new_id()[:16])
    async with Park(options) as park:
        for bmc in park.bmcs:
            await _register(operator, region, f"{RACK}-node{bmc.number + 1}", bmc, options.password)
        say(f"started {NODES} simulated BMCs (IPMI 2.0) and registered them to {RACK}")
        yield park


async def _boot_url(operator: Client) -> str:
    async for catalogue in operator.catalog.watch_catalog(timeout_s=30):
        for endpoint in catalogue.endpoints:
            if endpoint.service == "boot":
                return endpoint.address
    raise FailedPrecondition("no boot endpoint is in the catalogue; look at `mulligan status`")


async def _register(operator: Client, region: str, node: str, bmc: ParkBmc, password: str) -> None:
    config = machine_pb2.BmcConfig(driver="ipmi", host=bmc.host, port=bmc.port, username=bmc.username, boot_mac=bmc.mac)
    provider = await operator.names.resolve("provider", node, region)
    await operator.control.register_bmc(region=region, provider=provider, config=config, password=password)


async def _make_tenant(operator: Client, connect: Callable[[Credentials], Client], say: Say) -> Credentials:
    """A project, a user in it, and an application credential that the user makes for its programs."""
    password = new_id()
    project = (await operator.iam.create_project(name="lab")).project.id
    user = (await operator.iam.create_user(name="ada", password=password)).account.id
    await operator.iam.create_assignment(account=user, role="member", project=project)
    async with connect(Credentials("ada", password, "lab")) as ada:
        robot = await ada.iam.create_application_credential(name="ada-robot", roles=["member"])
    say("made project lab, user ada and the application credential ada-robot; logged in as ada, then as ada-robot")
    return Credentials("ada-robot", robot.secret, "lab")


async def _use(tenant: Client, region: str, say: Say) -> Outcome:
    """Claims, provisions, reserves and gives back, as a tenant."""
    claim = await _claim(tenant, region, say)
    begun = time.monotonic()
    provision = await tenant.control.provision(region=region, claim=claim.id, name="web1")
    machine = provision.machine.id
    await _follow(tenant, region, provision.operation.id, say)
    provisioned_s = time.monotonic() - begun
    await _show(tenant, region, machine, say)
    await _reserve(tenant, region, say)
    begun = time.monotonic()
    decommission = await tenant.control.decommission(region=region, machine=machine)
    await _follow(tenant, region, decommission.operation.id, say)
    decommissioned_s = time.monotonic() - begun
    await _check_released(tenant, region, claim.id, say)
    return Outcome(machine, provisioned_s, decommissioned_s)


async def _claim(tenant: Client, region: str, say: Say) -> Claim:
    spec = await _smallest_machine(tenant, region)
    explained = await tenant.resource.explain_claim(region=region, spec=spec)
    for step in explained.groups[0].funnel:
        say(f"  explain: {step.left:>5} providers left after {step.constraint}")
    claim = (await tenant.resource.create_claim(region=region, spec=spec)).claim
    say(f"claimed {', '.join(f'{item.amount} {item.resource_type}' for item in claim.allocations)}: claim {claim.id}")
    return claim


async def _smallest_machine(tenant: Client, region: str) -> ClaimSpec:
    """The smallest machine of the packaged claims, in the rack that has BMCs."""
    spec = await resolve_claim(tenant, packaged_claim("1cpu-64m-10g"), region, now_us())
    rack = await tenant.names.resolve("provider_group", RACK, region)
    spec.groups[0].provider_groups.require.append(rack)
    return spec


async def _follow(tenant: Client, region: str, operation_id: str, say: Say) -> None:
    """Tells each step as it changes; raises FailedPrecondition when the operation fails."""
    told: dict[str, int] = {}
    operation = operation_pb2.Operation()
    async for answer in tenant.control.watch_operation(region=region, id=operation_id, timeout_s=OPERATION_DEADLINE_S):
        operation = answer.operation
        for step in operation.steps:
            if told.get(step.name) != step.state and step.state != operation_pb2.STEP_STATE_WAITING:
                told[step.name] = step.state
                state = operation_pb2.StepState.Name(step.state).removeprefix("STEP_STATE_").lower()
                say(f"  {step.name}: {state} {step.evidence or step.message}".rstrip())
    if operation.state != operation_pb2.OPERATION_STATE_SUCCEEDED:
        raise FailedPrecondition(
            f"operation {operation_id} failed at {operation.error.step}: {operation.error.message}"
        )


async def _show(tenant: Client, region: str, machine_id: str, say: Say) -> None:
    machine = (await tenant.control.get_machine(region=region, id=machine_id)).machine
    if machine.state != machine_pb2.MACHINE_STATE_ACTIVE:
        raise FailedPrecondition(f"machine {machine_id} is not active: {machine.state_reason}")
    say(f"machine {machine_id} is active: {machine.state_reason}")
    shown = MessageToDict(machine, preserving_proto_field_name=True)
    for key in ("provider", "claim", "status"):
        say(f"  {key}: {json.dumps(shown.get(key))}")


async def _reserve(tenant: Client, region: str, say: Say) -> None:
    spec = await resolve_claim(tenant, packaged_claim("reservation-next-week"), region, now_us())
    claim = (await tenant.resource.create_claim(region=region, spec=spec)).claim
    acquire, release = claim.acquire.ToDatetime(), claim.release.ToDatetime()
    say(f"reserved a whole machine from {acquire:%Y-%m-%d %H:%M} to {release:%Y-%m-%d %H:%M} UTC: claim {claim.id}")


async def _check_released(tenant: Client, region: str, claim_id: str, say: Say) -> None:
    claim = (await tenant.resource.get_claim(region=region, id=claim_id)).claim
    name = MessageToDict(claim).get("state", "")
    if name != "CLAIM_STATE_RELEASED":
        raise FailedPrecondition(f"claim {claim_id} is {name}, not released")
    say("machine decommissioned, its claim released")


def _tell_status(status: GetStatusResponse, say: Say) -> None:
    for part in status.components:
        say(f"  {'ok  ' if part.healthy else 'DOWN'} {part.kind:<10} {part.name:<28} {part.detail}".rstrip())
    if not status.healthy:
        sick = ", ".join(part.name for part in status.components if not part.healthy)
        raise FailedPrecondition(f"not healthy at the end: {sick}")
