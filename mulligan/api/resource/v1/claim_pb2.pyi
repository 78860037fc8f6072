import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Strategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STRATEGY_UNSPECIFIED: _ClassVar[Strategy]
    STRATEGY_PACK: _ClassVar[Strategy]
    STRATEGY_SPREAD: _ClassVar[Strategy]
    STRATEGY_RANDOM: _ClassVar[Strategy]

class ClaimState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLAIM_STATE_UNSPECIFIED: _ClassVar[ClaimState]
    CLAIM_STATE_RESERVED: _ClassVar[ClaimState]
    CLAIM_STATE_ACTIVE: _ClassVar[ClaimState]
    CLAIM_STATE_ENDED: _ClassVar[ClaimState]
    CLAIM_STATE_RELEASED: _ClassVar[ClaimState]
STRATEGY_UNSPECIFIED: Strategy
STRATEGY_PACK: Strategy
STRATEGY_SPREAD: Strategy
STRATEGY_RANDOM: Strategy
CLAIM_STATE_UNSPECIFIED: ClaimState
CLAIM_STATE_RESERVED: ClaimState
CLAIM_STATE_ACTIVE: ClaimState
CLAIM_STATE_ENDED: ClaimState
CLAIM_STATE_RELEASED: ClaimState

class ClaimSpec(_message.Message):
    __slots__ = ("consumer", "project", "acquire", "release", "strategy", "groups")
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    ACQUIRE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    project: str
    acquire: _timestamp_pb2.Timestamp
    release: _timestamp_pb2.Timestamp
    strategy: Strategy
    groups: _containers.RepeatedCompositeFieldContainer[RequestGroup]
    def __init__(self, consumer: _Optional[str] = ..., project: _Optional[str] = ..., acquire: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., release: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., strategy: _Optional[_Union[Strategy, str]] = ..., groups: _Optional[_Iterable[_Union[RequestGroup, _Mapping]]] = ...) -> None: ...

class RequestGroup(_message.Message):
    __slots__ = ("name", "resources", "capabilities", "provider_groups", "distances", "exclusive")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_GROUPS_FIELD_NUMBER: _ClassVar[int]
    DISTANCES_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    name: str
    resources: _containers.RepeatedCompositeFieldContainer[ResourceConstraint]
    capabilities: _containers.RepeatedCompositeFieldContainer[CapabilityConstraint]
    provider_groups: ProviderGroupConstraint
    distances: _containers.RepeatedCompositeFieldContainer[DistanceConstraint]
    exclusive: bool
    def __init__(self, name: _Optional[str] = ..., resources: _Optional[_Iterable[_Union[ResourceConstraint, _Mapping]]] = ..., capabilities: _Optional[_Iterable[_Union[CapabilityConstraint, _Mapping]]] = ..., provider_groups: _Optional[_Union[ProviderGroupConstraint, _Mapping]] = ..., distances: _Optional[_Iterable[_Union[DistanceConstraint, _Mapping]]] = ..., exclusive: _Optional[bool] = ...) -> None: ...

class ResourceConstraint(_message.Message):
    __slots__ = ("resource_type", "min", "max", "capabilities")
    RESOURCE_TYPE_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    resource_type: str
    min: int
    max: int
    capabilities: CapabilityConstraint
    def __init__(self, resource_type: _Optional[str] = ..., min: _Optional[int] = ..., max: _Optional[int] = ..., capabilities: _Optional[_Union[CapabilityConstraint, _Mapping]] = ...) -> None: ...

class CapabilityConstraint(_message.Message):
    __slots__ = ("require", "forbid", "any")
    REQUIRE_FIELD_NUMBER: _ClassVar[int]
    FORBID_FIELD_NUMBER: _ClassVar[int]
    ANY_FIELD_NUMBER: _ClassVar[int]
    require: _containers.RepeatedScalarFieldContainer[str]
    forbid: _containers.RepeatedScalarFieldContainer[str]
    any: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, require: _Optional[_Iterable[str]] = ..., forbid: _Optional[_Iterable[str]] = ..., any: _Optional[_Iterable[str]] = ...) -> None: ...

