from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Scope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCOPE_UNSPECIFIED: _ClassVar[Scope]
    SCOPE_ANONYMOUS: _ClassVar[Scope]
    SCOPE_AUTHENTICATED: _ClassVar[Scope]
    SCOPE_PROJECT: _ClassVar[Scope]
    SCOPE_SYSTEM: _ClassVar[Scope]

class FanOut(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAN_OUT_UNSPECIFIED: _ClassVar[FanOut]
    FAN_OUT_NONE: _ClassVar[FanOut]
    FAN_OUT_MERGE: _ClassVar[FanOut]
    FAN_OUT_FIRST: _ClassVar[FanOut]
SCOPE_UNSPECIFIED: Scope
SCOPE_ANONYMOUS: Scope
SCOPE_AUTHENTICATED: Scope
SCOPE_PROJECT: Scope
SCOPE_SYSTEM: Scope
FAN_OUT_UNSPECIFIED: FanOut
FAN_OUT_NONE: FanOut
FAN_OUT_MERGE: FanOut
FAN_OUT_FIRST: FanOut
AUTHZ_FIELD_NUMBER: _ClassVar[int]
authz: _descriptor.FieldDescriptor
ROUTE_FIELD_NUMBER: _ClassVar[int]
route: _descriptor.FieldDescriptor

class Authz(_message.Message):
    __slots__ = ("permission", "scope")
    PERMISSION_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    permission: str
    scope: Scope
    def __init__(self, permission: _Optional[str] = ..., scope: _Optional[_Union[Scope, str]] = ...) -> None: ...

class Route(_message.Message):
    __slots__ = ("region_field", "fan_out", "retry_safe", "solo")
    REGION_FIELD_FIELD_NUMBER: _ClassVar[int]
    FAN_OUT_FIELD_NUMBER: _ClassVar[int]
    RETRY_SAFE_FIELD_NUMBER: _ClassVar[int]
    SOLO_FIELD_NUMBER: _ClassVar[int]
    region_field: str
    fan_out: FanOut
    retry_safe: bool
    solo: bool
    def __init__(self, region_field: _Optional[str] = ..., fan_out: _Optional[_Union[FanOut, str]] = ..., retry_safe: _Optional[bool] = ..., solo: _Optional[bool] = ...) -> None: ...
