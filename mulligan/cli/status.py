"""mulligan status: what runs, and how well."""

from __future__ import annotations

import typer

from mulligan.cli.command import FAILED, command
from mulligan.cli.output import Format, column, plain
from mulligan.cli.session import Session


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "status", panel="The system")(show_status)


async def show_status(session: Session) -> int:
    """The health of every dependency, service, shard, gateway and queue. Exit code 1 when one is not healthy."""
    report = await session.client.catalog.get_status()
    if session.print.format is not Format.TABLE:
        await session.print.one(plain(report))
        return 0 if report.healthy else FAILED
    rows = [
        {**plain(part), "health": "ok" if part.healthy else "DOWN", "latency": f"{part.latency_ms:.1f} ms"}
        for part in report.components
    ]
    columns = [column(each) for each in ("kind", "name", "health", "latency", "address", "version", "detail")]
    await session.print.rows(rows, columns)
    ill = [part.name for part in report.components if not part.healthy]
    session.print.note(" ")
    session.print.note("everything is healthy" if report.healthy else f"not healthy: {', '.join(ill)}")
    return 0 if report.healthy else FAILED
