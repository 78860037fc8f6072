"""The parts of the park that need no network."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import cast

import pytest
from aiohttp import ClientSession

from mulligan.errors import InvalidArgument
from mulligan.park import Faults, ParkOptions
from mulligan.park.bmc import BAD_LENGTH, UNKNOWN_COMMAND, Bmc
from mulligan.park.machine import Machine
from mulligan.park.records import checksum, fru_inventory, temperature_sensor
from mulligan.park.rmcp import SUITES, Message, Payload, Session, Status, Suite, plain_packet


def test_faults_change_field_by_field() -> None:
    faults = Faults().changed({"delay_s": 0.5}).changed({"lying_power": True})
    assert (faults.delay_s, faults.lying_power, faults.unreachable) == (0.5, True, False)
    assert not faults.changed({"lying_power": False}).lying_power


@pytest.mark.parametrize("wrong", [{"nonsense": True}, {"delay_s": -1}, {"delay_s": "1"}, {"unreachable": 1}])
def test_unknown_faults_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        Faults().changed(wrong)


@pytest.mark.parametrize(
    "wrong", [{"count": 0}, {"count": 5000}, {"base_port": 65_535, "count": 2}, {"site": 256}, {"boot_url": "ftp://x"}]
)
def test_impossible_parks_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        ParkOptions(**{"count": 1, "boot_url": "http://127.0.0.1", **wrong})  # type: ignore[arg-type]


def test_password_is_not_shown() -> None:
    assert "s3cret" not in repr(ParkOptions(count=1, boot_url="http://x", password="s3cret"))


def test_message_with_a_wrong_checksum_is_dropped() -> None:
    # Get Chassis Status as in the specification: 20 00 E0 81 04 01 7A.
    packet = bytes.fromhex("2000e08104017a")
    message = Message.decode(packet)
    assert message == Message(netfn=0, command=1, data=b"", sequence_lun=4)
    for position in range(len(packet)):
        changed = bytearray(packet)
        changed[position] ^= 0x10
        assert Message.decode(bytes(changed)) is None
    assert Message.decode(b"") is None


def test_response_mirrors_the_request() -> None:
    request = Message.decode(bytes.fromhex("2000e08104017a"))
    assert request
    response = request.response(0, b"\x01\x00\x00")
    assert response.hex() == "81047b200401" + "00" + "010000" + "da"


class Client:
    """The console's side of a session, with the BMC in the same process."""

    def __init__(self, bmc: Bmc, suite: Suite, password: bytes) -> None:
        self.bmc = bmc
        self.session = Session(suite, b"cons", b"", role=4, username=b"admin", console_random=b"r" * 16)
        self.session.password_key = password.ljust(20, b"\0")

    def exchange(self, kind: Payload, payload: bytes) -> bytes:
        answer = self.bmc.handle(plain_packet(kind, payload))
        assert answer
        return answer[16:]

    def log_in(self) -> None:
        session, suite, guid = self.session, self.session.suite, self.bmc.machine.uuid.bytes
        offer = struct.pack("<BxxBB3xBxxBB3xBxxBB3x", 0, 8, suite.authentication, 1, 8, suite.integrity, 2, 8, 1)
        session.managed_id = self.exchange(Payload.OPEN_REQUEST, b"\x01\x00\x00\x00" + session.console_id + offer)[8:12]
        hello = session.managed_id + session.console_random + bytes([session.role, 0, 0, 5]) + session.username
        challenge = self.exchange(Payload.RAKP1, b"\x02\x00\x00\x00" + hello)
        session.bmc_random = challenge[8:24]
        assert challenge[24:40] == guid
        assert challenge[40:] == session.exchange_code(guid), "the BMC has another password"
        proof = session.managed_id + session.expected_proof()
        confirmed = self.exchange(Payload.RAKP3, b"\x03\x00\x00\x00" + proof)
        assert confirmed[8:] == session.establish(guid)

    def packet(self, netfn: int, command: int, data: bytes, sequence: int) -> bytes:
        head, body = bytes([0x20, netfn << 2]), bytes([0x81, sequence << 2, command]) + data
        message = head + bytes([checksum(head)]) + body + bytes([checksum(body)])
        outgoing = replace(self.session, console_id=self.session.managed_id)
        return outgoing.seal(message)

    def ask(self, netfn: int, command: int, data: bytes = b"", sequence: int = 1) -> bytes | None:
        """Completion code and data; None when the BMC stays silent."""
        answer = self.bmc.handle(self.packet(netfn, command, data, sequence))
        return self.opened(answer) if answer else None

    def opened(self, answer: bytes) -> bytes:
        plain = self.session.open(answer, struct.unpack_from("<H", answer, 14)[0])
        assert plain
        return plain[6:-1]


