"""A flag for each setting, for programs without subcommands."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from mulligan.config import Settings


def parse_flags(program: str, arguments: list[str]) -> dict[str, Any]:
    """The settings that were given; None for the others."""
    parser = argparse.ArgumentParser(prog=program, description="Runs in the foreground; SIGTERM drains and ends it.")
    for setting in fields(Settings):
        parser.add_argument(f"--{setting.name.replace('_', '-')}", help=setting.metadata["help"])
    return vars(parser.parse_args(arguments))
