"""Boot scripts under one-time tokens, and the machines that phone home with them.

Each script that is served carries a new token and voids the one before; a token is taken once and only hashes are
kept. A script is served from the moment at which the executor is about to power the machine on, so that whatever ran
on it before cannot phone home in its stead.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mulligan.api.internal.v1.boot_pb2 import (
    BootScriptRequest,
    BootScriptResponse,
    PhoneHomeRequest,
    PhoneHomeResponse,
)
from mulligan.clock import SECOND, Clock
from mulligan.control import store
from mulligan.control.changes import Changes
from mulligan.control.model import PROVISIONING, Machine
from mulligan.control.policy import canonical_mac
from mulligan.errors import FailedPrecondition, NotFound
from mulligan.runtime_settings import RuntimeSettings

if TYPE_CHECKING:
    import asyncpg

    from mulligan.api.control.v1.request_response_pb2 import ExecutorSettings

TOKEN_BYTES: Final = 32

# Files that the boot endpoint serves to machines whose config names no kernel.
DEFAULT_KERNEL: Final = "/boot/files/kernel"
DEFAULT_INITRD: Final = "/boot/files/initrd"

# How long a used or void token is told from an unknown one.
TOKEN_MEMORY_S: Final = 86_400
MAX_REPORT_CHARACTERS: Final = 200


class BootService:
    """What the boot endpoint asks on behalf of machines."""

    def __init__(
        self,
        database: store.Database,
        changes: Changes,
        executor_settings: RuntimeSettings[ExecutorSettings],
        clock: Clock,
    ) -> None:
        """A token lives as long as a machine may take to phone home."""
        self._database = database
        self._changes = changes
        self._executor_settings = executor_settings
        self._clock = clock

    async def boot_script(self, request: BootScriptRequest) -> BootScriptResponse:
        """The script of the machine with this MAC address; raises NotFound unless it is being provisioned."""
        mac = canonical_mac(request.mac)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        now = self._clock()
        async with self._database.reading() as connection:
            bmc = await store.find_bmc_by_mac(connection, mac)
            found = await store.find_machine_of_provider(connection, bmc.provider) if bmc else None
        if found is None or not _boots(found):
            raise _no_machine(mac)
        async with self._database.writing() as connection:
            machine = await store.find_machine(connection, found.id, lock=True)
            if machine is None or not _boots(machine):
                raise _no_machine(mac)
            await self._issue(connection, machine, token, now)
            machine = replace(machine, boot_script_us=now, evidence=f"fetched its boot script as {mac}")
            await store.save_machine(connection, machine)
            await store.record_event(connection, machine, now)
        self._changes.bump(machine.id)
        return BootScriptResponse(script=boot_script(machine, request.base_url, token))

    async def phone_home(self, request: PhoneHomeRequest) -> PhoneHomeResponse:
        """Takes a token; raises NotFound for an unknown one, FailedPrecondition (WRONG_STATE) for one that is spent."""
        now = self._clock()
        async with self._database.writing() as connection:
            row = await connection.fetchrow(
                "SELECT machine, operation, expire_us, void_us, use_us FROM control.boot_tokens WHERE hash = $1"
                " FOR UPDATE",
                _hash(request.token),
            )
            if row is None:
                raise NotFound("this token is not known; fetch the boot script again")
            machine = await store.find_machine(connection, str(row["machine"]), lock=True)
            spent = row["use_us"] is not None or row["void_us"] is not None or row["expire_us"] <= now
            if spent or machine is None or machine.state != PROVISIONING or machine.operation != str(row["operation"]):
                raise FailedPrecondition("this token was used, replaced or is too old; fetch the boot script again")
            await connection.execute(
                "UPDATE control.boot_tokens SET use_us = $2 WHERE hash = $1", _hash(request.token), now
            )
            machine = replace(machine, phone_home_us=now, evidence=_evidence(request))
            await store.save_machine(connection, machine)
            await store.record_event(connection, machine, now)
        self._changes.bump(machine.id)
        return PhoneHomeResponse(machine=machine.id)

    async def _issue(self, connection: asyncpg.Connection, machine: Machine, token: str, now: int) -> None:
        await connection.execute(
            "UPDATE control.boot_tokens SET void_us = $2 WHERE operation = $1 AND void_us IS NULL AND use_us IS NULL",
            machine.operation,
            now,
        )
        life_us = self._executor_settings.current.phone_home_seconds * SECOND
        await connection.execute(
            "INSERT INTO control.boot_tokens (hash, machine, operation, issue_us, expire_us)"
            " VALUES ($1, $2, $3, $4, $5)",
            _hash(token),
            machine.id,
            machine.operation,
            now,
            now + life_us,
        )


def _boots(machine: Machine) -> bool:
    return machine.state == PROVISIONING and machine.netboot_us is not None


def _no_machine(mac: str) -> NotFound:
    return NotFound(f"no machine that boots from {mac} is being provisioned")


def boot_script(machine: Machine, base_url: str, token: str) -> str:
    """The iPXE script of a machine. Pure."""
    base = base_url.rstrip("/")
    kernel = machine.kernel_url or f"{base}{DEFAULT_KERNEL}"
    initrd = machine.initrd_url or ("" if machine.kernel_url else f"{base}{DEFAULT_INITRD}")
    arguments = [
        *(["initrd=initrd"] if initrd else []),
        *([machine.kernel_args] if machine.kernel_args else []),
        f"mulligan.phone_home={base}/phone-home/{token}",
    ]
    lines = [
        "#!ipxe",
        f"# machine {machine.id}, operation {machine.operation}",
        f"kernel {kernel} {' '.join(arguments)}",
        *([f"initrd --name initrd {initrd}"] if initrd else []),
        "boot",
    ]
    return "\n".join(lines) + "\n"


async def purge_tokens(connection: asyncpg.Connection, now_us: int) -> None:
    """Forgets tokens that ran out long ago."""
    await connection.execute("DELETE FROM control.boot_tokens WHERE expire_us < $1", now_us - TOKEN_MEMORY_S * SECOND)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _evidence(request: PhoneHomeRequest) -> str:
    report = "".join(each if each.isprintable() else " " for each in request.report)
    report = " ".join(report.split())[:MAX_REPORT_CHARACTERS]
    return f"phoned home from {request.address}" + (f": {report}" if report else "")
