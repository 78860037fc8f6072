"""mulligan role and mulligan assignment: who may do what, where."""

from __future__ import annotations

from typing import Annotated

import typer

from mulligan.cli import options
from mulligan.cli.command import command
from mulligan.cli.output import Format, column, named, plain, when
from mulligan.cli.session import Session, require_id

app = typer.Typer(help="Roles, and giving them to accounts.", no_args_is_help=True)
assignments = typer.Typer(help="Role assignments: who has which role, where.", no_args_is_help=True)


@command(app, "list")
async def list_roles(session: Session) -> None:
    """The roles and what each may do."""
    roles = [plain(role) for role in (await session.client.iam.list_roles()).roles]
    if session.print.format is not Format.TABLE:
        await session.print.rows(roles, [])
        return
    permissions = sorted({permission for role in roles for permission in role["permissions"]})
    rows = [
        {"permission": permission, **{role["name"]: "✓" if permission in role["permissions"] else "" for role in roles}}
        for permission in permissions
    ]
    await session.print.rows(rows, [column("permission"), *(column(role["name"]) for role in roles)])


@command(app, "assign")
async def assign_role(
    session: Session,
    account: Annotated[str, typer.Argument(help="Name or UUID of an account.")],
    role: Annotated[str, typer.Argument(help="admin, operator, member or reader.")],
    project: Annotated[str, typer.Option("--project", "-p", help="In this project. Default: the system.")] = "",
    region: Annotated[str, typer.Option("--region", "-r", help="In this region and below. Default: all.")] = "",
    request_id: options.Request = "",
) -> None:
    """Give an account a role, in a project or in the system."""
    response = await session.client.iam.create_assignment(
        account=await session.account(account),
        role=role,
        project=await session.project(project),
        region=await session.region(region, default=False),
        request_id=request_id,
    )
    await session.print.one(plain(response.assignment))


@command(assignments, "list")
async def list_assignments(
    session: Session,
    account: Annotated[str, typer.Option(help="Name or UUID of an account.")] = "",
    project: options.Project = "",
) -> None:
    """Role assignments, of all or of one account or project."""
    listing = session.client.iam.list_assignments(
        account=await session.account(account), project=await session.project(project)
    )
    rows = [plain(assignment) async for assignment in listing]
    columns = [column("id"), named("account"), column("role"), named("project"), named("region"), when("create_time")]
    await session.print.rows(rows, columns)


@command(assignments, "delete")
async def delete_assignment(
    session: Session, assignment: Annotated[str, typer.Argument(help="UUID of an assignment.")]
) -> None:
    """Take a role back. Tokens that carried it die."""
    await session.client.iam.delete_assignment(id=require_id(assignment, "assignment"))
    session.print.note(f"assignment {assignment} is deleted")
