"""Tokens kept in a file between runs of the command line: one file a context, for its owner alone."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from mulligan.client._tokens import SavedTokens
from mulligan.client.contexts import Context
from mulligan.files import locked, make_private_directory, write_private


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/mulligan/tokens`, by default below `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mulligan" / "tokens"


class TokenFile:
    """A TokenCache in a file. Tokens that were got for another system, account or project are not taken up."""

    def __init__(self, name: str, context: Context, folder: Path | None = None) -> None:
        self._path = (folder or default_folder()) / f"{name}.json"
        who = [context.ca_file, context.account, context.credential_file, context.project, *context.addresses]
        self._meant_for = hashlib.sha256("\n".join(who).encode()).hexdigest()

    def load(self) -> SavedTokens | None:
        """What was saved last; a file that cannot be read counts as none."""
        try:
            saved = json.loads(self._path.read_text())
            return SavedTokens(**saved["tokens"]) if saved["for"] == self._meant_for else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, tokens: SavedTokens | None) -> None:
        """Keeps tokens, or forgets them."""
        if tokens is None:
            self._path.unlink(missing_ok=True)
            return
        make_private_directory(self._path.parent)
        write_private(self._path, json.dumps({"for": self._meant_for, "tokens": asdict(tokens)}).encode())

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """Keeps other processes from renewing at the same time."""
        make_private_directory(self._path.parent)
        held = locked(self._path.with_suffix(".lock"))
        await asyncio.to_thread(held.__enter__)
        try:
            yield
        finally:
            held.__exit__(None, None, None)
