"""`mulligan`: the commands that speak to a system. `cluster.cli` adds those that only a host itself can do."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mulligan import __version__
from mulligan.cli import (
    account,
    bmc,
    claim,
    context,
    credential,
    group,
    inventory,
    login,
    machine,
    name,
    operation,
    park,
    project,
    provider,
    quota,
    region,
    role,
    service,
    status,
    vocabulary,
)

EXIT_CODES = """\
Exit codes: 0 done; 1 it failed or is not healthy; 2 wrong input; 3 not logged in; 4 not allowed; 5 not found; \
6 conflict; 7 no capacity, quota or too many requests; 8 no answer or not in time; 70 a fault; 130 interrupted.
"""

app = typer.Typer(
    name="mulligan",
    help="Inventory, claims and machines. Everything takes names or UUIDs, and --output table, json or yaml.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Benchmarks need a system of their own; `mulligan bench` is filled by who owns them: `@bench.command("claims")`.
bench = typer.Typer(help="Measure a system.", no_args_is_help=True)

_PANELS = {
    login.PANEL: {"context": context.app},
    "Tenants and access": {
        "project": project.app,
        "account": account.app,
        "credential": credential.app,
        "role": role.app,
        "assignment": role.assignments,
    },
    "Places and machines": {
        "region": region.app,
        "name": name.app,
        "tag": name.tags,
        "vocabulary": vocabulary.app,
        "group": group.app,
        "provider": provider.app,
        "inventory": inventory.app,
        "bmc": bmc.app,
    },
    "Using machines": {
        "claim": claim.app,
        "quota": quota.app,
        "machine": machine.app,
        "operation": operation.app,
    },
    "The system": {"service": service.app, "park": park.app, "bench": bench},
}


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where a fault of this program is.")] = False,
) -> None:
    pass


login.add_to(app)
status.add_to(app)
quota.add_to(app)
for _panel, _apps in _PANELS.items():
    for _name, _app in _apps.items():
        app.add_typer(_app, name=_name, rich_help_panel=_panel)


def main() -> int:
    """Runs one command; returns a process exit code."""
    app(prog_name="mulligan")
    return 0


if __name__ == "__main__":
    sys.exit(main())
