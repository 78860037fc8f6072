"""The IAM service: every RPC of `mulligan.iam.v1.IamService`, and what it does by itself.

Handlers live beside their subject: login.py (tokens), accounts.py, projects.py (with assignments); the rest is here.
A gateway has authenticated the caller and judged the permission before; `caller.system` says whether a system grant
allowed it, and with that how much of the tables the caller sees.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from mulligan.api.common.v1.common_pb2 import ServiceSettings
from mulligan.api.iam.v1 import iam_pb2
from mulligan.api.iam.v1 import request_response_pb2 as pb
from mulligan.caller import Caller
from mulligan.clock import SECOND, Clock, now_us
from mulligan.iam.accounts import AccountHandlers
from mulligan.iam.database import Database, lock
from mulligan.iam.first_admin import create_first_admin
from mulligan.iam.keys import SigningKeys
from mulligan.iam.login import LoginHandlers
from mulligan.iam.named import recover_names
from mulligan.iam.outbox import Outbox
from mulligan.iam.outcomes import Outcomes
from mulligan.iam.parts import Parts
from mulligan.iam.passwords import Passwords
from mulligan.iam.policy import ROLES
from mulligan.iam.projects import ProjectHandlers
from mulligan.iam.regions import Regions
from mulligan.iam.sessions import Sessions
from mulligan.iam.throttle import Throttle
from mulligan.meta.names import NameStore
from mulligan.runtime_settings import RuntimeSettings
from mulligan.secretbox import SecretBox
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from mulligan.stores.postgres import Ownership, sqlalchemy_engine

# Alembic revisions of schema iam.
MIGRATIONS: Final = Path(__file__).parent / "migrations"

SERVICE: Final = "iam"

# How often what was left over is carried out and what is out of date is dropped.
MAINTENANCE_S: Final = 10.0

POOL_SIZE: Final = 4


class IamService(LoginHandlers, AccountHandlers, ProjectHandlers):
    """One owner of schema `iam`. Make it with `open`, run `maintain` beside it, end it with `close`."""

    def __init__(self, parts: Parts, settings: RuntimeSettings[ServiceSettings]) -> None:
        self.parts = parts
        self.settings = settings

    @classmethod
    async def open(
        cls, addresses: Addresses, etcd: EtcdClient, ownership: Ownership, clock: Clock = now_us
    ) -> IamService:
        """The service, ready to serve: keys published, revocations in etcd, the first account made.

        The schema has to be there. Raises Unavailable when a store does not answer.
        """
        service = cls(
            _parts(addresses, etcd, ownership, clock), RuntimeSettings(etcd, SERVICE, ServiceSettings, clock=clock)
        )
        try:
            await service._begin(addresses.state_dir / "secrets" / "admin.json")
        except BaseException:
            await service.close()
            raise
        return service

    async def _begin(self, admin_file: Path) -> None:
        await self.settings.start()
        await recover_names(self.parts.names, self.parts.database)
        await self.parts.keys.ensure()
        await self.parts.outbox.publish_again()
        await create_first_admin(self.parts, admin_file)

    async def close(self) -> None:
        """Lets connections and threads go."""
        await self.settings.close()
        await self.parts.names.close()
        self.parts.passwords.close()
        await self.parts.database.close()

    async def maintain(self) -> None:
        """Runs for ever. Ends with Aborted (FENCED) when another actor owns the service; begin again after others."""
        while True:
            await self.maintain_once()
            await asyncio.sleep(MAINTENANCE_S)

    async def maintain_once(self) -> None:
        """Carries out what was left over, turns keys over, and drops what is out of date."""
        parts = self.parts
        await parts.outbox.flush()
        await parts.keys.maintain()
        async with parts.database.write() as connection:
            await parts.outbox.purge(connection)
            await parts.outcomes.purge(connection)
            await parts.sessions.purge(connection)
            await parts.throttle.purge(connection)

    async def list_roles(self, request: pb.ListRolesRequest, caller: Caller) -> pb.ListRolesResponse:
        """The permission table."""
        roles = [iam_pb2.Role(name=name, permissions=sorted(permissions)) for name, permissions in ROLES.items()]
        return pb.ListRolesResponse(roles=roles)

    async def rotate_keys(self, request: pb.RotateKeysRequest, caller: Caller) -> pb.RotateKeysResponse:
        """A new key. It is published at once and answered for when it signs, a second later."""
        parts, active_us = self.parts, 0

        async def act(connection: AsyncConnection) -> pb.RotateKeysResponse:
            nonlocal active_us
            await lock(connection, "signing_keys")
            key_id, active_us = await parts.keys.add(connection)
            return pb.RotateKeysResponse(key_id=key_id)

        response, _ = await parts.outcomes.once(caller, request, pb.RotateKeysResponse, act)
        await asyncio.sleep(max(0, active_us - parts.clock()) / SECOND)
        return response

    async def iam_configure(self, request: pb.IamConfigureRequest, caller: Caller) -> pb.IamConfigureResponse:
        """Changes or tells the settings."""
        return pb.IamConfigureResponse(settings=await self.settings.configure(request, caller))


def _parts(addresses: Addresses, etcd: EtcdClient, ownership: Ownership, clock: Clock) -> Parts:
    box = SecretBox.from_file(addresses.master_key)
    database = Database(sqlalchemy_engine(addresses, POOL_SIZE), ownership)
    names = NameStore(etcd)
    return Parts(
        database=database,
        names=names,
        regions=Regions(etcd),
        passwords=Passwords(),
        keys=SigningKeys(database, etcd, box, clock),
        sessions=Sessions(box, clock),
        outbox=Outbox(database, etcd, names, clock),
        outcomes=Outcomes(database, box, clock),
        throttle=Throttle(box.derive("iam.throttle"), clock),
        clock=clock,
    )
