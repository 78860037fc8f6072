"""The server's certificate, read again when its files change: the next connection gets the renewed one."""

from __future__ import annotations

import logging
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mulligan.errors import FailedPrecondition

log = logging.getLogger(__name__)

Stamp = tuple[int, int, int, int]


class ServerCertificate:
    """server.crt and server.key of a folder."""

    def __init__(self, tls_dir: Path) -> None:
        self._certificate = tls_dir / "server.crt"
        self._key = tls_dir / "server.key"
        self._stamp: Stamp | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that follow the files; raises FailedPrecondition when these are no pair now."""
        self._stamp = self._read_stamp()
        pair = self._read_pair()
        if pair is None:
            raise FailedPrecondition(f"{self._certificate} and {self._key} are missing or do not fit; mend them")
        return grpc.dynamic_ssl_server_credentials(pair, self._changed_pair, False)

    def _changed_pair(self) -> grpc.ServerCertificateConfiguration | None:
        """For each new connection: the pair when it changed; None keeps the one before. Runs in gRPC's threads."""
        stamp = self._read_stamp()
        if stamp is None or stamp == self._stamp:
            return None
        pair = self._read_pair()
        if pair is None:
            # Half of it was written; the next connection looks again.
            return None
        self._stamp = stamp
        log.info("a new certificate is served from now on: %s", self._certificate)
        return pair

    def _read_stamp(self) -> Stamp | None:
        try:
            certificate, key = self._certificate.stat(), self._key.stat()
        except OSError:
            return None
        return certificate.st_mtime_ns, certificate.st_ino, key.st_mtime_ns, key.st_ino

    def _read_pair(self) -> grpc.ServerCertificateConfiguration | None:
        try:
            chain, key = self._certificate.read_bytes(), self._key.read_bytes()
            if x509.load_pem_x509_certificate(chain).public_key() != load_pem_private_key(key, None).public_key():
                return None
        except (OSError, ValueError, TypeError) as error:
            log.warning("the certificate in %s cannot be read: %s", self._certificate.parent, error)
            return None
        return grpc.ssl_server_certificate_configuration([(key, chain)])
