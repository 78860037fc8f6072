"""What executors read and write in the control schema: holds, fences, BMCs and what machines told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mulligan.clock import SECOND, Clock
from mulligan.control.changes import Changes, wait_for
from mulligan.control.model import STEP_DONE
from mulligan.control.store import Database
from mulligan.errors import FailedPrecondition
from mulligan.executor.drivers import BmcFailure, BmcTarget
from mulligan.executor.engine import ATTEMPTS_EXHAUSTED, Ending
from mulligan.executor.model import Fenced, HomeStatus, Taken
from mulligan.secretbox import SecretBox

if TYPE_CHECKING:
    import asyncpg


class PostgresTaskStore:
    """The engine's TaskStore over Postgres; etcd wakes it when a machine phones home."""

    def __init__(self, database: Database, box: SecretBox, changes: Changes, clock: Clock) -> None:
        """`box` opens BMC passwords; the context is the provider's id."""
        self._database = database
        self._box = box
        self._changes = changes
        self._clock = clock

    async def take(self, operation: str, message: int, hold_s: float) -> Taken | Ending:
        """Takes the operation and its machine's fence, unless either is held or it has ended."""
        async with self._database.writing() as connection:
            found = await connection.fetchrow(
                "SELECT id, machine, region, kind, runs, done_us, error_reason, hold_message,"
                " hold_until > now() AS held, EXISTS (SELECT FROM control.operations other"
                " WHERE other.machine = o.machine AND other.id <> o.id AND other.hold_until > now()) AS machine_held"
                " FROM control.operations o WHERE id = $1 FOR UPDATE",
                operation,
            )
            if found is None:
                return Ending.UNKNOWN
            if found["done_us"] is not None:
                # This delivery may come because the dead letter was not stored.
                return Ending.EXHAUSTED if found["error_reason"] == ATTEMPTS_EXHAUSTED else Ending.FINISHED
            if found["held"]:
                return Ending.BUSY if found["hold_message"] == message else Ending.DUPLICATE
            if found["machine_held"]:
                return Ending.BUSY
            return await self._take(connection, found, message, hold_s)

    async def _take(self, connection: asyncpg.Connection, found: Any, message: int, hold_s: float) -> Taken:
        machine = await connection.fetchrow(
            "UPDATE control.machines SET fence = fence + 1 WHERE id = $1 RETURNING fence", found["machine"]
        )
        await connection.execute(
            "UPDATE control.operations SET hold_fence = $2, hold_message = $3, runs = runs + 1,"
            " hold_until = now() + make_interval(secs => $4) WHERE id = $1",
            found["id"],
            machine["fence"],
            message,
            hold_s,
        )
        steps = await connection.fetch(
            "SELECT name, state, attempts, start_us FROM control.steps WHERE operation = $1", found["id"]
        )
        return Taken(
            operation=str(found["id"]),
            machine=str(found["machine"]),
            region=str(found["region"]),
            kind=found["kind"],
            fence=machine["fence"],
            runs=found["runs"] + 1,
            steps=frozenset(step["name"] for step in steps),
            done=frozenset(step["name"] for step in steps if step["state"] == STEP_DONE),
            attempts={step["name"]: step["attempts"] for step in steps},
            started_us={step["name"]: step["start_us"] for step in steps if step["start_us"] is not None},
        )

    async def find_bmc(self, taken: Taken) -> BmcTarget:
        """How to reach the hardware, as registered now; raises BmcFailure when nothing is that can be used."""
        async with self._database.reading() as connection:
            row = await connection.fetchrow(
                "SELECT b.* FROM control.machines m JOIN control.bmcs b ON b.provider = m.provider WHERE m.id = $1",
                taken.machine,
            )
        if row is None:
            message = f"the provider of machine {taken.machine} has no BMC any more; register it again"
            raise BmcFailure("PROVIDER_HAS_NO_BMC", message, retryable=False)
        try:
            password = self._box.open(row["password"], str(row["provider"]))
        except FailedPrecondition as error:
            message = f"the password of provider {row['provider']}'s BMC cannot be used: {error.message}"
            raise BmcFailure("BMC_REFUSED_CREDENTIALS", message, retryable=False) from None
        return BmcTarget(row["driver"], row["host"], row["port"], row["username"], password)

    async def hold(self, taken: Taken, hold_s: float, *, shorten: bool = False) -> None:
        """Holds it for so many seconds from now, or longer if it is and `shorten` is not.

        Raises Fenced when another run has it or it has ended.
        """
        least = "'-infinity'" if shorten else "o.hold_until"
        async with self._database.writing() as connection:
            held = await connection.fetchval(
                f"UPDATE control.operations o SET hold_until = greatest({least}, now() + make_interval(secs => $3))"
                " FROM control.machines m WHERE o.id = $1 AND o.hold_fence = $2 AND o.done_us IS NULL"
                " AND m.id = o.machine AND m.fence = $2 RETURNING 1",
                taken.operation,
                taken.fence,
                hold_s,
            )
        if held is None:
            raise Fenced

    async def let_go(self, taken: Taken, undone: bool, unsure: bool = False) -> None:
        """Holds it no more, or when `unsure` no longer than it was going to be."""
        async with self._database.writing() as connection:
            await connection.execute(
                "UPDATE control.operations SET runs = runs - $3,"
                " hold_until = CASE WHEN $4 THEN hold_until ELSE '-infinity' END WHERE id = $1 AND hold_fence = $2",
                taken.operation,
                taken.fence,
                int(undone),
                unsure,
            )

    async def open_netboot(self, taken: Taken) -> None:
        """Lets the machine be served its boot script from now on; voids tokens and visits of the past."""
        now = self._clock()
        async with self._database.writing() as connection:
            opened = await connection.fetchval(
                "UPDATE control.machines SET netboot_us = $3, boot_script_us = NULL, phone_home_us = NULL"
                " WHERE id = $1 AND fence = $2 RETURNING 1",
                taken.machine,
                taken.fence,
                now,
            )
            if opened is None:
                raise Fenced
            await connection.execute(
                "UPDATE control.boot_tokens SET void_us = $2 WHERE operation = $1 AND void_us IS NULL",
                taken.operation,
                now,
            )

    async def home_status(self, taken: Taken) -> HomeStatus:
        """What the machine has told since its netboot was opened."""
        async with self._database.reading() as connection:
            row = await connection.fetchrow(
                "SELECT boot_script_us, phone_home_us, evidence FROM control.machines WHERE id = $1 AND fence = $2",
                taken.machine,
                taken.fence,
            )
        if row is None:
            raise Fenced
        return HomeStatus(row["boot_script_us"], row["phone_home_us"], row["evidence"])

    async def wait_home(self, taken: Taken, until_us: int) -> HomeStatus:
        """The same, as soon as it phoned home or that time has come; a lost wake-up costs some seconds."""
        with self._changes.listening(taken.machine) as changed:
            while True:
                changed.clear()
                status = await self.home_status(taken)
                left_s = (until_us - self._clock()) / SECOND
                if status.phone_home_us is not None or left_s <= 0:
                    return status
                await wait_for(changed, left_s)
