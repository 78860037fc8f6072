import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProviderState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROVIDER_STATE_UNSPECIFIED: _ClassVar[ProviderState]
    PROVIDER_STATE_ACTIVE: _ClassVar[ProviderState]
    PROVIDER_STATE_MAINTENANCE: _ClassVar[ProviderState]
    PROVIDER_STATE_QUARANTINED: _ClassVar[ProviderState]
PROVIDER_STATE_UNSPECIFIED: ProviderState
PROVIDER_STATE_ACTIVE: ProviderState
PROVIDER_STATE_MAINTENANCE: ProviderState
PROVIDER_STATE_QUARANTINED: ProviderState

class ProviderConfig(_message.Message):
    __slots__ = ("provider_type", "capabilities", "groups", "inventories")
    PROVIDER_TYPE_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    INVENTORIES_FIELD_NUMBER: _ClassVar[int]
    provider_type: str
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    groups: _containers.RepeatedScalarFieldContainer[str]
    inventories: _containers.RepeatedCompositeFieldContainer[Inventory]
    def __init__(self, provider_type: _Optional[str] = ..., capabilities: _Optional[_Iterable[str]] = ..., groups: _Optional[_Iterable[str]] = ..., inventories: _Optional[_Iterable[_Union[Inventory, _Mapping]]] = ...) -> None: ...

class Provider(_message.Message):
    __slots__ = ("id", "region", "config", "state", "state_reason", "state_since", "used", "etag", "create_time")
    class UsedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_REASON_FIELD_NUMBER: _ClassVar[int]
    STATE_SINCE_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    region: str
    config: ProviderConfig
    state: ProviderState
    state_reason: str
    state_since: _timestamp_pb2.Timestamp
    used: _containers.ScalarMap[str, int]
    etag: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., region: _Optional[str] = ..., config: _Optional[_Union[ProviderConfig, _Mapping]] = ..., state: _Optional[_Union[ProviderState, str]] = ..., state_reason: _Optional[str] = ..., state_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., used: _Optional[_Mapping[str, int]] = ..., etag: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Inventory(_message.Message):
    __slots__ = ("resource_type", "total", "reserved", "min_unit", "max_unit", "step_size", "allocation_ratio")
    RESOURCE_TYPE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    MIN_UNIT_FIELD_NUMBER: _ClassVar[int]
    MAX_UNIT_FIELD_NUMBER: _ClassVar[int]
    STEP_SIZE_FIELD_NUMBER: _ClassVar[int]
    ALLOCATION_RATIO_FIELD_NUMBER: _ClassVar[int]
    resource_type: str
    total: int
    reserved: int
    min_unit: int
    max_unit: int
    step_size: int
    allocation_ratio: float
    def __init__(self, resource_type: _Optional[str] = ..., total: _Optional[int] = ..., reserved: _Optional[int] = ..., min_unit: _Optional[int] = ..., max_unit: _Optional[int] = ..., step_size: _Optional[int] = ..., allocation_ratio: _Optional[float] = ...) -> None: ...

class ProviderGroup(_message.Message):
    __slots__ = ("id", "region", "spans", "provider_count")
    ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_COUNT_FIELD_NUMBER: _ClassVar[int]
    id: str
    region: str
    spans: _containers.RepeatedCompositeFieldContainer[Span]
    provider_count: int
    def __init__(self, id: _Optional[str] = ..., region: _Optional[str] = ..., spans: _Optional[_Iterable[_Union[Span, _Mapping]]] = ..., provider_count: _Optional[int] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("distance_type", "position")
    DISTANCE_TYPE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    distance_type: str
    position: str
    def __init__(self, distance_type: _Optional[str] = ..., position: _Optional[str] = ...) -> None: ...
