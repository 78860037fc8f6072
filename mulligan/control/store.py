"""What the control service keeps in Postgres, one function for each question."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mulligan.control.model import ACTIVE, DECOMMISSIONED, FAILED, STEP_WAITING, Bmc, Machine, Operation, Step
from mulligan.stores.postgres import Ownership, translate_errors

if TYPE_CHECKING:
    import asyncpg

SERVICE: Final = "control"
MIGRATIONS: Final = Path(__file__).parent / "migrations"

ACQUIRE_DEADLINE_S = 5.0

_MACHINE: Final = ", ".join(Machine.__dataclass_fields__)
_BMC: Final = ", ".join(Bmc.__dataclass_fields__)
_OPERATION: Final = ", ".join(name for name in Operation.__dataclass_fields__ if name != "steps")
_STEP: Final = ", ".join(Step.__dataclass_fields__)

# Regions that an answer may come from; None: every region.
Reach = Sequence[str] | None


def within(reach: Reach, region: str) -> bool:
    """Whether something in the region may be shown."""
    return reach is None or region in reach


class Database:
    """Connections to the control schema; writes hold only while the shard is ours."""

    def __init__(self, pool: asyncpg.Pool, ownership: Ownership | None = None) -> None:
        """Without `ownership` writes are guarded by row locks alone."""
        self.pool = pool
        self._ownership = ownership

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[asyncpg.Connection]:
        """A transaction; raises Aborted (FENCED) when the shard was taken over, Unavailable when Postgres is away."""
        with translate_errors():
            async with self.pool.acquire(timeout=ACQUIRE_DEADLINE_S) as connection, connection.transaction():
                if self._ownership is not None:
                    await self._ownership.check(connection)
                yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection; raises Unavailable when Postgres is away."""
        with translate_errors():
            async with self.pool.acquire(timeout=ACQUIRE_DEADLINE_S) as connection:
                yield connection


async def find_bmc(connection: asyncpg.Connection, provider: str) -> Bmc | None:
    """The BMC of a provider."""
    row = await connection.fetchrow(f"SELECT {_BMC} FROM control.bmcs WHERE provider = $1", provider)
    return Bmc.from_row(row) if row else None


async def find_bmc_by_mac(connection: asyncpg.Connection, boot_mac: str) -> Bmc | None:
    """The BMC whose machine boots from that MAC address."""
    row = await connection.fetchrow(f"SELECT {_BMC} FROM control.bmcs WHERE boot_mac = $1", boot_mac)
    return Bmc.from_row(row) if row else None


async def save_bmc(connection: asyncpg.Connection, bmc: Bmc, sealed_password: bytes) -> None:
    """Adds or replaces a BMC; raises asyncpg.UniqueViolationError when another one has its MAC address."""
    await connection.execute(
        "INSERT INTO control.bmcs (provider, region, driver, host, port, username, password, boot_mac, update_us)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (provider) DO UPDATE SET region = $2, driver = $3,"
        " host = $4, port = $5, username = $6, password = $7, boot_mac = $8, update_us = $9",
        bmc.provider,
        bmc.region,
        bmc.driver,
        bmc.host,
        bmc.port,
        bmc.username,
        sealed_password,
        bmc.boot_mac,
        bmc.update_us,
    )


async def delete_bmc(connection: asyncpg.Connection, provider: str) -> None:
    """Forgets the BMC of a provider."""
    await connection.execute("DELETE FROM control.bmcs WHERE provider = $1", provider)


async def list_bmcs(connection: asyncpg.Connection, reach: Reach, after: str, limit: int) -> list[Bmc]:
    """BMCs in order of their providers' ids, from the one after `after`."""
    rows = await connection.fetch(
        f"SELECT {_BMC} FROM control.bmcs WHERE ($1::uuid[] IS NULL OR region = ANY ($1))"
        " AND ($2::uuid IS NULL OR provider > $2) ORDER BY provider LIMIT $3",
        reach,
        after or None,
        limit,
    )
    return [Bmc.from_row(row) for row in rows]


async def find_machine(connection: asyncpg.Connection, machine: str, *, lock: bool = False) -> Machine | None:
    """A machine by its id; locked until the transaction ends when asked to."""
    query = f"SELECT {_MACHINE} FROM control.machines WHERE id = $1{' FOR UPDATE' if lock else ''}"
    row = await connection.fetchrow(query, machine)
    return Machine.from_row(row) if row else None


