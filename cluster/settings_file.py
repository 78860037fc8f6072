"""Writes settings into `mulligan.toml`, line by line: comments and other lines stay as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mulligan.files import make_private_directory, write_private


def write_settings(path: Path, values: Mapping[str, Any]) -> None:
    """Sets each value that is not None; the state directory is where the file is and no part of it."""
    given = {name: value for name, value in values.items() if value is not None and name != "state_dir"}
    if not given:
        return
    lines = path.read_text().splitlines() if path.exists() else []
    for name, value in given.items():
        line = f"{name} = {_toml(value)}"
        found = [number for number, old in enumerate(lines) if re.match(rf"\s*{name}\s*=", old)]
        if found:
            lines[found[0]] = line
        else:
            lines.append(line)
    make_private_directory(path.parent)
    write_private(path, ("\n".join(lines) + "\n").encode())


def _toml(value: Any) -> str:
    if isinstance(value, int):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
