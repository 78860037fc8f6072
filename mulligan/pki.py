"""A certificate authority of the installation's own, and the certificate that its servers and components share.

Folder: `ca.crt`, `ca.key`, `server.crt`, `server.key` (keys 0600). The server certificate serves and also
identifies a component to others (mutual TLS), so it carries both extended key usages.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mulligan.errors import FailedPrecondition
from mulligan.files import locked, make_private_directory, write_private

CA_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=397)
RENEW_BEFORE_END = timedelta(days=30)
# Hosts whose clocks run a little behind must accept a fresh certificate.
CLOCK_TOLERANCE = timedelta(hours=1)


def ensure_ca(tls_dir: Path) -> None:
    """Makes `ca.crt` and `ca.key` unless a CA certificate is there."""
    make_private_directory(tls_dir)
    with locked(tls_dir / ".lock"):
        if not (tls_dir / "ca.crt").exists():
            _make_ca(tls_dir)


def ensure_server_certificate(tls_dir: Path, hosts: Sequence[str], now: datetime | None = None) -> bool:
    """Makes or renews `server.crt` and `server.key`: near its end, when a host is missing, or when the CA changed.

    `hosts` are DNS names and IP addresses. Returns whether a new one was written.
    Raises FailedPrecondition when a new one is needed and the CA's key is not here.
    """
    now = now or datetime.now(UTC)
    with locked(tls_dir / ".lock"):
        authority = x509.load_pem_x509_certificate((tls_dir / "ca.crt").read_bytes())
        if _is_good(tls_dir, authority, set(hosts), now):
            return False
        _make_server_certificate(tls_dir, authority, sorted(set(hosts)), now)
        return True


def _make_ca(tls_dir: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Mulligan CA")])
    now = datetime.now(UTC)
    certificate = (
        _builder(name, name, key.public_key(), now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    # The certificate comes last: it is what says that the pair is complete.
    write_private(tls_dir / "ca.key", _private_pem(key))
    write_private(tls_dir / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def _make_server_certificate(tls_dir: Path, authority: x509.Certificate, hosts: Sequence[str], now: datetime) -> None:
    authority_key = _authority_key(tls_dir)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mulligan")])
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        _builder(name, authority.subject, key.public_key(), now, SERVER_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(issuer_id, critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    write_private(tls_dir / "server.key", _private_pem(key))
    write_private(tls_dir / "server.crt", certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def _authority_key(tls_dir: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key((tls_dir / "ca.key").read_bytes(), password=None)
    except FileNotFoundError:
        raise FailedPrecondition(
            f"{tls_dir}/server.crt has to be renewed or lacks a host name, and ca.key is not in that folder; "
            "put a server.crt and server.key for this host there"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FailedPrecondition(f"{tls_dir}/ca.key is not one that Mulligan made; put server.crt and server.key there")
    return key


def _is_good(tls_dir: Path, authority: x509.Certificate, hosts: set[str], now: datetime) -> bool:
    if not ((tls_dir / "server.crt").exists() and (tls_dir / "server.key").exists()):
        return False
    certificate = x509.load_pem_x509_certificate((tls_dir / "server.crt").read_bytes())
    key = serialization.load_pem_private_key((tls_dir / "server.key").read_bytes(), password=None)
    if key.public_key() != certificate.public_key():
        return False
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError):
        # One that an operator's CA chain issued is theirs to renew.
        return not (tls_dir / "ca.key").exists()
    return certificate.not_valid_after_utc - now > RENEW_BEFORE_END and hosts <= _hosts_of(certificate)


def _hosts_of(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    return addresses | set(names.get_values_for_type(x509.DNSName))


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
