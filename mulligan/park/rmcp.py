"""The wire of IPMI 2.0 on the BMC's side: RMCP+ sessions with cipher suites 3 and 17 (IPMI 2.0, chapter 13).

Sans I/O: a packet in, a packet or nothing out. Written from the specification and sharing no code with any client,
so that a client proven against it is proven against something of its own kind.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from mulligan.park.records import checksum

RMCP_HEADER = b"\x06\x00\xff\x07"
FORMAT_15, FORMAT_20 = 0x00, 0x06
NEXT_HEADER = 0x07
BLOCK = 16
PASSWORD_BYTES = 20

# Oldest sessions go first when clients leave without saying goodbye.
MOST_SESSIONS = 32


class Payload(IntEnum):
    """Payload types."""

    IPMI = 0x00
    OPEN_REQUEST = 0x10
    OPEN_RESPONSE = 0x11
    RAKP1 = 0x12
    RAKP2 = 0x13
    RAKP3 = 0x14
    RAKP4 = 0x15
    SEALED = 0xC0  # both the encrypted and the authenticated bit


class Status(IntEnum):
    """RMCP+ status codes."""

    OK = 0x00
    INVALID_SESSION = 0x02
    UNAUTHORIZED_NAME = 0x0D
    INVALID_INTEGRITY = 0x0F
    NO_MATCHING_SUITE = 0x11


@dataclass(frozen=True, slots=True)
class Suite:
    """A cipher suite; confidentiality is AES-CBC-128 in both."""

    number: int
    authentication: int
    integrity: int
    digest: Callable[..., hashlib._Hash]
    code_bytes: int

    def hmac(self, key: bytes, data: bytes) -> bytes:
        """The suite's keyed hash."""
        return hmac.new(key, data, self.digest).digest()


SUITES = (
    Suite(3, authentication=1, integrity=1, digest=hashlib.sha1, code_bytes=12),
    Suite(17, authentication=3, integrity=4, digest=hashlib.sha256, code_bytes=16),
)
AES_CBC_128 = 1

# Get Channel Cipher Suites: standard record, id, then the tagged algorithms of each.
SUITE_RECORDS = b"".join(bytes([0xC0, s.number, s.authentication, 0x40 | s.integrity, 0x81]) for s in SUITES)


@dataclass(frozen=True, slots=True)
class Message:
    """An IPMI request as it came in a payload."""

    netfn: int
    command: int
    data: bytes
    # Header fields that the response mirrors: responder, responder lun, requester, requester sequence and lun.
    to_address: int = 0x20
    to_lun: int = 0
    from_address: int = 0x81
    sequence_lun: int = 0

    @classmethod
    def decode(cls, payload: bytes) -> Message | None:
        """None when a checksum is wrong."""
        if len(payload) < 7 or sum(payload[:3]) & 0xFF or sum(payload[3:]) & 0xFF:
            return None
        to_address, netfn_lun, _, from_address, sequence_lun, command = payload[:6]
        return cls(netfn_lun >> 2, command, payload[6:-1], to_address, netfn_lun & 3, from_address, sequence_lun)

    def response(self, code: int, data: bytes = b"") -> bytes:
        """The payload that answers it."""
        head = bytes([self.from_address, (self.netfn | 1) << 2 | self.sequence_lun & 3])
        body = bytes([self.to_address, self.sequence_lun & 0xFC | self.to_lun, self.command, code]) + data
        return head + bytes([checksum(head)]) + body + bytes([checksum(body)])


@dataclass(slots=True)
class Session:
    """One client's session, from its opening on."""

    suite: Suite
    console_id: bytes
    managed_id: bytes
    role: int = 0
    username: bytes = b""
    password_key: bytes = b""
    console_random: bytes = b""
    bmc_random: bytes = field(default_factory=lambda: os.urandom(16))
    session_key: bytes = b""
    integrity_key: bytes = b""
    cipher_key: bytes = b""
    established: bool = False
    privilege: int = 2
    sequence: int = 0
    # The last request and its answer: a client that missed the answer asks again and must not act twice.
    last_request: Message | None = None
    last_response: bytes = b""

    @property
    def _name(self) -> bytes:
        return bytes([self.role, len(self.username)]) + self.username

    def exchange_code(self, guid: bytes) -> bytes:
        """Proves to the client that we know its password (RAKP 2)."""
        parts = self.console_id + self.managed_id + self.console_random + self.bmc_random + guid + self._name
        return self.suite.hmac(self.password_key, parts)

    def expected_proof(self) -> bytes:
        """What a client that knows the password sends (RAKP 3)."""
        return self.suite.hmac(self.password_key, self.bmc_random + self.console_id + self._name)

    def establish(self, guid: bytes) -> bytes:
        """Derives the keys; returns the check value of RAKP 4."""
        self.session_key = self.suite.hmac(self.password_key, self.console_random + self.bmc_random + self._name)
        self.integrity_key = self.suite.hmac(self.session_key, b"\x01" * 20)
        self.cipher_key = self.suite.hmac(self.session_key, b"\x02" * 20)[:BLOCK]
        self.established = True
        check = self.suite.hmac(self.session_key, self.console_random + self.managed_id + guid)
        return check[: self.suite.code_bytes]

    def open(self, packet: bytes, length: int) -> bytes | None:
        """The decrypted payload of a packet; None when it was not made with our keys."""
        signed, code = packet[4 : -self.suite.code_bytes], packet[-self.suite.code_bytes :]
        wanted = self.suite.hmac(self.integrity_key, signed)[: self.suite.code_bytes]
        sealed = packet[16 : 16 + length]
        if not hmac.compare_digest(wanted, code) or length < 2 * BLOCK or length % BLOCK:
            return None
        decryptor = Cipher(AES(self.cipher_key), CBC(sealed[:BLOCK])).decryptor()
        plain = decryptor.update(sealed[BLOCK:]) + decryptor.finalize()
        return plain[: -plain[-1] - 1] if plain[-1] < BLOCK else None

    def seal(self, plain: bytes) -> bytes:
        """A whole packet for the client."""
        self.sequence += 1
        padding = -(len(plain) + 1) % BLOCK
        padded = plain + bytes(range(1, padding + 1)) + bytes([padding])
        start = os.urandom(BLOCK)
        encryptor = Cipher(AES(self.cipher_key), CBC(start)).encryptor()
        sealed = start + encryptor.update(padded) + encryptor.finalize()
        head = bytes([FORMAT_20, Payload.SEALED | Payload.IPMI]) + self.console_id
        signed = head + struct.pack("<IH", self.sequence, len(sealed)) + sealed
        fill = -(len(signed) + 2) % 4
        signed += b"\xff" * fill + bytes([fill, NEXT_HEADER])
        return RMCP_HEADER + signed + self.suite.hmac(self.integrity_key, signed)[: self.suite.code_bytes]


