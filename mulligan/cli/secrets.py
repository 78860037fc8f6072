"""Passwords and secrets: asked for, or read from standard input, never taken from the command line."""

from __future__ import annotations

import getpass
import sys

from mulligan.errors import InvalidArgument


def read_secret(prompt: str, from_stdin: bool, *, confirm: bool = False) -> str:
    """The secret; raises InvalidArgument when there is none or when the two entries differ."""
    if from_stdin:
        secret = sys.stdin.readline().rstrip("\r\n")
    elif not sys.stdin.isatty():
        raise InvalidArgument("there is no terminal to ask for the secret; pipe it in and give --secret-stdin")
    else:
        secret = _ask(prompt)
        if confirm and _ask("Again") != secret:
            raise InvalidArgument("the two entries differ; try again")
    if not secret:
        raise InvalidArgument("the secret is empty; nothing was done")
    return secret


def _ask(prompt: str) -> str:
    try:
        return getpass.getpass(f"{prompt}: ")
    except EOFError:
        return ""
