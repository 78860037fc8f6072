"""mulligan operation: work on machines, step by step."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from mulligan.api.control.v1 import operation_pb2
from mulligan.api.control.v1.operation_pb2 import Operation, Step
from mulligan.cli import options
from mulligan.cli.command import FAILED, command
from mulligan.cli.output import Format, column, enum_name, named, plain, when
from mulligan.cli.session import Session, require_id

app = typer.Typer(help="Operations: work on machines, step by step.", no_args_is_help=True)

OperationId = Annotated[str, typer.Argument(metavar="OPERATION", help="UUID of an operation.")]

_MARKS = {
    operation_pb2.STEP_STATE_WAITING: ("·", "dim"),
    operation_pb2.STEP_STATE_RETRYING: ("↻", "yellow"),
    operation_pb2.STEP_STATE_DONE: ("✓", "green"),
    operation_pb2.STEP_STATE_FAILED: ("✗", "red"),
}


@command(app, "list")
async def list_operations(
    session: Session,
    region: options.Region = "",
    machine: Annotated[str, typer.Option(help="Only those of this machine, by name or UUID.")] = "",
) -> None:
    """Operations of the project, newest first."""
    listing = session.client.control.list_operations(
        region=await session.region(region), machine=await session.machine(machine) if machine else ""
    )
    columns = [column("id"), column("kind"), named("machine"), column("state"), when("create_time", "BEGUN")]
    columns += [when("done_time", "DONE"), column("error.message", "ERROR")]
    await session.print.rows([plain(each) async for each in listing], columns)


@command(app, "show")
async def show_operation(session: Session, operation: OperationId, region: options.Region = "") -> None:
    """One operation with its steps and what was seen."""
    response = await session.client.control.get_operation(
        region=await session.region(region), id=require_id(operation, "operation")
    )
    item: dict[str, Any] = plain(response.operation)
    if session.print.format is not Format.TABLE:
        await session.print.one(item)
        return
    steps = item.pop("steps")
    await session.print.one(item)
    session.print.note(" ")
    columns = [column("name", "STEP"), column("state"), column("attempts"), when("done_time", "DONE")]
    await session.print.rows(steps, [*columns, column("evidence"), column("message")])


@command(app, "watch")
async def watch_operation(session: Session, operation: OperationId, region: options.Region = "") -> int:
    """Watch an operation's steps until it is done. Exit code 1 when it fails."""
    begun = Operation(id=require_id(operation, "operation"), region=await session.region(region))
    return await follow(session, begun)


async def follow(session: Session, operation: Operation) -> int:
    """Shows the operation's progress until it is done; the exit code says whether it succeeded."""
    view = _view(session)
    last = operation
    with view:
        async for change in session.client.control.watch_operation(region=operation.region, id=operation.id):
            last = change.operation
            view.show(last)
    if last.state == operation_pb2.OPERATION_STATE_SUCCEEDED:
        session.print.note("done")
        return 0
    if last.HasField("error"):
        session.print.note(f"failed at {last.error.step}: {last.error.message}")
    return FAILED


def _view(session: Session) -> _Live | _Lines | _Items:
    if session.print.format is not Format.TABLE:
        return _Items(session)
    return _Live(session) if session.print.console.is_terminal else _Lines(session)


class _View:
    def __init__(self, session: Session) -> None:
        self._print = session.print

    def __enter__(self) -> None:
        """Nothing to begin."""

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


class _Items(_View):
    """For programs: every change as an object."""

    def show(self, operation: Operation) -> None:
        self._print.stream_item(plain(operation))


class _Lines(_View):
    """Where nobody can look at what is replaced: a line for each change of a step."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._told: dict[str, tuple[int, int]] = {}

    def show(self, operation: Operation) -> None:
        for step in operation.steps:
            seen = (step.state, step.attempts)
            if step.state != operation_pb2.STEP_STATE_WAITING and self._told.get(step.name) != seen:
                self._told[step.name] = seen
                self._print.note(f"{step.name}: {_state(step)} {_detail(step)}".rstrip())


class _Live(_View):
    """On a terminal: all steps, each in its place."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._live = Live(console=session.print.console, refresh_per_second=8)

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, operation: Operation) -> None:
        table = Table(box=None, show_header=False, pad_edge=False)
        for step in operation.steps:
            table.add_row(_mark(step), step.name, _state(step), Text(_detail(step), overflow="fold"))
        self._live.update(Group(table), refresh=True)


def _mark(step: Step) -> Text | Spinner:
    if step.state == operation_pb2.STEP_STATE_RUNNING:
        return Spinner("dots")
    mark, style = _MARKS.get(step.state, (" ", ""))
    return Text(mark, style=style)


def _state(step: Step) -> str:
    state = enum_name(operation_pb2.StepState.DESCRIPTOR, step.state)
    return f"{state} (attempt {step.attempts})" if step.attempts > 1 else state


def _detail(step: Step) -> str:
    return (
        step.message
        if step.state in (operation_pb2.STEP_STATE_RETRYING, operation_pb2.STEP_STATE_FAILED)
        else step.evidence
    )
