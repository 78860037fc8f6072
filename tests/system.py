"""A whole system for tests: bootstrapped into a temporary folder on free ports, and taken down again."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.bootstrap import bring_up, settings_for
from cluster.down import bring_down
from cluster.places import Places
from mulligan.client import Client, Credentials
from mulligan.config import Settings


@dataclass(frozen=True)
class System:
    """A running system and how to get in."""

    settings: Settings
    # host:port of the gateways of iam, meta, resource and control, in this order.
    gateways: dict[str, str]
    # The first administrator.
    admin: Credentials

    @property
    def places(self) -> Places:
        """Where it keeps what."""
        return Places(self.settings.state_dir)

    @property
    def ca_file(self) -> Path:
        """What its certificates are verified by."""
        return self.settings.state_dir / "tls" / "ca.crt"

    def client(self, credentials: Credentials | None = None) -> Client:
        """A client, not connected yet; as the first administrator when no other is given."""
        addresses = list(self.gateways.values())
        return Client.connect(addresses, ca_file=self.ca_file, credentials=credentials or self.admin)

    def log(self, name: str) -> str:
        """What a process or actor wrote: etcd, ray, iam, supervisor, iam-global, …"""
        return self.places.log(name).read_text(errors="replace")


@asynccontextmanager
async def running_system() -> AsyncIterator[System]:
    """A system of its own. The user's client configuration is left alone."""
    with tempfile.TemporaryDirectory(prefix="mulligan-e2e-") as folder, _home(Path(folder)):
        settings = settings_for({"state_dir": Path(folder) / "state", "port": 0}, environment={})
        try:
            addresses = await bring_up(settings)
            admin = json.loads(Places(settings.state_dir).admin.read_text())
            gateways = dict(zip(("iam", "meta", "resource", "control"), addresses, strict=True))
            yield System(settings, gateways, Credentials(admin["account"], admin["secret"]))
        finally:
            await bring_down(settings)


@contextmanager
def _home(folder: Path) -> Iterator[None]:
    given = {name: os.environ.get(name) for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
    os.environ |= {"XDG_CONFIG_HOME": str(folder / "config"), "XDG_CACHE_HOME": str(folder / "cache")}
    try:
        yield
    finally:
        for name, value in given.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
