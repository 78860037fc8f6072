"""mulligan inventory: deployments from YAML files."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mulligan.cli import options
from mulligan.cli.command import command
from mulligan.cli.session import Session
from mulligan.inventory import Deployment, LoadProgress, load_deployment, packaged_deployment, read_deployment
from mulligan.inventory.expansion import groups_of

app = typer.Typer(help="Inventory from YAML files: sites, racks, machines.", no_args_is_help=True)

Packaged = Annotated[
    bool, typer.Option("--packaged", help="FILE is one that comes along: 100-shared, 2k-shared, 2k-mixed, 10k-shared.")
]


@command(app, "check", connect=False)
async def check_file(session: Session, file: options.YamlFile, packaged: Packaged = False) -> None:
    """Read a deployment file and tell what it would make. Nothing is sent."""
    deployment = _read(file, packaged)
    layout = deployment.layout
    groups = sum(1 for site in layout.sites for _ in groups_of(deployment, site))
    counts = {"root": deployment.root, "sites": list(layout.sites), "groups": groups, "providers": layout.nodes}
    await session.print.one({**counts, "profiles": sorted(deployment.profiles)}, note="the file is good")


@command(app, "load")
async def load_file(session: Session, file: options.YamlFile, packaged: Packaged = False) -> None:
    """Make a deployment's regions, types, groups and providers. Safe to repeat: what is there is left as it is."""
    deployment = _read(file, packaged)
    begun = time.monotonic()
    with _Bars() as bars:
        report = await load_deployment(session.client, deployment, bars.show)
    seconds = time.monotonic() - begun
    counts = {key: value for key, value in asdict(report).items() if key != "regions"}
    note = f"{report.providers_made} providers made and {report.providers_kept} left as they were in {seconds:.1f} s"
    await session.print.one({**counts, "seconds": round(seconds, 3), "regions": report.regions}, note=note)


def _read(file: Path, packaged: bool) -> Deployment:
    return packaged_deployment(str(file)) if packaged else read_deployment(file)


class _Bars:
    """A progress bar for each site, on standard error, when that is a terminal."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, step: LoadProgress) -> None:
        if step.site not in self._tasks:
            self._tasks[step.site] = self._progress.add_task(step.site, total=step.total)
        self._progress.update(self._tasks[step.site], completed=step.done)
