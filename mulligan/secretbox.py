"""Encryption of secrets at rest with the installation's master key: AES-256-GCM, each secret bound to its context."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mulligan.errors import FailedPrecondition
from mulligan.files import locked, make_private_directory, write_private

KEY_BYTES = 32
NONCE_BYTES = 12

# First byte of everything sealed, so that another algorithm can follow some day.
VERSION = b"\x01"


class SecretBox:
    """Seals and opens small secrets such as BMC passwords."""

    def __init__(self, key: bytes) -> None:
        """`key` is 32 random bytes."""
        self._key = key
        self._cipher = AESGCM(key)

    @classmethod
    def from_file(cls, path: Path) -> SecretBox:
        """Reads the master key (base64); raises FailedPrecondition when it is missing or no key."""
        try:
            key = base64.b64decode(path.read_bytes().strip(), validate=True)
        except FileNotFoundError:
            raise FailedPrecondition(f"there is no master key at {path}; copy it from the first host") from None
        except binascii.Error:
            key = b""
        if len(key) != KEY_BYTES:
            raise FailedPrecondition(f"{path} does not hold a master key: {KEY_BYTES} bytes in base64")
        return cls(key)

    def derive(self, context: str) -> bytes:
        """A key of 32 bytes for something else, the same on every host; it tells nothing of the master key."""
        return hmac.digest(self._key, f"derive/{context}".encode(), "sha256")

    def seal(self, plain: bytes, context: str) -> bytes:
        """Encrypts; only `open` with the same context, such as the owner's id, gives it back."""
        nonce = os.urandom(NONCE_BYTES)
        return VERSION + nonce + self._cipher.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypts; raises FailedPrecondition for another key, another context or changed bytes."""
        nonce, encrypted = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            if sealed[:1] == VERSION and len(nonce) == NONCE_BYTES:
                return self._cipher.decrypt(nonce, encrypted, context.encode())
        except InvalidTag:
            pass
        raise FailedPrecondition(
            "a stored secret cannot be opened with this master key; restore the master key it was sealed with, "
            "or set the secret again"
        )


def ensure_master_key(path: Path) -> None:
    """Makes a master key at `path` (mode 0600) unless there is one."""
    make_private_directory(path.parent)
    with locked(path.with_name(f".{path.name}.lock")):
        if not path.exists():
            write_private(path, base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