async def existing_machines(connection: asyncpg.Connection, machines: Sequence[str]) -> list[str]:
    """Those of the ids that are machines."""
    rows = await connection.fetch("SELECT id FROM control.machines WHERE id = ANY ($1::uuid[])", list(machines))
    return [str(row["id"]) for row in rows]


async def find_machine_of_claim(connection: asyncpg.Connection, claim: str) -> Machine | None:
    """The machine of a claim that is not decommissioned."""
    row = await connection.fetchrow(
        f"SELECT {_MACHINE} FROM control.machines WHERE claim = $1 AND state <> {DECOMMISSIONED}", claim
    )
    return Machine.from_row(row) if row else None


async def find_machine_of_provider(connection: asyncpg.Connection, provider: str) -> Machine | None:
    """The machine on a provider that is not decommissioned."""
    row = await connection.fetchrow(
        f"SELECT {_MACHINE} FROM control.machines WHERE provider = $1 AND state <> {DECOMMISSIONED}", provider
    )
    return Machine.from_row(row) if row else None


async def machines_to_take_back(
    connection: asyncpg.Connection, reach: Reach, now_us: int, failed_before_us: int, limit: int
) -> list[str]:
    """Machines whose claims have ended and that nothing works on; FAILED ones when they have been so for a while."""
    rows = await connection.fetch(
        f"SELECT id FROM control.machines WHERE state IN ({ACTIVE}, {FAILED}) AND claim_end_us <= $2"
        f" AND (state = {ACTIVE} OR state_since_us < $3) AND ($1::uuid[] IS NULL OR region = ANY ($1))"
        " ORDER BY claim_end_us LIMIT $4",
        reach,
        now_us,
        failed_before_us,
        limit,
    )
    return [str(row["id"]) for row in rows]


async def machines_at_rest(
    connection: asyncpg.Connection, reach: Reach, after: str, failed_before_us: int, limit: int
) -> list[tuple[str, str, str]]:
    """(provider, machine, claim) of machines that nothing works on, in order of provider, from the one after `after`.

    FAILED ones when they have been so for a while.
    """
    rows = await connection.fetch(
        f"SELECT provider, id, claim FROM control.machines WHERE state <> {DECOMMISSIONED}"
        f" AND (state = {ACTIVE} OR (state = {FAILED} AND state_since_us < $3))"
        " AND ($1::uuid[] IS NULL OR region = ANY ($1)) AND ($2::uuid IS NULL OR provider > $2)"
        " ORDER BY provider LIMIT $4",
        reach,
        after or None,
        failed_before_us,
        limit,
    )
    return [(str(row["provider"]), str(row["id"]), str(row["claim"])) for row in rows]


async def list_machines(
    connection: asyncpg.Connection,
    reach: Reach,
    project: str | None,
    after: str,
    limit: int,
    include_decommissioned: bool,
) -> list[Machine]:
    """Machines of a project (None: of all) in order of their ids, from the one after `after`."""
    rows = await connection.fetch(
        f"SELECT {_MACHINE} FROM control.machines WHERE ($1::uuid[] IS NULL OR region = ANY ($1))"
        f" AND ($2::uuid IS NULL OR project = $2) AND ($3::uuid IS NULL OR id > $3)"
        f" AND ($5 OR state <> {DECOMMISSIONED}) ORDER BY id LIMIT $4",
        reach,
        project,
        after or None,
        limit,
        include_decommissioned,
    )
    return [Machine.from_row(row) for row in rows]


async def insert_machine(connection: asyncpg.Connection, machine: Machine) -> None:
    """Adds a machine; raises asyncpg.UniqueViolationError when its claim or provider has a live one."""
    fields = Machine.__dataclass_fields__
    places = ", ".join(f"${place}" for place in range(1, len(fields) + 1))
    values = [getattr(machine, name) for name in fields]
    await connection.execute(f"INSERT INTO control.machines ({_MACHINE}) VALUES ({places})", *values)


async def save_machine(connection: asyncpg.Connection, machine: Machine) -> None:
    """Writes what changes in a machine's life, from a row that this transaction has locked."""
    await connection.execute(
        "UPDATE control.machines SET kernel_url = $2, initrd_url = $3, kernel_args = $4, state = $5,"
        " state_since_us = $6, state_reason = $7, state_deadline_us = $8, operation = $9, power = $10,"
        " power_read_us = $11, netboot_us = $12, boot_script_us = $13, phone_home_us = $14, evidence = $15,"
        " fault = $16, fence = $17, version = version + 1 WHERE id = $1",
        machine.id,
        machine.kernel_url,
        machine.initrd_url,
        machine.kernel_args,
        machine.state,
        machine.state_since_us,
        machine.state_reason,
        machine.state_deadline_us,
        machine.operation,
        machine.power,
        machine.power_read_us,
        machine.netboot_us,
        machine.boot_script_us,
        machine.phone_home_us,
        machine.evidence,
        machine.fault,
        machine.fence,
    )


