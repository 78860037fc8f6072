from mulligan.api.options.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchCatalogRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchCatalogResponse(_message.Message):
    __slots__ = ("revision", "endpoints", "shards", "regions")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    endpoints: _containers.RepeatedCompositeFieldContainer[Endpoint]
    shards: _containers.RepeatedCompositeFieldContainer[Shard]
    regions: _containers.RepeatedCompositeFieldContainer[RegionRoute]
    def __init__(self, revision: _Optional[int] = ..., endpoints: _Optional[_Iterable[_Union[Endpoint, _Mapping]]] = ..., shards: _Optional[_Iterable[_Union[Shard, _Mapping]]] = ..., regions: _Optional[_Iterable[_Union[RegionRoute, _Mapping]]] = ...) -> None: ...

class Endpoint(_message.Message):
    __slots__ = ("service", "address", "instance", "version")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    service: str
    address: str
    instance: str
    version: str
    def __init__(self, service: _Optional[str] = ..., address: _Optional[str] = ..., instance: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class Shard(_message.Message):
    __slots__ = ("service", "shard", "actor", "version")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    service: str
    shard: str
    actor: str
    version: str
    def __init__(self, service: _Optional[str] = ..., shard: _Optional[str] = ..., actor: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class RegionRoute(_message.Message):
    __slots__ = ("region", "parent", "shard")
    REGION_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    region: str
    parent: str
    shard: str
    def __init__(self, region: _Optional[str] = ..., parent: _Optional[str] = ..., shard: _Optional[str] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("healthy", "components")
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    healthy: bool
    components: _containers.RepeatedCompositeFieldContainer[ComponentStatus]
    def __init__(self, healthy: _Optional[bool] = ..., components: _Optional[_Iterable[_Union[ComponentStatus, _Mapping]]] = ...) -> None: ...

class ComponentStatus(_message.Message):
    __slots__ = ("kind", "name", "healthy", "detail", "latency_ms", "address", "version")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    healthy: bool
    detail: str
    latency_ms: float
    address: str
    version: str
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., healthy: _Optional[bool] = ..., detail: _Optional[str] = ..., latency_ms: _Optional[float] = ..., address: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...
