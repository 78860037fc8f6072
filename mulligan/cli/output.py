"""What commands print: tables for people, JSON and YAML for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import yaml
from google.protobuf.message import Message
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mulligan.ids import is_id

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


# Finds names for UUIDs: UUID -> name, for those that have one.
Labels = Callable[[Iterable[str]], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True)
class Column:
    """One column of a table: its title, and where its value is in a plain object."""

    title: str
    path: str
    # "" as it is; name: a UUID shown by its name; label: the name of the object itself; time; size: how many.
    shown: str = ""


def column(path: str, title: str = "") -> Column:
    """A value as it is."""
    return Column(title or _title(path), path)


def named(path: str, title: str = "") -> Column:
    """A UUID, shown by its name where it has one."""
    return Column(title or _title(path), path, "name")


def own_name() -> Column:
    """The name of the object itself, by its `id`."""
    return Column("NAME", "id", "label")


def when(path: str, title: str = "") -> Column:
    """A time, in this host's zone."""
    return Column(title or _title(path), path, "time")


_TITLES = {"create_time": "CREATED", "expire_time": "EXPIRES", "update_time": "UPDATED", "done_time": "DONE"}


def _title(path: str) -> str:
    field = path.rpartition(".")[2]
    return _TITLES.get(field, field.replace("_", " ").upper())


def plain(message: Message) -> dict[str, Any]:
    """A message as plain values: numbers as numbers, times as ISO 8601, enums as their short lower-case names.

    Fields without presence are always there, so that programs need not ask.
    """
    return {
        field.name: _field(message, field)
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    entry = field.message_type if field.message_type and field.message_type.GetOptions().map_entry else None
    if entry:
        return {key: _value(value[key], entry.fields_by_name["value"]) for key in sorted(value)}
    if field.is_repeated:
        return [_value(item, field) for item in value]
    return _value(value, field)


def _value(value: Any, field: Any) -> Any:
    if field.message_type:
        if field.message_type.full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
            return value.ToJsonString()
        return plain(value)
    if field.enum_type:
        return enum_name(field.enum_type, value)
    return value


def enum_name(enum: Any, number: int) -> str:
    """CLAIM_STATE_ACTIVE of ClaimState -> active; a number that this version does not know stays one."""
    if number not in enum.values_by_number:
        return str(number)
    prefix = "_".join(_words(enum.name)).upper() + "_"
    name: str = enum.values_by_number[number].name
    return name.removeprefix(prefix).lower()


def _words(name: str) -> list[str]:
    starts = [index for index, letter in enumerate(name) if letter.isupper()]
    return [name[start:end] for start, end in zip(starts, [*starts[1:], len(name)], strict=True)]


class Printer:
    """Prints results in one format."""

    def __init__(self, console: Console, format: Format, labels: Labels | None = None) -> None:
        """`labels` finds names of UUIDs; only tables need them."""
        self.console = console
        self.format = format
        self._labels = labels

    async def rows(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], empty: str = "none") -> None:
        """A list; `empty` is what a table says when there is nothing."""
        if self.format is not Format.TABLE:
            self._structured(list(rows))
            return
        if not rows:
            self.console.print(empty)
            return
        labels = await self._names_in(rows, columns)
        table = _table(*(each.title for each in columns))
        by_name = any(each.shown == "label" for each in columns)
        for row in sorted(rows, key=lambda row: _natural(labels.get(row["id"], ""))) if by_name else rows:
            table.add_row(*(escape(_cell(row, each, labels)) for each in columns))
        self.console.print(table)

    async def one(self, item: Mapping[str, Any], note: str = "") -> None:
        """One object, field by field; a table adds the names of UUIDs, and `note` below."""
        if self.format is not Format.TABLE:
            self._structured(item)
            return
        flat = dict(_flatten(item))
        labels = await self._find_labels(text for text in flat.values() if is_id(text))
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True, style="bold")
        table.add_column(overflow="fold")
        for key, text in flat.items():
            name = labels.get(text, "")
            table.add_row(escape(key), escape(f"{text} ({name})" if name else text))
        self.console.print(table)
        self.note(note)

    def note(self, text: str) -> None:
        """A sentence for people; programs are not told."""
        if text and self.format is Format.TABLE:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def stream_item(self, item: Mapping[str, Any]) -> None:
        """One of many objects that come one after another: a line of JSON, or a YAML document."""
        if self.format is Format.YAML:
            self._write("---\n" + yaml.safe_dump(dict(item), sort_keys=False, allow_unicode=True))
        else:
            self._write(json.dumps(item, ensure_ascii=False) + "\n")

    def _structured(self, value: Any) -> None:
        if self.format is Format.JSON:
            self._write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
        else:
            self._write(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))

    def _write(self, text: str) -> None:
        self.console.file.write(text)
        self.console.file.flush()

    async def _names_in(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> Mapping[str, str]:
        paths = [each.path for each in columns if each.shown in ("name", "label")]
        found = (_at(row, path) for row in rows for path in paths)
        return await self._find_labels(str(each) for each in found if each)

    async def _find_labels(self, ids: Iterable[str]) -> Mapping[str, str]:
        wanted = list(dict.fromkeys(ids))
        return await self._labels(wanted) if self._labels and wanted else {}


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sorts node2 before node10, and what has no name last."""
    parts = re.split(r"(\d+)", name) if name else ["\U0010ffff"]
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def _table(*titles: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, no_wrap=title in ("ID", "NAME"), overflow="fold")
    return table


def _cell(row: Mapping[str, Any], shown: Column, labels: Mapping[str, str]) -> str:
    value = _at(row, shown.path)
    if value is None:
        return ""
    if shown.shown == "name":
        return labels.get(value, value)
    if shown.shown == "label":
        return labels.get(value, "")
    return local_time(value) if shown.shown == "time" else as_text(value)


def as_text(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={as_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(as_text(item) for item in value)
    return str(value)


def local_time(text: str) -> str:
    """2026-12-01T08:00:00Z as a person here writes it."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _at(row: Mapping[str, Any], path: str) -> Any:
    value: Any = row
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _flatten(item: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in item.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{path}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for index, each in enumerate(value):
                yield from _flatten(each, f"{path}[{index}].")
        elif value not in ("", [], {}):
            text = as_text(value)
            yield path, local_time(text) if _TIME.fullmatch(text) else text
