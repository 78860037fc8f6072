"""What a host needs before anything runs: folders, certificates, secrets, the host's id. Idempotent."""

from __future__ import annotations

import secrets
import socket
from dataclasses import replace
from pathlib import Path

from cluster.places import Places, read_json, write_json
from cluster.ports import free_ports, is_free
from cluster.ray_head import ensure_token, node_address
from mulligan.config import Settings
from mulligan.errors import FailedPrecondition
from mulligan.pki import ensure_ca, ensure_server_certificate
from mulligan.secretbox import ensure_master_key

ADMIN_ACCOUNT = "admin"
# iam, meta, resource, control, boot.
GATEWAY_PORTS = 5


def prepare_host(settings: Settings) -> None:
    """Makes what is missing and changes nothing else, except a server certificate near its end."""
    places = Places(settings.state_dir)
    places.make()
    places.host_id()
    if settings.ray:
        _require_shared_secrets(settings)
    if not settings.tls_dir:
        tls_dir = settings.state_dir / "tls"
        ensure_ca(tls_dir)
        ensure_server_certificate(tls_dir, certificate_hosts(settings))
    ensure_master_key(places.secrets / "master.key")
    ensure_token(settings)
    if not settings.port and read_json(places.ports) is None:
        write_json(places.ports, {"first": free_ports(GATEWAY_PORTS, settings.listen)})
    if not places.admin.exists():
        write_json(places.admin, {"account": ADMIN_ACCOUNT, "secret": secrets.token_urlsafe(24)})


def _require_shared_secrets(settings: Settings) -> None:
    """Hosts of one system have the same authority, master key and Ray token; only the first one makes them."""
    places = Places(settings.state_dir)
    needed = [places.secrets / "master.key", places.ray_token]
    needed += [] if settings.tls_dir else [settings.state_dir / "tls" / name for name in ("ca.crt", "ca.key")]
    missing = [str(path) for path in needed if not path.exists()]
    if missing:
        raise FailedPrecondition(f"copy these from the first host of the system: {', '.join(missing)}")


def with_ports(settings: Settings) -> Settings:
    """The settings with the ports that were free when this host was prepared, where they say 0.

    A gateway that comes back is then where machines and clients know it.
    """
    if settings.port:
        return settings
    return replace(settings, port=int((read_json(Places(settings.state_dir).ports) or {"first": 0})["first"]))


def require_free_ports(settings: Settings) -> None:
    """Raises FailedPrecondition when another program has one of the gateways' ports. Nothing of ours runs yet."""
    first = with_ports(settings).port
    taken = [port for port in range(first, first + GATEWAY_PORTS) if not is_free(port, settings.listen)]
    if taken:
        raise FailedPrecondition(
            f"port {taken[0]} of {settings.listen} cannot be used, another program may have it; "
            f"choose the first of {GATEWAY_PORTS} others with --port"
        )


def certificate_hosts(settings: Settings) -> list[str]:
    """The names and addresses that clients may use for this host."""
    hosts = {"127.0.0.1", "::1", "localhost", socket.gethostname(), settings.advertise, node_address(settings)}
    if settings.listen not in ("0.0.0.0", "::"):
        hosts.add(settings.listen)
    return sorted(host for host in hosts if host)


def tls_dir(settings: Settings) -> Path:
    """Folder with ca.crt, server.crt and server.key."""
    return Path(settings.tls_dir) if settings.tls_dir else settings.state_dir / "tls"