def make_bmc() -> Bmc:
    http = cast(ClientSession, None)  # nothing here boots from the network
    return Bmc(Machine("52:00:00:00:00:01", http, "http://unused", 0.0), "admin", "pw", Faults())


@pytest.mark.parametrize("suite", SUITES)
def test_session_carries_commands_and_acts_once_on_a_repeated_one(suite: Suite) -> None:
    bmc = make_bmc()
    client = Client(bmc, suite, b"pw")
    client.log_in()
    assert client.ask(6, 0x3B, b"\x04") == b"\x00\x04"
    assert client.ask(0, 2, b"\x01", sequence=2) == b"\x00"
    reset = [client.ask(0, 2, b"\x03", sequence=3) for _ in range(3)]
    assert reset == [b"\x00"] * 3
    assert (bmc.machine.power_commands, bmc.machine.boots) == (2, 2)
    assert client.ask(0, 2, b"\x03", sequence=4) == b"\x00"
    assert bmc.machine.boots == 3
    assert client.ask(6, 0x3C, b"\x00\x00\x00\x00", sequence=5) == b"\x00"
    assert client.ask(0, 1, sequence=6) is None


@pytest.mark.parametrize("suite", SUITES)
def test_changed_packets_are_ignored(suite: Suite) -> None:
    bmc = make_bmc()
    client = Client(bmc, suite, b"pw")
    client.log_in()
    packet = client.packet(0, 2, b"\x01", 1)
    for position in range(4, len(packet)):
        changed = bytearray(packet)
        changed[position] ^= 1
        assert bmc.handle(bytes(changed)) is None
        assert bmc.handle(packet[:position]) is None
    assert not bmc.machine.powered


def test_login_without_the_password_fails_on_both_sides() -> None:
    with pytest.raises(AssertionError, match="another password"):
        Client(make_bmc(), SUITES[0], b"guess").log_in()
    bmc = make_bmc()
    client = Client(bmc, SUITES[0], b"pw")
    client.log_in()
    guessing = Client(bmc, SUITES[0], b"guess")
    offer = struct.pack("<BxxBB3xBxxBB3xBxxBB3x", 0, 8, 1, 1, 8, 1, 2, 8, 1)
    managed_id = guessing.exchange(Payload.OPEN_REQUEST, b"\x01\x00\x00\x00cons" + offer)[8:12]
    guessing.exchange(Payload.RAKP1, b"\x02\x00\x00\x00" + managed_id + b"r" * 16 + b"\x04\x00\x00\x05admin")
    refused = guessing.exchange(Payload.RAKP3, b"\x03\x00\x00\x00" + managed_id + b"p" * 20)
    assert refused[1] == Status.INVALID_INTEGRITY


def test_malformed_commands_are_answered_with_a_code() -> None:
    client = Client(make_bmc(), SUITES[0], b"pw")
    client.log_in()
    assert client.ask(0, 2, sequence=1) == bytes([BAD_LENGTH])
    assert client.ask(0x0A, 0x11, b"\x00", sequence=2) == bytes([BAD_LENGTH])
    assert client.ask(0x3E, 1, sequence=3) == bytes([UNKNOWN_COMMAND])


def test_records_check_themselves() -> None:
    fru = fru_inventory("SN-1")
    assert len(fru) % 8 == 0
    assert sum(fru[:8]) & 0xFF == 0
    board = fru[8 : 8 + fru[9] * 8]
    assert sum(board) & 0xFF == 0
    assert b"SN-1" in board
    sensor = temperature_sensor(1, 7, "CPU")
    assert len(sensor) == 5 + sensor[4]
