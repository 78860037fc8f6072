"""Turns an async function into a command: options that all have, a connected client, errors as sentences.

Exit codes:

    0  done
    1  what was watched or asked about failed, or is not healthy
    2  wrong input: usage, files, values
    3  not logged in, or no longer
    4  not allowed
    5  not found
    6  conflicts with what is there
    7  no capacity, no quota, or too many requests
    8  no answer, or not in time
   70  a fault of this program or of the system
  130  interrupted
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Concatenate, ParamSpec, get_type_hints

import typer

from mulligan.cli.output import Format
from mulligan.cli.session import Flags, Session, Surroundings
from mulligan.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    MulliganError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)

FAILED, FAULT, INTERRUPTED = 1, 70, 130

_EXIT_CODES: dict[type[MulliganError], int] = {
    InvalidArgument: 2,
    Unauthenticated: 3,
    PermissionDenied: 4,
    NotFound: 5,
    AlreadyExists: 6,
    FailedPrecondition: 6,
    Aborted: 6,
    ResourceExhausted: 7,
    Unavailable: 8,
    DeadlineExceeded: 8,
}

_HINTS: dict[str, str] = {
    "NO_CAPACITY": "`mulligan claim explain FILE` tells which constraint is in the way",
    "QUOTA_EXCEEDED": "`mulligan quota list` shows the limits",
    "PERMISSION_DENIED": "`mulligan whoami` shows your roles",
}

# What a field of a request is on the command line.
_OPTIONS: dict[str, str] = {"spec.project": "give --project"}

_P = ParamSpec("_P")
Action = Callable[Concatenate[Session, _P], Awaitable[int | None]]

ContextOption = Annotated[
    str, typer.Option("--context", "-c", help="Context of `mulligan context list`. Default: the current one.")
]
OutputOption = Annotated[Format, typer.Option("--output", "-o", help="For people (table) or for programs.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds that a call may take.")]


def command(
    app: typer.Typer, name: str, *, connect: bool = True, login: bool = True, panel: str | None = None
) -> Callable[[Action[_P]], Action[_P]]:
    """Registers the function as a command. Its parameters after the session are the command's own.

    `connect`: it gets a connected client; `login`: somebody has to be logged in; `panel`: where help lists it. What
    the function returns is the exit code; None is 0.
    """

    def register(action: Action[_P]) -> Action[_P]:
        def run(ctx: typer.Context, **given: Any) -> None:
            flags = Flags(given.pop("context"), given.pop("output"), given.pop("timeout"))
            surroundings = ctx.obj if isinstance(ctx.obj, Surroundings) else Surroundings()
            raise typer.Exit(perform(lambda: _act(action, surroundings, flags, connect, login, given)))

        parameters = _parameters(action)
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name, help=inspect.getdoc(action), rich_help_panel=panel)(run)
        return action

    return register


def perform(work: Callable[[], Awaitable[int | None]]) -> int:
    """Runs the work to its exit code; an error is told in a sentence or two."""

    async def wait() -> int | None:
        return await work()

    try:
        return asyncio.run(wait()) or 0
    except MulliganError as error:
        complain(error)
        return exit_code(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # who read our output has stopped; there is nobody to tell
        return 0
    except Exception as error:
        _tell(f"a fault of this program: {type(error).__name__}: {error}; `mulligan --debug …` shows where it is")
        if "--debug" in sys.argv:
            traceback.print_exc()
        return FAULT


def exit_code(error: MulliganError) -> int:
    """The exit code that stands for the error."""
    return next((code for kind, code in _EXIT_CODES.items() if isinstance(error, kind)), FAULT)


def complain(error: MulliganError) -> None:
    """Tells the error on standard error, with the next thing to try."""
    hint = _HINTS.get(error.reason, _OPTIONS.get(error.field or "", ""))
    if isinstance(error, Unauthenticated) and error.reason != "LOGIN_REFUSED" and "mulligan login" not in error.message:
        hint = "log in with `mulligan login ACCOUNT`"
    elif isinstance(error, Unavailable) and "no answer from" in error.message:
        hint = "start it with `mulligan bootstrap`, or choose another system with `mulligan context use`"
    _tell(f"{error.message}; {hint}" if hint and hint not in error.message else error.message)


def _tell(text: str) -> None:
    typer.echo(f"mulligan: {text}", err=True)


async def _act(
    action: Callable[..., Awaitable[int | None]],
    surroundings: Surroundings,
    flags: Flags,
    connect: bool,
    login: bool,
    given: dict[str, Any],
) -> int | None:
    session = Session(surroundings, flags)
    if not connect:
        return await action(session, **given)
    async with session.open() as client:
        session.use(client)
        if login:
            session.require_login()
        return await action(session, **given)


def _parameters(action: Callable[..., Any]) -> list[inspect.Parameter]:
    """The command's own, and those that every command has."""
    hints = get_type_hints(action, include_extras=True)
    own = [
        parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in list(inspect.signature(action).parameters.values())[1:]
    ]
    return [
        _keyword("ctx", typer.Context),
        *own,
        _keyword("context", ContextOption, ""),
        _keyword("output", OutputOption, Format.TABLE),
        _keyword("timeout", TimeoutOption, 30.0),
    ]


def _keyword(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
