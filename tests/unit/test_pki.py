"""Certificates that our own servers and clients accept, renewed when they have to be."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mulligan.errors import FailedPrecondition
from mulligan.pki import ensure_ca, ensure_server_certificate

HOSTS = ("127.0.0.1", "::1", "localhost", "node1.example.org")


@pytest.fixture
def tls_dir(tmp_path: Path) -> Path:
    ensure_ca(tmp_path / "tls")
    assert ensure_server_certificate(tmp_path / "tls", HOSTS)
    return tmp_path / "tls"


def handshake(server_dir: Path, client_dir: Path, name: str) -> None:
    """Mutual TLS between two ends; raises ssl.SSLError when the client refuses."""
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(server_dir / "ca.crt"))
    server_context.verify_mode = ssl.CERT_REQUIRED
    server_context.load_cert_chain(server_dir / "server.crt", server_dir / "server.key")
    client_context = ssl.create_default_context(cafile=str(client_dir / "ca.crt"))
    client_context.load_cert_chain(client_dir / "server.crt", client_dir / "server.key")
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with server_context.wrap_socket(theirs, server_side=True) as connection:
                connection.sendall(connection.recv(1))
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_context.wrap_socket(ours, server_hostname=name) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
    finally:
        ours.close()
        thread.join(5)


@pytest.mark.parametrize("name", HOSTS)
def test_serves_and_identifies_under_every_host(tls_dir: Path, name: str) -> None:
    handshake(tls_dir, tls_dir, name)


def test_is_refused_under_another_name_and_by_another_authority(tls_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tls_dir, tls_dir, "example.com")
    ensure_ca(tmp_path / "other")
    ensure_server_certificate(tmp_path / "other", HOSTS)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tls_dir, tmp_path / "other", "localhost")


def test_changes_nothing_when_all_is_well(tls_dir: Path) -> None:
    before = {path.name: path.read_bytes() for path in tls_dir.iterdir()}
    ensure_ca(tls_dir)
    assert not ensure_server_certificate(tls_dir, HOSTS[:2])
    assert {path.name: path.read_bytes() for path in tls_dir.iterdir()} == before


def test_renews_near_the_end_and_for_a_new_host(tls_dir: Path) -> None:
    assert not ensure_server_certificate(tls_dir, HOSTS, datetime.now(UTC) + timedelta(days=360))
    assert ensure_server_certificate(tls_dir, HOSTS, datetime.now(UTC) + timedelta(days=370))
    assert ensure_server_certificate(tls_dir, (*HOSTS, "node2.example.org"))
    handshake(tls_dir, tls_dir, "node2.example.org")


def test_renews_after_the_authority_changed(tls_dir: Path) -> None:
    (tls_dir / "ca.crt").unlink()
    ensure_ca(tls_dir)
    assert ensure_server_certificate(tls_dir, HOSTS)
    handshake(tls_dir, tls_dir, "localhost")


def test_says_what_to_do_when_the_authority_key_is_elsewhere(tls_dir: Path) -> None:
    (tls_dir / "ca.key").unlink()
    assert not ensure_server_certificate(tls_dir, HOSTS)
    with pytest.raises(FailedPrecondition, match=r"put a server\.crt"):
        ensure_server_certificate(tls_dir, (*HOSTS, "node2.example.org"))


def test_keys_are_private(tls_dir: Path) -> None:
    for name in ("ca.key", "server.key"):
        assert stat.S_IMODE((tls_dir / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(tls_dir.stat().st_mode) == 0o700
