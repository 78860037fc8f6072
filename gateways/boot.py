"""The Ray actor of the boot endpoint: wiring only. One for each host that machines boot from."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from google.protobuf.message import Message

from actors.handles import ActorDirectory
from actors.lifecycle import ActorBase
from gateways.boot_http import BootServer, BootSite, RateLimit
from mulligan.api.internal.v1.boot_pb2 import (
    BootScriptRequest,
    BootScriptResponse,
    PhoneHomeRequest,
    PhoneHomeResponse,
)
from mulligan.errors import FailedPrecondition, InvalidArgument, MulliganError, NotFound, Unavailable
from mulligan.stores import keys

if TYPE_CHECKING:
    from mulligan.config import Settings
    from mulligan.stores.addresses import Addresses

log = logging.getLogger(__name__)

# Ports from Settings.port on: iam, meta, resource, control, boot.
PORT_OFFSET: Final = 4

CALL_DEADLINE_S: Final = 8.0

AnswerT = TypeVar("AnswerT", bound=Message)


class ControlShards:
    """The boot calls to whichever control shard knows the machine: a MAC address or a token tells no region."""

    def __init__(self, directory: ActorDirectory) -> None:
        self._directory = directory
        # Shards that failed when they were asked last, or have not answered yet: the others are asked before them.
        self._silent: set[str] = set()

    async def boot_script(self, request: BootScriptRequest) -> BootScriptResponse:
        """The script from the first shard that has one; raises NotFound when none has."""
        return await self._first("BootScript", request, BootScriptResponse)

    async def phone_home(self, request: PhoneHomeRequest) -> PhoneHomeResponse:
        """Takes the token at the shard that knows it; raises NotFound when none does."""
        return await self._first("PhoneHome", request, PhoneHomeResponse)

    async def _first(self, method: str, request: Message, answer: type[AnswerT]) -> AnswerT:
        """The first answer, a refusal included; a shard that failed counts only when no other one answers.

        One after another: shards may share a database, where each script voids the one before.
        """
        shards = self._directory.shards("control")
        if not shards:
            raise Unavailable("no control shard is in the catalogue; come again")
        failure: MulliganError = NotFound("no control shard knows it")
        for shard in sorted(shards, key=lambda each: each in self._silent):
            try:
                return answer.FromString(await self._ask(shard, method, request.SerializeToString()))
            except NotFound:
                continue
            except (FailedPrecondition, InvalidArgument):
                raise
            except MulliganError as error:
                log.warning("shard=%s method=%s failed: %s", shard, method, error)
                failure = error
        raise failure

    async def _ask(self, shard: str, method: str, request: bytes) -> bytes:
        self._silent.add(shard)
        try:
            data = await self._directory.internal("control", shard, method, request, CALL_DEADLINE_S)
        except (NotFound, FailedPrecondition, InvalidArgument):
            self._silent.discard(shard)
            raise
        self._silent.discard(shard)
        return data


class BootActor(ActorBase):
    """Serves machines that boot. Its name is `boot/<host>#<generation>`."""

    kind: ClassVar[str] = "gateway"

    def __init__(self, addresses: Addresses, settings: Settings, name: str) -> None:
        super().__init__(addresses, name)
        self._settings = settings
        self._directory: ActorDirectory | None = None
        self._site: BootSite | None = None
        self._server: BootServer | None = None
        self._base_url = ""

    async def prepare_to_open(self) -> None:
        """Follows the catalogue of control shards."""
        if self._directory is None:
            directory = ActorDirectory(self.etcd)
            await directory.start()
            self._directory = directory

    async def open(self) -> None:
        """Listens, then announces the URL that machines boot from."""
        assert self._directory is not None
        if self._server is None:
            files = self.addresses.state_dir / "boot"
            site = BootSite(ControlShards(self._directory), files, lambda: self._base_url, RateLimit())
            server = BootServer(site)
            port = self._settings.port + PORT_OFFSET if self._settings.port else 0
            listening = await server.start(self._settings.listen, port)
            host = self._settings.advertised_host
            self._base_url = f"http://[{host}]:{listening}" if ":" in host else f"http://{host}:{listening}"
            self._site, self._server = site, server
        await self.announce(keys.catalog_gateway("boot", self.name.shard), address=self._base_url)

    async def close(self, deadline_s: float) -> None:
        """Finishes what is in flight, then lets go of everything."""
        if self._server is not None:
            await self._server.close(deadline_s)
        if self._directory is not None:
            await self._directory.close()

    def detail(self) -> str:
        """Its load and where it is."""
        return f"{self._base_url}, {self._site.in_flight if self._site else 0} in flight"
