import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Visibility(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VISIBILITY_UNSPECIFIED: _ClassVar[Visibility]
    VISIBILITY_PUBLIC: _ClassVar[Visibility]
    VISIBILITY_INTERNAL: _ClassVar[Visibility]
    VISIBILITY_PROJECTS: _ClassVar[Visibility]
VISIBILITY_UNSPECIFIED: Visibility
VISIBILITY_PUBLIC: Visibility
VISIBILITY_INTERNAL: Visibility
VISIBILITY_PROJECTS: Visibility

class Region(_message.Message):
    __slots__ = ("id", "parent", "shard", "config", "etag", "create_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    parent: str
    shard: str
    config: RegionConfig
    etag: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., parent: _Optional[str] = ..., shard: _Optional[str] = ..., config: _Optional[_Union[RegionConfig, _Mapping]] = ..., etag: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RegionConfig(_message.Message):
    __slots__ = ("failures", "visibility", "projects")
    class FailuresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: FailureAttribute
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[FailureAttribute, _Mapping]] = ...) -> None: ...
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_FIELD_NUMBER: _ClassVar[int]
    PROJECTS_FIELD_NUMBER: _ClassVar[int]
    failures: _containers.MessageMap[str, FailureAttribute]
    visibility: Visibility
    projects: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, failures: _Optional[_Mapping[str, FailureAttribute]] = ..., visibility: _Optional[_Union[Visibility, str]] = ..., projects: _Optional[_Iterable[str]] = ...) -> None: ...

class FailureAttribute(_message.Message):
    __slots__ = ("expectation", "shared_with")
    EXPECTATION_FIELD_NUMBER: _ClassVar[int]
    SHARED_WITH_FIELD_NUMBER: _ClassVar[int]
    expectation: str
    shared_with: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, expectation: _Optional[str] = ..., shared_with: _Optional[_Iterable[str]] = ...) -> None: ...

class NameKey(_message.Message):
    __slots__ = ("kind", "name", "scope")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    scope: str
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., scope: _Optional[str] = ...) -> None: ...

class ResolvedName(_message.Message):
    __slots__ = ("key", "id")
    KEY_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    key: NameKey
    id: str
    def __init__(self, key: _Optional[_Union[NameKey, _Mapping]] = ..., id: _Optional[str] = ...) -> None: ...

class Object(_message.Message):
    __slots__ = ("id", "kind", "scope", "name", "slug", "tags", "project", "region")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SLUG_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: str
    scope: str
    name: str
    slug: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    project: str
    region: str
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[str] = ..., scope: _Optional[str] = ..., name: _Optional[str] = ..., slug: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., project: _Optional[str] = ..., region: _Optional[str] = ...) -> None: ...

class ObjectEvent(_message.Message):
    __slots__ = ("object", "deleted")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    object: Object
    deleted: bool
    def __init__(self, object: _Optional[_Union[Object, _Mapping]] = ..., deleted: _Optional[bool] = ...) -> None: ...
