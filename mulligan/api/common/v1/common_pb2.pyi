import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ServiceSettings(_message.Message):
    __slots__ = ("log_level", "max_in_flight", "max_request_bytes", "max_deadline_seconds")
    LOG_LEVEL_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    log_level: str
    max_in_flight: int
    max_request_bytes: int
    max_deadline_seconds: int
    def __init__(self, log_level: _Optional[str] = ..., max_in_flight: _Optional[int] = ..., max_request_bytes: _Optional[int] = ..., max_deadline_seconds: _Optional[int] = ...) -> None: ...

class Window(_message.Message):
    __slots__ = ("acquire", "release")
    ACQUIRE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    acquire: _timestamp_pb2.Timestamp
    release: _timestamp_pb2.Timestamp
    def __init__(self, acquire: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., release: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