class ProviderGroupConstraint(_message.Message):
    __slots__ = ("require", "forbid", "any")
    REQUIRE_FIELD_NUMBER: _ClassVar[int]
    FORBID_FIELD_NUMBER: _ClassVar[int]
    ANY_FIELD_NUMBER: _ClassVar[int]
    require: _containers.RepeatedScalarFieldContainer[str]
    forbid: _containers.RepeatedScalarFieldContainer[str]
    any: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, require: _Optional[_Iterable[str]] = ..., forbid: _Optional[_Iterable[str]] = ..., any: _Optional[_Iterable[str]] = ...) -> None: ...

class DistanceConstraint(_message.Message):
    __slots__ = ("from_group", "distance_type", "at_least", "at_most")
    FROM_GROUP_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_TYPE_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_FIELD_NUMBER: _ClassVar[int]
    AT_MOST_FIELD_NUMBER: _ClassVar[int]
    from_group: str
    distance_type: str
    at_least: str
    at_most: str
    def __init__(self, from_group: _Optional[str] = ..., distance_type: _Optional[str] = ..., at_least: _Optional[str] = ..., at_most: _Optional[str] = ...) -> None: ...

class Claim(_message.Message):
    __slots__ = ("id", "region", "project", "consumer", "acquire", "release", "state", "allocations", "create_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    ACQUIRE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ALLOCATIONS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    region: str
    project: str
    consumer: str
    acquire: _timestamp_pb2.Timestamp
    release: _timestamp_pb2.Timestamp
    state: ClaimState
    allocations: _containers.RepeatedCompositeFieldContainer[Allocation]
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., region: _Optional[str] = ..., project: _Optional[str] = ..., consumer: _Optional[str] = ..., acquire: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., release: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., state: _Optional[_Union[ClaimState, str]] = ..., allocations: _Optional[_Iterable[_Union[Allocation, _Mapping]]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Allocation(_message.Message):
    __slots__ = ("group", "provider", "resource_type", "amount")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_TYPE_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    group: str
    provider: str
    resource_type: str
    amount: int
    def __init__(self, group: _Optional[str] = ..., provider: _Optional[str] = ..., resource_type: _Optional[str] = ..., amount: _Optional[int] = ...) -> None: ...

class GroupExplanation(_message.Message):
    __slots__ = ("name", "funnel")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FUNNEL_FIELD_NUMBER: _ClassVar[int]
    name: str
    funnel: _containers.RepeatedCompositeFieldContainer[FunnelStep]
    def __init__(self, name: _Optional[str] = ..., funnel: _Optional[_Iterable[_Union[FunnelStep, _Mapping]]] = ...) -> None: ...

class FunnelStep(_message.Message):
    __slots__ = ("constraint", "left")
    CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    constraint: str
    left: int
    def __init__(self, constraint: _Optional[str] = ..., left: _Optional[int] = ...) -> None: ...

class QuotaShortage(_message.Message):
    __slots__ = ("resource_type", "limit", "used", "asked")
    RESOURCE_TYPE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    resource_type: str
    limit: int
    used: int
    asked: int
    def __init__(self, resource_type: _Optional[str] = ..., limit: _Optional[int] = ..., used: _Optional[int] = ..., asked: _Optional[int] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("resource_type", "capacity", "used", "shard")
    RESOURCE_TYPE_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    resource_type: str
    capacity: int
    used: int
    shard: str
    def __init__(self, resource_type: _Optional[str] = ..., capacity: _Optional[int] = ..., used: _Optional[int] = ..., shard: _Optional[str] = ...) -> None: ...

class Quota(_message.Message):
    __slots__ = ("project", "resource_type", "limit", "used", "shard")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_TYPE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    project: str
    resource_type: str
    limit: int
    used: int
    shard: str
    def __init__(self, project: _Optional[str] = ..., resource_type: _Optional[str] = ..., limit: _Optional[int] = ..., used: _Optional[int] = ..., shard: _Optional[str] = ...) -> None: ...