async def record_event(connection: asyncpg.Connection, machine: Machine, at_us: int) -> None:
    """Adds the machine's state, reason and evidence to its history."""
    await connection.execute(
        "INSERT INTO control.machine_events (machine, at_us, operation, state, reason, evidence)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        machine.id,
        at_us,
        machine.operation,
        machine.state,
        machine.state_reason,
        machine.evidence,
    )


async def insert_operation(connection: asyncpg.Connection, operation: Operation) -> None:
    """Adds an operation with all its steps."""
    await connection.execute(
        "INSERT INTO control.operations (id, region, project, machine, kind, state, create_us)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        operation.id,
        operation.region,
        operation.project,
        operation.machine,
        operation.kind,
        operation.state,
        operation.create_us,
    )
    await connection.execute(
        "INSERT INTO control.steps (operation, position, name, state)"
        f" SELECT $1, position - 1, name, {STEP_WAITING} FROM unnest($2::text[]) WITH ORDINALITY AS s (name, position)",
        operation.id,
        [step.name for step in operation.steps],
    )


async def find_operation(connection: asyncpg.Connection, operation: str, *, lock: bool = False) -> Operation | None:
    """An operation with its steps; locked until the transaction ends when asked to."""
    query = f"SELECT {_OPERATION} FROM control.operations WHERE id = $1{' FOR UPDATE' if lock else ''}"
    row = await connection.fetchrow(query, operation)
    return (await _with_steps(connection, [row]))[0] if row else None


async def list_operations(
    connection: asyncpg.Connection, reach: Reach, project: str | None, machine: str | None, before: str, limit: int
) -> list[Operation]:
    """Operations of a project (None: of all) and machine (None: of all), newest first, from the one before `before`."""
    rows = await connection.fetch(
        f"SELECT {_OPERATION} FROM control.operations WHERE ($1::uuid[] IS NULL OR region = ANY ($1))"
        " AND ($2::uuid IS NULL OR project = $2) AND ($3::uuid IS NULL OR machine = $3)"
        " AND ($4::uuid IS NULL OR id < $4) ORDER BY id DESC LIMIT $5",
        reach,
        project,
        machine,
        before or None,
        limit,
    )
    return await _with_steps(connection, rows)


async def save_operation(connection: asyncpg.Connection, operation: Operation) -> None:
    """Writes state and error, from a row that this transaction has locked."""
    await connection.execute(
        "UPDATE control.operations SET state = $2, error_reason = $3, error_message = $4, error_step = $5,"
        " done_us = $6, version = version + 1 WHERE id = $1",
        operation.id,
        operation.state,
        operation.error_reason,
        operation.error_message,
        operation.error_step,
        operation.done_us,
    )


async def save_step(
    connection: asyncpg.Connection, operation: str, position: int, step: Step, told: Sequence[int]
) -> bool:
    """Writes a step unless it was told something newer; False then. `told` is (fence, attempt, rank)."""
    status = await connection.execute(
        "UPDATE control.steps SET state = $3, attempts = $4, start_us = $5, done_us = $6, evidence = $7,"
        " message = $8, told = $9 WHERE operation = $1 AND position = $2 AND told < $9",
        operation,
        position,
        step.state,
        step.attempts,
        step.start_us,
        step.done_us,
        step.evidence,
        step.message,
        list(told),
    )
    return bool(status.endswith(" 1"))


async def _with_steps(connection: asyncpg.Connection, rows: Sequence[Any]) -> list[Operation]:
    found = await connection.fetch(
        f"SELECT operation, {_STEP} FROM control.steps WHERE operation = ANY ($1::uuid[]) ORDER BY operation, position",
        [row["id"] for row in rows],
    )
    steps: dict[str, list[Step]] = {str(row["id"]): [] for row in rows}
    for each in found:
        steps[str(each["operation"])].append(Step.from_row(each))
    return [Operation.from_row(row, steps[str(row["id"])]) for row in rows]
