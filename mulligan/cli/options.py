"""Options and arguments that several commands have."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from mulligan.api.common.v1.common_pb2 import Window
from mulligan.clock import to_timestamp
from mulligan.errors import InvalidArgument
from mulligan.inventory.times import parse_time

Region = Annotated[
    str, typer.Option("--region", "-r", help="Name or UUID of a region. Default: the context's, else everywhere.")
]
RegionToBe = Annotated[str, typer.Option("--region", "-r", help="Name or UUID of the region. Default: the context's.")]
Project = Annotated[str, typer.Option("--project", "-p", help="Name or UUID of a project.")]
Request = Annotated[
    str, typer.Option("--request-id", help="UUID that makes repeating this command harmless. Default: a new one.")
]
Starts = Annotated[str, typer.Option("--from", help="Begin of the window: now, +7d, or 2026-12-01T08:00:00Z.")]
Ends = Annotated[str, typer.Option("--to", help="End of the window, written as --from is.")]
Expires = Annotated[str, typer.Option("--expires", help="When it ends: +30d, or 2026-12-01T08:00:00Z. Default: never.")]
YamlFile = Annotated[Path, typer.Argument(metavar="FILE", help="YAML file; mulligan/deployments/ has examples.")]


def moment(text: str, now_us: int, option: str) -> Timestamp | None:
    """The time that an option gives; None when it was not given. Raises InvalidArgument."""
    if not text:
        return None
    try:
        return to_timestamp(parse_time(text, now_us))
    except ValueError as error:
        raise InvalidArgument(f"{option}: {error}", field=option) from None


def window(starts: str, ends: str, now_us: int) -> Window | None:
    """The window that --from and --to give; None when neither was given."""
    if not starts and not ends:
        return None
    acquire = moment(starts or "now", now_us, "--from")
    return Window(acquire=acquire, release=moment(ends, now_us, "--to"))


def stretch(text: str, option: str) -> timedelta | None:
    """How long: +2h30m or 2h30m; None when it was not given. Raises InvalidArgument."""
    if not text:
        return None
    try:
        microseconds = parse_time(text if text.startswith("+") else f"+{text}", 0)
    except ValueError:
        microseconds = 0
    if not microseconds:
        raise InvalidArgument(f"{option} takes a stretch of time such as 30m or 2h, not {text!r}", field=option)
    return timedelta(microseconds=microseconds)


def pairs(texts: list[str], option: str) -> Mapping[str, str]:
    """KEY=VALUE options as a mapping; raises InvalidArgument."""
    found: dict[str, str] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not (key and sign):
            raise InvalidArgument(f"{option} takes KEY=VALUE, not {text!r}", field=option)
        if key in found:
            raise InvalidArgument(f"{option} gives {key!r} twice; give it once", field=option)
        found[key] = value
    return found


def whole_number(text: str, option: str) -> int:
    """A whole number; raises InvalidArgument."""
    try:
        return int(text)
    except ValueError:
        raise InvalidArgument(f"{option} takes a whole number, not {text!r}", field=option) from None
