"""Meta and resource services in memory, as far as loading an inventory needs them: names, groups, records."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf.message import Message

from mulligan.api.meta.v1.meta_pb2 import Region
from mulligan.api.meta.v1.request_response_pb2 import (
    CreateRegionRequest,
    CreateRegionResponse,
    GetRegionRequest,
    GetRegionResponse,
)
from mulligan.api.resource.v1.provider_pb2 import Provider, ProviderGroup
from mulligan.api.resource.v1.request_response_pb2 import (
    CreateProviderGroupRequest,
    CreateProviderGroupResponse,
    DefineVocabularyRequest,
    DefineVocabularyResponse,
    ListProviderGroupsRequest,
    ListProviderGroupsResponse,
    ListProvidersRequest,
    ListProvidersResponse,
    LoadProvidersRequest,
    LoadProvidersResponse,
)
from mulligan.api.resource.v1.vocabulary_pb2 import Vocabulary
from mulligan.client import ConnectionLost
from mulligan.errors import AlreadyExists, MulliganError, NotFound
from mulligan.ids import new_id
from tests.fake_system import FakeMeta

_ANSWER_EVERY = 100


class FakeInventory(FakeMeta):
    """Serves as both services. Requests are remembered by their id, for ever, as the real services do."""

    def __init__(self) -> None:
        super().__init__({})
        self.regions: dict[str, Region] = {}
        self.groups: dict[str, ProviderGroup] = {}
        self.providers: dict[str, LoadProvidersRequest] = {}
        self.vocabularies: dict[str, Vocabulary] = {}
        # Records after which a stream breaks, one stream each; names of records that are refused.
        self.breaks: list[int] = []
        self.refuses: set[str] = set()
        # Regions that are not known to gateways the first so many times.
        self.unknown_times = 0
        # Says that records are stored, and stores none.
        self.loses = False
        # Names that a load which broke has left: those that sending the same record again takes over, and the others.
        self.left_names: dict[str, bool] = {}
        self.records_received = 0
        self._answers: dict[str, Message] = {}

    def delete(self, kind: str, name: str) -> None:
        """Forgets an object, but not the request that made it."""
        for key in [key for key in self.names if key[0] == kind and key[2] == name]:
            id = self.names.pop(key)
            self.providers.pop(id, None)
            self.groups.pop(id, None)

    def forget_answers(self) -> None:
        """A day passes."""
        self._answers.clear()

    async def create_region(self, request: CreateRegionRequest) -> CreateRegionResponse:
        if request.request_id not in self._answers:
            region = Region(id=self._named("region", "", request.name), parent=request.parent, shard="default")
            self.regions[region.id] = region
            self._answers[request.request_id] = CreateRegionResponse(region=region)
        answer = self._answers[request.request_id]
        assert isinstance(answer, CreateRegionResponse)
        return answer

    async def get_region(self, request: GetRegionRequest) -> GetRegionResponse:
        return GetRegionResponse(region=self.regions[request.id])

    async def define_vocabulary(self, request: DefineVocabularyRequest) -> DefineVocabularyResponse:
        if self.unknown_times:
            self.unknown_times -= 1
            raise NotFound("there is no such region")
        self.vocabularies[request.region] = request.vocabulary
        return DefineVocabularyResponse(vocabulary=request.vocabulary)

    async def create_provider_group(self, request: CreateProviderGroupRequest) -> CreateProviderGroupResponse:
        if request.request_id not in self._answers:
            id = self._named("provider_group", request.region, request.name)
            self.groups[id] = ProviderGroup(id=id, region=request.region, spans=request.spans)
            self._answers[request.request_id] = CreateProviderGroupResponse(group=self.groups[id])
        answer = self._answers[request.request_id]
        assert isinstance(answer, CreateProviderGroupResponse)
        return answer

    async def list_provider_groups(self, request: ListProviderGroupsRequest) -> ListProviderGroupsResponse:
        found = [group for group in self.groups.values() if group.region == request.region]
        return ListProviderGroupsResponse(groups=found)

    async def list_providers(self, request: ListProvidersRequest) -> ListProvidersResponse:
        mine = sorted(id for id, record in self.providers.items() if record.region == request.region)
        left = [id for id in mine if id > request.page_token]
        page = left[: request.page_size]
        return ListProvidersResponse(
            providers=[Provider(id=id, region=request.region) for id in page],
            next_page_token=page[-1] if len(page) < len(left) else "",
        )

    async def load_providers(
        self, requests: AsyncIterator[LoadProvidersRequest]
    ) -> AsyncIterator[LoadProvidersResponse]:
        break_after = self.breaks.pop(0) if self.breaks else -1
        position, answer = 0, LoadProvidersResponse()
        async for request in requests:
            if position == break_after:
                raise ConnectionLost("the connection broke")
            self.records_received += 1
            error = self._take(request)
            if error:
                answer.errors.add(index=position, name=request.name, reason=error.reason, message=error.message)
            else:
                answer.stored += 1
            position += 1
            if position % _ANSWER_EVERY == 0:
                answer.received = position
                yield answer
                answer = LoadProvidersResponse()
        answer.received = position
        yield answer

    def _take(self, request: LoadProvidersRequest) -> MulliganError | None:
        if self.loses or request.request_id in self._answers:
            return None
        if request.name in self.refuses:
            return NotFound("no such provider group")
        if self.left_names.pop(request.name, False):
            del self.names["provider", request.region, request.name]
        try:
            id = self._named("provider", request.region, request.name)
        except AlreadyExists as error:
            return error
        self.providers[id] = self._answers[request.request_id] = request
        return None

    def _named(self, kind: str, scope: str, name: str) -> str:
        if (kind, scope, name) in self.names:
            raise AlreadyExists(f"{name} is taken", reason="NAME_TAKEN")
        self.names[kind, scope, name] = new_id()
        return self.names[kind, scope, name]
