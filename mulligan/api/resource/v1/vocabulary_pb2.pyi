from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Vocabulary(_message.Message):
    __slots__ = ("provider_types", "resource_types", "capabilities", "distance_types")
    PROVIDER_TYPES_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_TYPES_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_TYPES_FIELD_NUMBER: _ClassVar[int]
    provider_types: _containers.RepeatedScalarFieldContainer[str]
    resource_types: _containers.RepeatedCompositeFieldContainer[ResourceType]
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    distance_types: _containers.RepeatedCompositeFieldContainer[DistanceType]
    def __init__(self, provider_types: _Optional[_Iterable[str]] = ..., resource_types: _Optional[_Iterable[_Union[ResourceType, _Mapping]]] = ..., capabilities: _Optional[_Iterable[str]] = ..., distance_types: _Optional[_Iterable[_Union[DistanceType, _Mapping]]] = ...) -> None: ...

class ResourceType(_message.Message):
    __slots__ = ("code", "unit")
    CODE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    code: str
    unit: str
    def __init__(self, code: _Optional[str] = ..., unit: _Optional[str] = ...) -> None: ...

class DistanceType(_message.Message):
    __slots__ = ("code", "positions")
    CODE_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    code: str
    positions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, code: _Optional[str] = ..., positions: _Optional[_Iterable[str]] = ...) -> None: ...
