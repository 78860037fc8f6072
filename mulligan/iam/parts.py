"""What the request handlers of the IAM service work with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from mulligan.caller import Caller, Grant
from mulligan.clock import Clock
from mulligan.iam import store
from mulligan.iam.database import Database
from mulligan.iam.errors import too_many_grants
from mulligan.iam.keys import SigningKeys
from mulligan.iam.model import MAX_GRANTS, Account, condensed, narrowed
from mulligan.iam.outbox import Outbox
from mulligan.iam.outcomes import Outcomes
from mulligan.iam.passwords import Passwords
from mulligan.iam.policy import SCOPE_SYSTEM, permits
from mulligan.iam.regions import Regions
from mulligan.iam.sessions import Sessions
from mulligan.iam.throttle import Throttle
from mulligan.meta.names import NameStore


@dataclass(frozen=True, slots=True)
class Parts:
    """Shared by all handlers of one service."""

    database: Database
    names: NameStore
    regions: Regions
    passwords: Passwords
    keys: SigningKeys
    sessions: Sessions
    outbox: Outbox
    outcomes: Outcomes
    throttle: Throttle
    clock: Clock


def as_system(caller: Caller, permission: str) -> Caller:
    """The caller, who sees everything if a system grant allows the permission and else what is its own.

    For methods that every authenticated caller may call, where the gateway has judged no permission.
    """
    return replace(caller, system=permits(caller.grants, permission, SCOPE_SYSTEM, caller.project).allowed)


async def grants_now(parts: Parts, connection: AsyncConnection, account: Account, project: str) -> tuple[Grant, ...]:
    """What the account, held by `hold_account`, may in a project (or "", the system) now; () for nothing.

    A user: its assignments there and in the system. An application credential: what was fixed when it was made, as far
    as the user who made it still has it; nothing once that user is disabled.
    """
    if account.is_user:
        return await _grants_of_user(connection, account.id, project)
    owner = await store.account_by_id(connection, account.owner)
    if project != account.project or owner is None or not owner.usable(parts.clock()):
        return ()
    fixed = await store.grants_of_credential(connection, account.id)
    return condensed(await handed_on(parts, fixed, await _grants_of_user(connection, owner.id, project)))


async def handed_on(parts: Parts, wanted: Sequence[Grant], held: Sequence[Grant]) -> tuple[Grant, ...]:
    """What of `wanted` somebody who holds `held` may hand on; see `narrowed`.

    Raises ResourceExhausted (QUOTA_EXCEEDED) when no token can carry it.
    """
    tree = await parts.regions.tree(grant.region for grant in (*wanted, *held))
    grants = narrowed(wanted, held, tree)
    if (count := len(condensed(grants))) > MAX_GRANTS:
        raise too_many_grants(count, MAX_GRANTS)
    return grants


async def _grants_of_user(connection: AsyncConnection, account: str, project: str) -> tuple[Grant, ...]:
    found = [each for each in await store.assignments_of(connection, account) if each.project in ("", project)]
    return tuple(sorted({each.grant for each in found}, key=lambda grant: (grant.role, grant.system, grant.region)))
