"""Where a system keeps what on this host: every path under the state directory, and the host's id."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mulligan.config import SETTINGS_FILE
from mulligan.errors import FailedPrecondition
from mulligan.files import make_private_directory, write_private


@dataclass(frozen=True, slots=True)
class Places:
    """Paths of one system on this host."""

    state_dir: Path

    @property
    def settings(self) -> Path:
        """The settings file."""
        return self.state_dir / SETTINGS_FILE

    @property
    def secrets(self) -> Path:
        """Folder of secrets."""
        return self.state_dir / "secrets"

    @property
    def admin(self) -> Path:
        """Name and secret of the first account; the IAM service makes it when there is none."""
        return self.secrets / "admin.json"

    @property
    def ray_token(self) -> Path:
        """What Ray's processes prove themselves with to each other."""
        return self.secrets / "ray.token"

    @property
    def ports(self) -> Path:
        """The gateways' ports, when the settings leave them to us."""
        return self.state_dir / "run" / "gateway-ports.json"

    @property
    def children(self) -> Path:
        """Folder with the state of each child of the supervisor."""
        return self.state_dir / "run" / "children"

    @property
    def components(self) -> Path:
        """Folder with what each component last told about its actors."""
        return self.state_dir / "run" / "components"

    @property
    def supervisor(self) -> Path:
        """Which process supervises."""
        return self.state_dir / "run" / "supervisor.json"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the supervisor while it lives."""
        return self.state_dir / "run" / "supervisor.lock"

    def log(self, name: str) -> Path:
        """What a process of ours wrote."""
        return self.state_dir / "log" / f"{name}.log"

    def make(self) -> None:
        """Makes the folders; idempotent."""
        for folder in (self.state_dir, self.secrets, self.state_dir / "log", self.children, self.components):
            make_private_directory(folder)

    def host_id(self) -> str:
        """This host's name in actor names; made once: the host's own name and a few random digits."""
        path = self.state_dir / "host-id"
        if not path.exists():
            name = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().lower()).strip("-")[:32] or "host"
            write_private(path, f"{name}-{os.urandom(2).hex()}\n".encode())
        return path.read_text().strip()

    def short_folder(self) -> Path:
        """A private folder with a short path: socket paths may have 107 bytes. Raises FailedPrecondition.

        Derived from the state directory, so that each system on a host has its own.
        """
        digest = hashlib.sha256(str(self.state_dir.resolve()).encode()).hexdigest()[:10]
        folder = Path("/tmp") / f"mulligan-{digest}"
        make_private_directory(folder)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise FailedPrecondition(f"{folder} is not a private folder of yours; remove it and try again")
        return folder


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file that others write; None when it is not there or not whole."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replaces the file at once."""
    write_private(path, json.dumps(value, indent=2).encode())
