"""`mulligan`: the client's commands, and those that only a host itself can do."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import fields
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mulligan.cli import app
from mulligan.cli.app import bench
from mulligan.cli.command import OutputOption, perform
from mulligan.cli.output import Format, Printer
from mulligan.config import Settings, load_settings
from mulligan.errors import FailedPrecondition, MulliganError

# What the client's commands exit with when no gateway answers.
NO_ANSWER = 8

PANEL = "This host"

ADMIN = 'The context "local" logs in as the first administrator, with the secret in {}'
NO_ADMIN = "Log in with `mulligan login ACCOUNT`: the first administrator's secret is on the first host."
RUNS = """
Mulligan runs. Gateways: {addresses}
{admin}

  mulligan status                     every dependency, service, gateway and queue
  mulligan inventory load FILE        your regions, types, groups and providers
  mulligan down                       drains and stops all of it; the state stays
"""

Act = Callable[..., Awaitable[int | None]]


def main() -> None:
    """Runs one command; a failure is one or two sentences."""
    try:
        app(prog_name="mulligan")
    except SystemExit as ended:
        if ended.code == NO_ANSWER and "status" in sys.argv[1:3]:
            _show_host()
        raise


def _with_settings(name: str, *, hidden: bool = False, tells: bool = False) -> Callable[[Act], Act]:
    """Registers a command that has an option for each setting and gets those that were given.

    `tells`: it ends with a result, so it also gets a format.
    """

    def register(act: Act) -> Act:
        def run(**flags: Any) -> None:
            output = (flags.pop("output"),) if tells else ()
            given = {setting: value for setting, value in flags.items() if value is not None}
            raise typer.Exit(perform(lambda: _with_server_parts(act, given, *output)))

        parameters = [_option(setting.name, setting.metadata["help"]) for setting in fields(Settings)]
        if tells:
            parameters.append(
                Parameter("output", Parameter.KEYWORD_ONLY, default=Format.TABLE, annotation=OutputOption)
            )
        run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name, help=act.__doc__, hidden=hidden, rich_help_panel=PANEL)(run)
        return act

    return register


def _option(name: str, help_text: str) -> Parameter:
    kind: Any = {"state_dir": Path, "port": int, "executors": int}.get(name, str)
    annotation = Annotated[kind | None, typer.Option(f"--{name.replace('_', '-')}", help=help_text)]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


async def _with_server_parts(act: Act, *arguments: Any) -> int | None:
    """Runs it; raises FailedPrecondition where only the client is installed."""
    try:
        return await act(*arguments)
    except ModuleNotFoundError as error:
        raise FailedPrecondition(
            f"this command needs {error.name}, a part of servers; pip install 'mulligan[server,embedded]'"
        ) from None


@_with_settings("bootstrap", tells=True)
async def _bootstrap(flags: dict[str, Any], output: Format) -> None:
    """Start everything that this host runs, and wait until it works. Safe to repeat."""
    from cluster.bootstrap import bring_up, settings_for
    from cluster.progress import Progress

    settings = settings_for(flags)
    console = _console(output)
    with Progress(console, f"Starting Mulligan in {settings.state_dir}") as progress:
        addresses = await bring_up(settings, progress.show)
        elapsed_s = progress.elapsed_s
        console.print(f"healthy after {elapsed_s:.1f} s")
    if output is not Format.TABLE:
        told = {"gateways": addresses, "state_dir": str(settings.state_dir), "elapsed_s": round(elapsed_s, 3)}
        await Printer(Console(), output).one(told)
        return
    _greet(console, settings, addresses)


def _greet(console: Console, settings: Settings, addresses: list[str]) -> None:
    from cluster.places import Places
    from cluster.ray_head import LOOPBACK, node_address, ray_address

    admin = Places(settings.state_dir).admin
    told = ADMIN.format(admin) if admin.exists() else NO_ADMIN
    console.print(RUNS.format(addresses=" ".join(addresses), admin=told))
    if node_address(settings) != LOOPBACK and settings.etcd and settings.nats and settings.postgres:
        console.print(
            f"Other hosts join with --ray {ray_address(settings)} and the same etcd, nats, postgres; see docs/host.md"
        )


@_with_settings("down", tells=True)
async def _down(flags: dict[str, Any], output: Format) -> None:
    """Drain and stop everything that this host runs. The state stays."""
    from cluster.down import bring_down
    from cluster.progress import Progress

    console = _console(output)
    settings = load_settings(flags)
    with Progress(console, f"Stopping Mulligan in {settings.state_dir}") as progress:
        ran = await bring_down(settings, progress.show)
        elapsed_s = progress.elapsed_s
    if output is not Format.TABLE:
        await Printer(Console(), output).one({"stopped": ran, "elapsed_s": round(elapsed_s, 3)})
        return
    console.print(f"stopped after {elapsed_s:.1f} s; no process is left" if ran else "nothing runs here")


def _console(output: Format) -> Console:
    """Where progress is shown: apart from a result that is meant for programs."""
    return Console(highlight=False, soft_wrap=True, stderr=output is not Format.TABLE)


@_with_settings("supervise", hidden=True)
async def _supervise(flags: dict[str, Any]) -> None:
    """Run this host's processes in the foreground, as bootstrap does in the background."""
    import logging

    from cluster.supervisor import LOG_FORMAT, Supervisor

    settings = load_settings(flags)
    logging.basicConfig(level=settings.log_level.upper(), format=LOG_FORMAT)
    await Supervisor(settings).run()


