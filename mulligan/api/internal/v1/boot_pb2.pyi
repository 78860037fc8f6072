from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class BootScriptRequest(_message.Message):
    __slots__ = ("mac", "base_url")
    MAC_FIELD_NUMBER: _ClassVar[int]
    BASE_URL_FIELD_NUMBER: _ClassVar[int]
    mac: str
    base_url: str
    def __init__(self, mac: _Optional[str] = ..., base_url: _Optional[str] = ...) -> None: ...

class BootScriptResponse(_message.Message):
    __slots__ = ("script",)
    SCRIPT_FIELD_NUMBER: _ClassVar[int]
    script: str
    def __init__(self, script: _Optional[str] = ...) -> None: ...

class PhoneHomeRequest(_message.Message):
    __slots__ = ("token", "address", "report")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    token: str
    address: str
    report: str
    def __init__(self, token: _Optional[str] = ..., address: _Optional[str] = ..., report: _Optional[str] = ...) -> None: ...

class PhoneHomeResponse(_message.Message):
    __slots__ = ("machine",)
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    machine: str
    def __init__(self, machine: _Optional[str] = ...) -> None: ...
