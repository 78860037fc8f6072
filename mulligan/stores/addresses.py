"""Where the stores are and what opens them: plain data, safe to hand to another process."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from mulligan.config import Settings
from mulligan.errors import FailedPrecondition

POSTGRES_PASSWORD_FILE = "postgres.password"
NATS_PASSWORD_FILE = "nats.password"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses and credentials of etcd, NATS and Postgres. Secrets do not show in its repr."""

    # host:port of each etcd member; always with mutual TLS, by tls_dir.
    etcd: tuple[str, ...]
    # tls://host:port, or nats://host:port for one without TLS.
    nats: str
    # DSN of the database, password and sslmode included.
    postgres: str = field(repr=False)
    nats_user: str
    nats_password: str = field(repr=False)
    # Folder with ca.crt, server.crt and server.key.
    tls_dir: Path
    # File with the key that seals secrets at rest.
    master_key: Path
    state_dir: Path

    @classmethod
    def load(cls, settings: Settings) -> Addresses:
        """Takes each address from the settings, or from what the embedded server of that kind wrote down.

        Raises FailedPrecondition when an embedded server was never set up here.
        """
        state_dir = settings.state_dir
        tls_dir = Path(settings.tls_dir) if settings.tls_dir else state_dir / "tls"
        nats, user, password = _nats_of(settings)
        return cls(
            etcd=_etcd_of(settings),
            nats=nats,
            nats_user=user,
            nats_password=password,
            postgres=settings.postgres or _embedded_postgres(state_dir),
            tls_dir=tls_dir,
            master_key=state_dir / "secrets" / "master.key",
            state_dir=state_dir,
        )

    def with_database(self, name: str) -> Addresses:
        """The same with another database on the same Postgres server."""
        return replace(self, postgres=urlunsplit(urlsplit(self.postgres)._replace(path=f"/{quote(name)}")))


def run_file(state_dir: Path, name: str) -> Path:
    """Where an embedded server's address is remembered: JSON with at least host and port."""
    return state_dir / "run" / f"{name}.json"


def _etcd_of(settings: Settings) -> tuple[str, ...]:
    if settings.etcd:
        return tuple(part.strip() for part in settings.etcd.split(",") if part.strip())
    found = _read(settings.state_dir, "etcd")
    return (f"{found['host']}:{found['port']}",)


def _nats_of(settings: Settings) -> tuple[str, str, str]:
    """URL without credentials, user, password."""
    if not settings.nats:
        found = _read(settings.state_dir, "nats")
        password = _secret(settings.state_dir, NATS_PASSWORD_FILE)
        return f"tls://{found['host']}:{found['port']}", str(found["user"]), password
    given = settings.nats if "://" in settings.nats else f"tls://{settings.nats}"
    parts = urlsplit(given)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return bare, unquote(parts.username or ""), unquote(parts.password or "")


def _embedded_postgres(state_dir: Path) -> str:
    """On a Unix socket: `host` is its folder."""
    found = _read(state_dir, "postgres")
    password = quote(_secret(state_dir, POSTGRES_PASSWORD_FILE), safe="")
    place = f"host={quote(found['host'], safe='')}&port={found['port']}"
    return f"postgresql://{found['user']}:{password}@/{found['database']}?{place}"


def _read(state_dir: Path, name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(run_file(state_dir, name).read_text())
    except FileNotFoundError:
        raise FailedPrecondition(
            f"no {name} was set up in {state_dir}; run `mulligan bootstrap` there, or set {name} to your own server"
        ) from None
    return found


def _secret(state_dir: Path, name: str) -> str:
    path = state_dir / "secrets" / name
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        raise FailedPrecondition(f"{path} is missing; restore it, or bootstrap again into an empty folder") from None