@app.command("demo", rich_help_panel=PANEL)
def _demo() -> None:
    """Play the main job on a system of its own: claim a simulated machine, provision it, take it back."""

    async def act() -> None:
        from cluster.demo import play

        begun = time.monotonic()
        outcome = await play(lambda line: typer.echo(f"[{time.monotonic() - begun:6.1f} s] {line}"))
        typer.echo(
            f"demo: ok machine={outcome.machine} provisioned_s={outcome.provisioned_s:.3f} "
            f"decommissioned_s={outcome.decommissioned_s:.3f}"
        )

    raise typer.Exit(perform(lambda: _with_server_parts(act)))


@bench.command("claims")
def _bench_claims(
    providers: Annotated[int, typer.Option(help="Providers to load, into a region of their own.")] = 10_000,
    callers: Annotated[int, typer.Option(help="Claims under way at once.")] = 64,
    seconds: Annotated[float, typer.Option(help="How long to measure.")] = 10.0,
    context: Annotated[str, typer.Option(help="Context of the system to measure, on this host.")] = "local",
    state_dir: Annotated[Path | None, typer.Option(help="Its state folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line, for programs.")] = False,
) -> None:
    """Claims per second over gRPC, beside a bare echo of the same run."""

    async def act() -> None:
        from cluster.bench.claims import bench_claims

        settings = load_settings({"state_dir": state_dir})

        def progress(line: str) -> None:
            typer.echo(line, err=True)

        figures = await bench_claims(settings, context, providers, callers, seconds, progress)
        lines = [json.dumps(figures)] if as_json else [f"{name:<20}{value:>12,}" for name, value in figures.items()]
        typer.echo("\n".join(lines))

    raise typer.Exit(perform(lambda: _with_server_parts(act)))


def _show_host() -> None:
    """What this host knows by itself, on standard error, when its gateways do not answer."""
    from cluster.places import Places
    from cluster.status import host_status

    try:
        settings = load_settings({})
    except MulliganError:
        return
    if not Places(settings.state_dir).children.is_dir():
        return
    status = host_status(settings)
    typer.echo(f"\nOn this host, in {settings.state_dir}:", err=True)
    if not status.running:
        typer.echo("  nothing runs; `mulligan bootstrap` starts it", err=True)
        return
    for child in status.children:
        typer.echo(f"  {child.name:<10} {child.state:<11} {child.detail or child.log}", err=True)
    if not status.supervised:
        typer.echo("  no supervisor runs, so nothing is started again; `mulligan bootstrap` repairs that", err=True)


if __name__ == "__main__":
    main()
