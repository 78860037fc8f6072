"""mulligan service: settings that change while services run."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from mulligan.api.common.v1.common_pb2 import ServiceSettings
from mulligan.api.control.v1.request_response_pb2 import ExecutorSettings
from mulligan.cli import options
from mulligan.cli.command import command
from mulligan.cli.output import plain
from mulligan.cli.session import Session
from mulligan.errors import InvalidArgument

app = typer.Typer(help="Services: settings that change while they run.", no_args_is_help=True)


class Service(StrEnum):
    """Services that can be configured."""

    IAM = "iam"
    META = "meta"
    RESOURCE = "resource"
    CONTROL = "control"
    EXECUTOR = "executor"


ServiceArgument = Annotated[Service, typer.Argument(help="Which service.")]


@command(app, "show")
async def show_settings(session: Session, service: ServiceArgument) -> None:
    """The settings that are in force."""
    await session.print.one(plain(await _configure(session, service, {})))


@command(app, "configure")
async def configure(
    session: Session,
    service: ServiceArgument,
    setting: Annotated[list[str], typer.Argument(metavar="NAME=VALUE...", help="Such as log_level=debug.")],
    expires: Annotated[str, typer.Option(help="After this stretch (30m, 2h) the former values return.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check whether it would be accepted.")] = False,
    request_id: options.Request = "",
) -> None:
    """Change settings; in force everywhere within a second, and after restarts. `service show` lists them."""
    given = options.pairs(setting, "NAME=VALUE")
    extra = {
        "expires_after": options.stretch(expires, "--expires"),
        "validate_only": dry_run,
        "request_id": request_id,
    }
    settings = await _configure(session, service, given, **extra)
    await session.print.one(plain(settings), note="nothing was changed" if dry_run else "")


@command(app, "rotate-keys")
async def rotate_keys(session: Session, request_id: options.Request = "") -> None:
    """Sign tokens with a new key from now on. Older tokens stay valid until they expire."""
    await session.print.one(plain(await session.client.iam.rotate_keys(request_id=request_id)))


async def _configure(session: Session, service: Service, given: Any, **extra: Any) -> Message:
    client = session.client
    calls: dict[Service, Any] = {
        Service.IAM: client.iam.iam_configure,
        Service.META: client.meta.meta_configure,
        Service.RESOURCE: client.resource.resource_configure,
        Service.CONTROL: client.control.control_configure,
        Service.EXECUTOR: client.control.executor_configure,
    }
    kind = ExecutorSettings if service is Service.EXECUTOR else ServiceSettings
    settings = _settings(kind(), given)
    response: Any = await calls[service](settings=settings, update_mask=FieldMask(paths=list(given)), **extra)
    found: Message = response.settings
    return found


def _settings(settings: Message, given: dict[str, str]) -> Message:
    known = [field.name for field in settings.DESCRIPTOR.fields]
    for name, value in given.items():
        if name not in known:
            raise InvalidArgument(f"there is no setting {name!r}; there are {', '.join(known)}", field=name)
        is_text = isinstance(getattr(settings, name), str)
        number = 0 if is_text else options.whole_number(value, name)
        if not 0 <= number < 2**32:
            raise InvalidArgument(f"{name} must lie between 0 and {2**32 - 1}", field=name)
        setattr(settings, name, value if is_text else number)
    return settings
