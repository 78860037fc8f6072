"""mulligan project: tenants."""

from __future__ import annotations

from typing import Annotated

import typer

from mulligan.cli import options
from mulligan.cli.command import command
from mulligan.cli.output import column, own_name, plain, when
from mulligan.cli.session import Session

app = typer.Typer(help="Projects: the tenants of the system.", no_args_is_help=True)

Project = Annotated[str, typer.Argument(metavar="PROJECT", help="Name or UUID of a project.")]


@command(app, "create")
async def create_project(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of the new project.")],
    request_id: options.Request = "",
) -> None:
    """Make a project."""
    response = await session.client.iam.create_project(name=name, request_id=request_id)
    await session.print.one(plain(response.project))


@command(app, "list")
async def list_projects(session: Session) -> None:
    """Projects that you may see."""
    rows = [plain(project) async for project in session.client.iam.list_projects()]
    await session.print.rows(rows, [own_name(), column("id"), when("create_time")])


@command(app, "show")
async def show_project(session: Session, project: Project) -> None:
    """One project."""
    response = await session.client.iam.get_project(id=await session.project(project))
    await session.print.one(plain(response.project))


@command(app, "delete")
async def delete_project(session: Session, project: Project) -> None:
    """Delete a project; refused while it has role assignments or credentials. Its tokens die."""
    await session.client.iam.delete_project(id=await session.project(project))
    session.print.note(f"project {project} is deleted")
