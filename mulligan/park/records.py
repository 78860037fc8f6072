"""Encoders for what a BMC stores: FRU inventory, sensor records, event log. Formats: IPMI 2.0 and FRU 1.0."""

from __future__ import annotations

import struct

MANUFACTURER = "Mulligan"
PRODUCT = "Park machine"
PART_NUMBER = "PARK-1"

POWER_UNIT_SENSOR = 0x09
EVENT_DEASSERTED = 0x80


def checksum(data: bytes | bytearray) -> int:
    """The byte that makes the sum zero."""
    return -sum(data) & 0xFF


def fru_inventory(serial: str) -> bytes:
    """Board and product areas of a FRU device."""
    names = [MANUFACTURER, PRODUCT]
    board = _fru_area(bytes([1, 0, 0, 0, 0, 0]), [*names, serial, PART_NUMBER, ""])
    product = _fru_area(bytes([1, 0, 0]), [*names, PART_NUMBER, "1.0", serial, "", ""])
    header = bytes([1, 0, 0, 1, 1 + len(board) // 8, 0, 0])
    return header + bytes([checksum(header)]) + board + product


def _fru_area(head: bytes, texts: list[str]) -> bytes:
    """Padded to whole 8-byte blocks; byte 1 counts them; a checksum ends it."""
    body = head + b"".join(bytes([0xC0 | len(text)]) + text.encode() for text in texts) + b"\xc1"
    blocks = -(-(len(body) + 1) // 8)
    area = bytearray(body.ljust(blocks * 8 - 1, b"\0"))
    area[1] = blocks
    return bytes(area) + bytes([checksum(area)])


def temperature_sensor(record: int, number: int, name: str) -> bytes:
    """A full sensor record: degrees Celsius, thresholds at 80, 90 and 100."""
    return _full_sensor(record, number, kind=1, unit=1, factor=1, thresholds=(100, 90, 80), name=name)


def fan_sensor(record: int, number: int, name: str) -> bytes:
    """A full sensor record: revolutions per minute in hundreds."""
    return _full_sensor(record, number, kind=4, unit=18, factor=100, thresholds=(200, 190, 180), name=name)


def _full_sensor(
    record: int, number: int, *, kind: int, unit: int, factor: int, thresholds: tuple[int, int, int], name: str
) -> bytes:
    owner = bytes([0x20, 0, number, 7, 1, 0x7F, 0x68, kind, 1])
    masks = bytes([0x80, 0x0A, 0x80, 0x0A, 0x38, 0x38])
    reading = bytes([0, unit, 0, 0, factor, 0, 0, 0, 0, 0, 0, 0x20, 0x40, 0, 0xFF, 0])
    limits = bytes([*thresholds, 0, 0, 0, 1, 1, 0, 0, 0])
    return _record(record, 0x01, owner + masks + reading + limits + _named(name))


def fru_locator(record: int, device: int, name: str) -> bytes:
    """Tells clients that a FRU device is there."""
    return _record(record, 0x11, bytes([0x20, device, 0x80, 0, 0, 0x10, 0, 7, 1, 0]) + _named(name))


def _named(name: str) -> bytes:
    return bytes([0xC0 | len(name)]) + name.encode()


def _record(record: int, kind: int, body: bytes) -> bytes:
    return struct.pack("<HBBB", record, 0x51, kind, len(body)) + body


def power_event(record: int, at_s: int, power_on: bool) -> bytes:
    """An event log entry: the power unit went off, or its being off ended."""
    direction = 0x6F | (EVENT_DEASSERTED if power_on else 0)
    return struct.pack("<HBIHBBBBBBB", record, 2, at_s, 0x20, 4, POWER_UNIT_SENSOR, 1, direction, 0, 0xFF, 0xFF)