class SessionTable:
    """Opens, authenticates and finds the sessions of one BMC."""

    def __init__(self, guid: bytes, password_of: Callable[[bytes], bytes | None]) -> None:
        """`password_of` gives a user's password, None for an unknown user."""
        self._guid = guid
        self._password_of = password_of
        self._sessions: dict[bytes, Session] = {}

    def find(self, managed_id: bytes) -> Session | None:
        """An established session."""
        session = self._sessions.get(managed_id)
        return session if session and session.established else None

    def close(self, session: Session) -> None:
        """Forgets it."""
        self._sessions.pop(session.managed_id, None)

    def handshake(self, payload_type: int, payload: bytes) -> bytes | None:
        """Answers one of the messages that make a session."""
        steps: dict[int, tuple[Callable[[bytes], tuple[Payload, bytes]], int]] = {
            Payload.OPEN_REQUEST: (self._open, 32),
            Payload.RAKP1: (self._rakp1, 28),
            Payload.RAKP3: (self._rakp3, 8),
        }
        if payload_type not in steps:
            return None
        step, shortest = steps[payload_type]
        return plain_packet(*step(payload)) if len(payload) >= shortest else None

    def _open(self, payload: bytes) -> tuple[Payload, bytes]:
        tag, console_id = payload[:1], payload[4:8]
        authentication, integrity, confidentiality = payload[12], payload[20], payload[28]
        suite = _matching_suite(authentication, integrity)
        if suite is None or confidentiality != AES_CBC_128:
            return Payload.OPEN_RESPONSE, tag + bytes([Status.NO_MATCHING_SUITE, 0, 0]) + console_id
        session = Session(suite, console_id, os.urandom(4))
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[session.managed_id] = session
        chosen = struct.pack(
            "<BxxBB3xBxxBB3xBxxBB3x", 0, 8, suite.authentication, 1, 8, suite.integrity, 2, 8, AES_CBC_128
        )
        return Payload.OPEN_RESPONSE, tag + bytes([Status.OK, 4, 0]) + console_id + session.managed_id + chosen

    def _rakp1(self, payload: bytes) -> tuple[Payload, bytes]:
        tag, session = payload[:1], self._sessions.get(payload[4:8])
        if session is None or session.established:
            return Payload.RAKP2, tag + bytes([Status.INVALID_SESSION, 0, 0]) + bytes(4)
        session.console_random, session.role = payload[8:24], payload[24]
        session.username = payload[28 : 28 + payload[27]]
        password = self._password_of(session.username)
        if password is None:
            self.close(session)
            return Payload.RAKP2, tag + bytes([Status.UNAUTHORIZED_NAME, 0, 0]) + session.console_id
        session.password_key = password[:PASSWORD_BYTES].ljust(PASSWORD_BYTES, b"\0")
        proof = session.bmc_random + self._guid + session.exchange_code(self._guid)
        return Payload.RAKP2, tag + bytes([Status.OK, 0, 0]) + session.console_id + proof

    def _rakp3(self, payload: bytes) -> tuple[Payload, bytes]:
        tag, session = payload[:1], self._sessions.get(payload[4:8])
        if session is None or not session.password_key:
            return Payload.RAKP4, tag + bytes([Status.INVALID_SESSION, 0, 0]) + bytes(4)
        if payload[1] != Status.OK or not hmac.compare_digest(payload[8:], session.expected_proof()):
            self.close(session)
            return Payload.RAKP4, tag + bytes([Status.INVALID_INTEGRITY, 0, 0]) + session.console_id
        return Payload.RAKP4, tag + bytes([Status.OK, 0, 0]) + session.console_id + session.establish(self._guid)


def plain_packet(payload_type: int, payload: bytes) -> bytes:
    """A packet outside any session."""
    return RMCP_HEADER + struct.pack("<BBIIH", FORMAT_20, payload_type, 0, 0, len(payload)) + payload


def plain_packet_15(payload: bytes) -> bytes:
    """The same in the format of IPMI 1.5, which clients use for the very first question."""
    return RMCP_HEADER + struct.pack("<BIIB", FORMAT_15, 0, 0, len(payload)) + payload


def _matching_suite(authentication: int, integrity: int) -> Suite | None:
    return next((s for s in SUITES if (s.authentication, s.integrity) == (authentication, integrity)), None)
