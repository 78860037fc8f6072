"""Where an actor's log goes: one file for each actor name without its generation, in the state directory."""

from __future__ import annotations

import logging
import os
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

from actors.names import ActorName

MAX_BYTES = 10_000_000
BACKUPS = 2


def configure_logging(state_dir: Path, name: ActorName) -> None:
    """Sends this process's log to `<state_dir>/log/<service>-<shard>.log`; to standard error where there is none.

    The level is MULLIGAN_LOG_LEVEL's until runtime settings say otherwise.
    """
    folder = state_dir / "log"
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if folder.is_dir() and os.access(folder, os.W_OK):
        path = folder / f"{name.service}-{name.shard}.log"
        handler = RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=BACKUPS)
    layout = f"%(asctime)s.%(msecs)03dZ %(levelname)s actor={name} %(name)s %(message)s"
    formatter = logging.Formatter(layout, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(os.environ.get("MULLIGAN_LOG_LEVEL", "info").upper())
    logging.getLogger("alembic").setLevel(logging.WARNING)
