"""A simulated BMC: what it answers to each IPMI command."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

from mulligan.park import records
from mulligan.park.faults import Faults
from mulligan.park.machine import Machine
from mulligan.park.rmcp import (
    FORMAT_15,
    FORMAT_20,
    RMCP_HEADER,
    SUITE_RECORDS,
    Message,
    Payload,
    Session,
    SessionTable,
    plain_packet,
    plain_packet_15,
)

# Network functions.
CHASSIS, SENSOR, APP, STORAGE = 0x00, 0x04, 0x06, 0x0A

# Completion codes.
OK = 0x00
BAD_LENGTH = 0xC7
OUT_OF_RANGE = 0xC9
NOT_PRESENT = 0xCB
INVALID_FIELD = 0xCC
NOT_IN_THIS_STATE = 0xD5
UNKNOWN_COMMAND = 0xC1
PRIVILEGE_EXCEEDED = 0x81
UNSUPPORTED_PARAMETER = 0x80

CLOSE_SESSION = (APP, 0x3C)
SET_PRIVILEGE = (APP, 0x3B)

BOOT_FLAGS = 5

# As much of the FRU as one answer holds.
FRU_CHUNK = 128

# A manufacturer id that clients accept: zero makes some of them fail.
MANUFACTURER_ID = 0x1291

Answer = tuple[int, bytes]


class Bmc:
    """Packets in, packets out; acts on its machine."""

    def __init__(self, machine: Machine, username: str, password: str, faults: Faults) -> None:
        """`faults` may be changed at any time."""
        self.machine = machine
        self.faults = faults
        self._username = username.encode()
        self._password = password.encode()
        self._guid = machine.uuid.bytes
        self._sessions = SessionTable(self._guid, self._password_of)
        self._events: list[bytes] = []
        self._sensors = {1: 42, 2: 60}
        self._sensor_records = [
            records.temperature_sensor(1, 1, "CPU Temp"),
            records.fan_sensor(2, 2, "Fan 1"),
            records.fru_locator(3, 0, "Main FRU"),
        ]
        self._fru = records.fru_inventory(f"PARK-{machine.mac.replace(':', '')}")
        machine.on_power = self._log_power
        self._commands: dict[tuple[int, int], Callable[[bytes], Answer]] = {
            (APP, 0x01): self._device_id,
            (APP, 0x02): lambda data: (OK, b""),
            (APP, 0x37): lambda data: (OK, self.machine.uuid.bytes_le),
            (APP, 0x38): self._channel_capabilities,
            (APP, 0x54): self._cipher_suites,
            (CHASSIS, 0x01): lambda data: (OK, bytes([int(self.machine.powered), 0, 0])),
            (CHASSIS, 0x02): self._control_chassis,
            (CHASSIS, 0x04): lambda data: (OK, b""),
            (CHASSIS, 0x08): self._set_boot_options,
            (CHASSIS, 0x09): self._get_boot_options,
            (SENSOR, 0x2D): self._sensor_reading,
            (SENSOR, 0x27): lambda data: (OK, bytes([0x38, 0, 0, 0, 80, 90, 100])),
            (STORAGE, 0x10): self._fru_area,
            (STORAGE, 0x11): self._read_fru,
            (STORAGE, 0x20): lambda data: (
                OK,
                struct.pack("<BHHIIB", 0x51, len(self._sensor_records), 0xFFFF, 1, 1, 2),
            ),
            (STORAGE, 0x22): lambda data: (OK, b"\x01\x00"),
            (STORAGE, 0x23): self._read_sensor_record,
            (STORAGE, 0x40): lambda data: (OK, struct.pack("<BHHIIB", 0x51, len(self._events), 1000, 0, 0, 2)),
            (STORAGE, 0x42): lambda data: (OK, b"\x01\x00"),
            (STORAGE, 0x43): self._read_event,
            (STORAGE, 0x47): self._clear_events,
            (STORAGE, 0x48): lambda data: (OK, struct.pack("<I", int(time.time()))),
        }

    def handle(self, packet: bytes) -> bytes | None:
        """The answer to a packet; None where a BMC stays silent."""
        if self.faults.unreachable or len(packet) < 16 or packet[:4] != RMCP_HEADER:
            return None
        if packet[4] == FORMAT_15:
            answer = self._outside_session(packet[14 : 14 + packet[13]])
            return plain_packet_15(answer) if answer else None
        if packet[4] != FORMAT_20:
            return None
        payload_type, session_id = packet[5], packet[6:10]
        (length,) = struct.unpack_from("<H", packet, 14)
        if payload_type == Payload.SEALED | Payload.IPMI:
            return self._in_session(session_id, packet, length)
        payload = packet[16 : 16 + length]
        if payload_type == Payload.IPMI:
            answer = self._outside_session(payload)
            return plain_packet(Payload.IPMI, answer) if answer else None
        return self._sessions.handshake(payload_type, payload)

    def _outside_session(self, payload: bytes) -> bytes | None:
        """Only what a client must know to log in."""
        message = Message.decode(payload)
        if message is None or (message.netfn, message.command) not in ((APP, 0x38), (APP, 0x54)):
            return None
        return message.response(*self._answer(message))

    def _in_session(self, session_id: bytes, packet: bytes, length: int) -> bytes | None:
        session = self._sessions.find(session_id)
        payload = session.open(packet, length) if session else None
        message = Message.decode(payload) if payload else None
        if session is None or message is None:
            return None
        kind = (message.netfn, message.command)
        if self.faults.hang_after_login and kind != SET_PRIVILEGE:
            return None
        if message != session.last_request:
            session.last_request = message
            code, data = self._set_privilege(session, message) if kind == SET_PRIVILEGE else self._answer(message)
            session.last_response = message.response(code, data)
        if kind == CLOSE_SESSION:
            self._sessions.close(session)
        return session.seal(session.last_response)

    def _answer(self, message: Message) -> Answer:
        if (message.netfn, message.command) == CLOSE_SESSION:
            return OK, b""
        command = self._commands.get((message.netfn, message.command))
        if command is None:
            return UNKNOWN_COMMAND, b""
        try:
            return command(message.data)
        except (IndexError, struct.error):
            return BAD_LENGTH, b""

    def _password_of(self, username: bytes) -> bytes | None:
        if username != self._username:
            return None
        return self._password + b"!" if self.faults.wrong_password else self._password

    def _set_privilege(self, session: Session, message: Message) -> Answer:
        wanted = message.data[0] & 0x0F if message.data else 0
        if wanted > session.role & 0x0F:
            return PRIVILEGE_EXCEEDED, b""
        session.privilege = wanted or session.privilege
        return OK, bytes([session.privilege])

    def _channel_capabilities(self, data: bytes) -> Answer:
        """Channel 1; IPMI 2.0 only; user names are used."""
        return OK, bytes([1, 0x80, 0x04, 0x02, 0, 0, 0, 0])

    def _cipher_suites(self, data: bytes) -> Answer:
        start = (data[2] & 0x3F) * 16
        return OK, b"\x01" + SUITE_RECORDS[start : start + 16]

    def _device_id(self, data: bytes) -> Answer:
        manufacturer = MANUFACTURER_ID.to_bytes(3, "little")
        return OK, bytes([0x20, 1, 1, 0x23, 2, 0xBF]) + manufacturer + b"\x02\x0f" + bytes(4)

    def _control_chassis(self, data: bytes) -> Answer:
        machine, action = self.machine, data[0] & 0x0F
        actions = {0: machine.power_off, 1: machine.power_on, 2: machine.reset, 3: machine.reset, 5: machine.power_off}
        if action not in actions:
            return INVALID_FIELD, b""
        if action in (2, 3) and not machine.powered:
            return NOT_IN_THIS_STATE, b""
        machine.power_commands += 1
        if not self.faults.lying_power:
            actions[action]()
        return OK, b""

    def _set_boot_options(self, data: bytes) -> Answer:
        if data[0] & 0x7F == BOOT_FLAGS:
            self.machine.set_boot_override(
                valid=bool(data[1] & 0x80), persistent=bool(data[1] & 0x40), device=data[2] >> 2 & 15
            )
        return OK, b""

    def _get_boot_options(self, data: bytes) -> Answer:
        if data[0] & 0x7F != BOOT_FLAGS:
            return UNSUPPORTED_PARAMETER, b""
        override = self.machine.boot_override
        flags = override.valid << 7 | override.persistent << 6
        return OK, bytes([1, BOOT_FLAGS, flags, override.device << 2, 0, 0, 0])

    def _sensor_reading(self, data: bytes) -> Answer:
        if data[0] not in self._sensors:
            return NOT_PRESENT, b""
        return OK, bytes([self._sensors[data[0]], 0xC0, 0xC0])

    def _fru_area(self, data: bytes) -> Answer:
        return (OK, struct.pack("<HB", len(self._fru), 0)) if data[0] == 0 else (NOT_PRESENT, b"")

    def _read_fru(self, data: bytes) -> Answer:
        device, offset, count = struct.unpack_from("<BHB", data)
        if device != 0:
            return NOT_PRESENT, b""
        if offset >= len(self._fru):
            return OUT_OF_RANGE, b""
        part = self._fru[offset : offset + min(count, FRU_CHUNK)]
        return OK, bytes([len(part)]) + part

    def _read_sensor_record(self, data: bytes) -> Answer:
        _, record, offset, count = struct.unpack_from("<HHBB", data)
        return _read_record(self._sensor_records, record, offset, count)

    def _read_event(self, data: bytes) -> Answer:
        _, record, offset, count = struct.unpack_from("<HHBB", data)
        return _read_record(self._events, record, offset, count)

    def _clear_events(self, data: bytes) -> Answer:
        self._events.clear()
        return OK, b"\x01"

    def _log_power(self, power_on: bool) -> None:
        if len(self._events) < 1000:
            self._events.append(records.power_event(len(self._events) + 1, int(time.time()), power_on))


def _read_record(stored: list[bytes], record: int, offset: int, count: int) -> Answer:
    """Records count from 1; 0 asks for the first, 0xFFFF for the last."""
    index = {0: 0, 0xFFFF: len(stored) - 1}.get(record, record - 1)
    if not 0 <= index < len(stored):
        return NOT_PRESENT, b""
    following = 0xFFFF if index + 1 == len(stored) else index + 2
    part = stored[index][offset:] if count == 0xFF else stored[index][offset : offset + count]
    return OK, struct.pack("<H", following) + part
