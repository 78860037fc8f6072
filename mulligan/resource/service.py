"""The resource service of one shard: its handlers over one memory, and its life."""

from __future__ import annotations

from pathlib import Path
from random import Random

import asyncpg

from mulligan.api.common.v1.common_pb2 import ServiceSettings
from mulligan.api.resource.v1 import request_response_pb2 as messages
from mulligan.caller import Caller
from mulligan.clock import Clock, now_us
from mulligan.meta.names import NameStore
from mulligan.resource.core import Core
from mulligan.resource.handlers.claims import ClaimHandlers
from mulligan.resource.handlers.groups import GroupHandlers
from mulligan.resource.handlers.loading import LoadingHandlers
from mulligan.resource.handlers.providers import ProviderHandlers
from mulligan.resource.handlers.quotas import QuotaHandlers
from mulligan.resource.handlers.usage import UsageHandlers
from mulligan.resource.handlers.vocabulary import VocabularyHandlers
from mulligan.resource.housekeeping import Housekeeper
from mulligan.resource.regions import Regions
from mulligan.resource.store import Store
from mulligan.runtime_settings import RuntimeSettings
from mulligan.stores.etcd import EtcdClient
from mulligan.stores.postgres import Ownership

SERVICE = "resource"
MIGRATIONS = Path(__file__).parent / "migrations"

# Another service of ours: it sees every project's claims and checks for itself whose they are.
INTERNAL = Caller(account="", project="", grants=(), system=True)


class ResourceService:
    """Serves `mulligan.resource.v1.ResourceService` for one shard."""

    def __init__(self, core: Core, settings: RuntimeSettings[ServiceSettings], housekeeper: Housekeeper) -> None:
        """`open` makes one that is ready to serve. Whoever does keeps `core.watch` and `housekeeper.run` running."""
        self.core = core
        self.housekeeper = housekeeper
        self._settings = settings
        vocabulary = VocabularyHandlers(core)
        self.define_vocabulary = vocabulary.define_vocabulary
        self.get_vocabulary = vocabulary.get_vocabulary
        self.delete_vocabulary = vocabulary.delete_vocabulary
        groups = GroupHandlers(core)
        self.create_provider_group = groups.create_provider_group
        self.list_provider_groups = groups.list_provider_groups
        self.delete_provider_group = groups.delete_provider_group
        providers = ProviderHandlers(core)
        self.create_provider = providers.create_provider
        self.load_providers = LoadingHandlers(core).load_providers
        self.get_provider = providers.get_provider
        self.list_providers = providers.list_providers
        self.set_inventory = providers.set_inventory
        self.set_provider_state = providers.set_provider_state
        self.delete_provider = providers.delete_provider
        claims = ClaimHandlers(core)
        self.create_claim = claims.create_claim
        self.explain_claim = claims.explain_claim
        self.get_claim = claims.get_claim
        self.list_claims = claims.list_claims
        self.release_claim = claims.release_claim
        self.get_usage = UsageHandlers(core).get_usage
        quotas = QuotaHandlers(core)
        self.set_quota = quotas.set_quota
        self.list_quotas = quotas.list_quotas
        self.delete_quota = quotas.delete_quota

    @classmethod
    async def open(
        cls,
        pool: asyncpg.Pool,
        ownership: Ownership,
        etcd: EtcdClient,
        *,
        clock: Clock = now_us,
        random: Random | None = None,
    ) -> ResourceService:
        """Reads the shard into memory; the schema must be up to date. Raises Unavailable, Aborted (FENCED)."""
        core = Core(Store(pool, ownership), Regions(etcd, ownership.shard), NameStore(etcd), clock, random)
        settings = RuntimeSettings(etcd, SERVICE, ServiceSettings, clock=clock)
        service = cls(core, settings, Housekeeper(core, etcd))
        try:
            await core.regions.start()
            await service._settings.start()
            await core.start()
        except BaseException:
            await service.close()
            raise
        return service

    async def close(self) -> None:
        """Stores what is on its way, then stops."""
        await self.core.stop()
        await self._settings.close()
        await self.core.regions.close()

    async def resource_configure(
        self, request: messages.ResourceConfigureRequest, caller: Caller
    ) -> messages.ResourceConfigureResponse:
        """Changes what the mask names while running, and tells what is in force."""
        return messages.ResourceConfigureResponse(settings=await self._settings.configure(request, caller))
