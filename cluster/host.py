"""What a host needs before anything runs: folders, certificates, secrets, the host's id. Idempotent."""

from __future__ import annotations

import asyncio
import secrets
import socket
from dataclasses import replace
from pathlib import Path

import asyncpg

from cluster.places import Places, read_json, write_json
from cluster.ports import free_ports, is_free
from cluster.ray_head import ensure_token, node_address
from mulligan.config import Settings
from mulligan.errors import FailedPrecondition, Unavailable
from mulligan.pki import ensure_ca, ensure_server_certificate
from mulligan.secretbox import ensure_master_key

ADMIN_ACCOUNT = "admin"
# iam, meta, resource, control, boot.
GATEWAY_PORTS = 5
ASK_DEADLINE_S = 10.0
# The kernel takes a moment to close what a process had that was killed just now.
PORTS_DEADLINE_S = 5.0
PORTS_PAUSE_S = 0.1


async def prepare_host(settings: Settings) -> None:
    """Makes what is missing and changes nothing else, except a server certificate near its end.

    Raises FailedPrecondition when another host has what is missing here, Unavailable when that cannot be told.
    """
    places = Places(settings.state_dir)
    secret = _secrets(settings)
    joins = not all(path.exists() for path in (*secret, places.admin)) and await _serves_a_system(settings)
    missing = [str(path) for path in secret if not path.exists()]
    if joins and missing:
        raise FailedPrecondition(f"copy these from the first host of the system: {', '.join(missing)}")
    await asyncio.to_thread(_make_missing, settings, first=not joins)


def _make_missing(settings: Settings, *, first: bool) -> None:
    places = Places(settings.state_dir)
    places.make()
    places.host_id()
    ensure_token(settings)
    if not settings.tls_dir:
        tls_dir = settings.state_dir / "tls"
        ensure_ca(tls_dir)
        ensure_server_certificate(tls_dir, certificate_hosts(settings))
    ensure_master_key(places.secrets / "master.key")
    if not settings.port and read_json(places.ports) is None:
        write_json(places.ports, {"first": free_ports(GATEWAY_PORTS, settings.listen)})
    if first and not places.admin.exists():
        write_json(places.admin, {"account": ADMIN_ACCOUNT, "secret": secrets.token_urlsafe(24)})


def _secrets(settings: Settings) -> list[Path]:
    """What all hosts of one system share; the first one makes it."""
    places = Places(settings.state_dir)
    shared = [places.secrets / "master.key"]
    shared += [places.ray_token] if settings.ray else []
    return shared + ([] if settings.tls_dir else [settings.state_dir / "tls" / name for name in ("ca.crt", "ca.key")])


async def _serves_a_system(settings: Settings) -> bool:
    """Whether the operator's PostgreSQL has the state of a system; an embedded one is of this host alone."""
    if not settings.postgres:
        return False
    try:
        connection = await asyncpg.connect(settings.postgres, timeout=ASK_DEADLINE_S)
        try:
            found = await connection.fetchval("SELECT to_regclass('mulligan.ownership')", timeout=ASK_DEADLINE_S)
        finally:
            await connection.close(timeout=ASK_DEADLINE_S)
    except (asyncpg.PostgresError, OSError, ValueError, TimeoutError) as error:
        why = str(error) or f"no answer within {ASK_DEADLINE_S:g} s"
        raise Unavailable(f"PostgreSQL of the setting postgres cannot be used: {why}; check that it runs") from None
    return found is not None


def with_addresses(settings: Settings) -> Settings:
    """The settings with what follows from this host where they leave it open: the ports, the advertised address.

    The ports are those that were free when the host was prepared: a gateway that comes back is where machines and
    clients know it.
    """
    port = settings.port or int((read_json(Places(settings.state_dir).ports) or {"first": 0})["first"])
    everywhere = settings.listen in ("0.0.0.0", "::")
    advertise = settings.advertise or (node_address(settings) if everywhere else "")
    return replace(settings, port=port, advertise=advertise)


async def require_free_ports(settings: Settings) -> None:
    """Raises FailedPrecondition when another program has one of the gateways' ports. Nothing of ours runs any more."""
    first = with_addresses(settings).port
    deadline = asyncio.get_running_loop().time() + PORTS_DEADLINE_S
    while taken := [port for port in range(first, first + GATEWAY_PORTS) if not is_free(port, settings.listen)]:
        if asyncio.get_running_loop().time() > deadline:
            raise FailedPrecondition(
                f"port {taken[0]} of {settings.listen} cannot be used, another program may have it; "
                f"choose the first of {GATEWAY_PORTS} others with --port"
            )
        await asyncio.sleep(PORTS_PAUSE_S)


def certificate_hosts(settings: Settings) -> list[str]:
    """The names and addresses that clients may use for this host."""
    hosts = {"127.0.0.1", "::1", "localhost", socket.gethostname(), settings.advertise, node_address(settings)}
    if settings.listen not in ("0.0.0.0", "::"):
        hosts.add(settings.listen)
    return sorted(host for host in hosts if host)


def tls_dir(settings: Settings) -> Path:
    """Folder with ca.crt, server.crt and server.key."""
    return Path(settings.tls_dir) if settings.tls_dir else settings.state_dir / "tls"
