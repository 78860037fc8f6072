"""mulligan machine: from claims to running machines, and back."""

from __future__ import annotations

from typing import Annotated

import typer

from mulligan.api.control.v1.machine_pb2 import MACHINE_STATE_FAILED, Machine, MachineConfig
from mulligan.cli import options
from mulligan.cli.command import FAILED, command
from mulligan.cli.operation import follow
from mulligan.cli.output import Format, column, local_time, named, own_name, plain, when
from mulligan.cli.session import Session, require_id

app = typer.Typer(help="Machines: made out of claims, and taken back.", no_args_is_help=True)

MachineArgument = Annotated[str, typer.Argument(metavar="MACHINE", help="Name or UUID of a machine.")]
_FORCE = "For operators, when the hardware is gone: switch nothing off, and quarantine the provider."
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Watch until it is done, or only begin it.")]


@command(app, "provision")
async def provision(
    session: Session,
    claim: Annotated[str, typer.Argument(metavar="CLAIM", help="UUID of a claim whose window is now.")],
    name: Annotated[str, typer.Option(help="Name of the machine, unique in the project.")] = "",
    kernel_url: Annotated[str, typer.Option(help="Kernel to boot. Default: the boot endpoint's own.")] = "",
    initrd_url: Annotated[str, typer.Option(help="Initial RAM disk to boot.")] = "",
    kernel_args: Annotated[str, typer.Option(help="Added to the kernel's command line.")] = "",
    region: options.Region = "",
    wait: Wait = True,
    request_id: options.Request = "",
) -> int:
    """Make a machine out of a claim, and watch it boot. Exit code 1 when that fails."""
    above = await session.region(region)
    found = await session.client.resource.get_claim(region=above, id=require_id(claim, "claim"))
    response = await session.client.control.provision(
        region=found.claim.region,
        claim=claim,
        name=name,
        config=MachineConfig(kernel_url=kernel_url, initrd_url=initrd_url, kernel_args=kernel_args),
        request_id=request_id,
    )
    session.print.note(f"machine {response.machine.id}, operation {response.operation.id}")
    if wait:
        return await follow(session, response.operation)
    await session.print.one(plain(response))
    return 0


@command(app, "decommission")
async def decommission(
    session: Session,
    machine: MachineArgument,
    region: options.Region = "",
    force: Annotated[bool, typer.Option("--force", help=_FORCE)] = False,
    wait: Wait = True,
    request_id: options.Request = "",
) -> int:
    """Take a machine back and release its claim. Exit code 1 when that fails."""
    response = await session.client.control.decommission(
        region=await session.region(region),
        machine=await session.machine(machine),
        force=force,
        request_id=request_id,
    )
    session.print.note(f"operation {response.operation.id}")
    if wait:
        return await follow(session, response.operation)
    await session.print.one(plain(response.operation))
    return 0


@command(app, "list")
async def list_machines(
    session: Session,
    region: options.Region = "",
    all: Annotated[bool, typer.Option("--all", help="Also those that were decommissioned.")] = False,
) -> None:
    """Machines of the project."""
    listing = session.client.control.list_machines(region=await session.region(region), include_decommissioned=all)
    columns = [own_name(), column("id"), named("region"), named("provider"), column("state"), when("state_since")]
    await session.print.rows([plain(each) async for each in listing], [*columns, column("state_reason", "WHY")])


@command(app, "show")
async def show_machine(session: Session, machine: MachineArgument, region: options.Region = "") -> None:
    """One machine: what is wanted, what was seen, its state and why."""
    response = await session.client.control.get_machine(
        region=await session.region(region), id=await session.machine(machine)
    )
    await session.print.one(plain(response.machine))


@command(app, "watch")
async def watch_machine(session: Session, machine: MachineArgument, region: options.Region = "") -> int:
    """Every change of a machine, until it is decommissioned. Exit code 1 when it ends as failed."""
    last = Machine()
    stream = session.client.control.watch_machine(
        region=await session.region(region), id=await session.machine(machine)
    )
    async for change in stream:
        last = change.machine
        item = plain(last)
        if session.print.format is Format.TABLE:
            since = local_time(item.get("state_since", ""))
            power = last.status.power and f"power={last.status.power} "
            session.print.note(f"{since}  {item['state']:<16} {power}{last.state_reason}".rstrip())
        else:
            session.print.stream_item(item)
    return FAILED if last.state == MACHINE_STATE_FAILED else 0
