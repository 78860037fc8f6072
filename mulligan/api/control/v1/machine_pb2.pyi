import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MachineState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MACHINE_STATE_UNSPECIFIED: _ClassVar[MachineState]
    MACHINE_STATE_PROVISIONING: _ClassVar[MachineState]
    MACHINE_STATE_ACTIVE: _ClassVar[MachineState]
    MACHINE_STATE_DECOMMISSIONING: _ClassVar[MachineState]
    MACHINE_STATE_DECOMMISSIONED: _ClassVar[MachineState]
    MACHINE_STATE_FAILED: _ClassVar[MachineState]
MACHINE_STATE_UNSPECIFIED: MachineState
MACHINE_STATE_PROVISIONING: MachineState
MACHINE_STATE_ACTIVE: MachineState
MACHINE_STATE_DECOMMISSIONING: MachineState
MACHINE_STATE_DECOMMISSIONED: MachineState
MACHINE_STATE_FAILED: MachineState

class MachineConfig(_message.Message):
    __slots__ = ("kernel_url", "initrd_url", "kernel_args")
    KERNEL_URL_FIELD_NUMBER: _ClassVar[int]
    INITRD_URL_FIELD_NUMBER: _ClassVar[int]
    KERNEL_ARGS_FIELD_NUMBER: _ClassVar[int]
    kernel_url: str
    initrd_url: str
    kernel_args: str
    def __init__(self, kernel_url: _Optional[str] = ..., initrd_url: _Optional[str] = ..., kernel_args: _Optional[str] = ...) -> None: ...

class Machine(_message.Message):
    __slots__ = ("id", "region", "project", "claim", "provider", "config", "status", "state", "state_since", "state_reason", "state_deadline", "operation", "create_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_SINCE_FIELD_NUMBER: _ClassVar[int]
    STATE_REASON_FIELD_NUMBER: _ClassVar[int]
    STATE_DEADLINE_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    region: str
    project: str
    claim: str
    provider: str
    config: MachineConfig
    status: MachineStatus
    state: MachineState
    state_since: _timestamp_pb2.Timestamp
    state_reason: str
    state_deadline: _timestamp_pb2.Timestamp
    operation: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., region: _Optional[str] = ..., project: _Optional[str] = ..., claim: _Optional[str] = ..., provider: _Optional[str] = ..., config: _Optional[_Union[MachineConfig, _Mapping]] = ..., status: _Optional[_Union[MachineStatus, _Mapping]] = ..., state: _Optional[_Union[MachineState, str]] = ..., state_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., state_reason: _Optional[str] = ..., state_deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., operation: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class MachineStatus(_message.Message):
    __slots__ = ("power", "power_read_time", "boot_script_time", "phone_home_time", "evidence")
    POWER_FIELD_NUMBER: _ClassVar[int]
    POWER_READ_TIME_FIELD_NUMBER: _ClassVar[int]
    BOOT_SCRIPT_TIME_FIELD_NUMBER: _ClassVar[int]
    PHONE_HOME_TIME_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    power: str
    power_read_time: _timestamp_pb2.Timestamp
    boot_script_time: _timestamp_pb2.Timestamp
    phone_home_time: _timestamp_pb2.Timestamp
    evidence: str
    def __init__(self, power: _Optional[str] = ..., power_read_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., boot_script_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., phone_home_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., evidence: _Optional[str] = ...) -> None: ...

class BmcConfig(_message.Message):
    __slots__ = ("driver", "host", "port", "username", "boot_mac")
    DRIVER_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    BOOT_MAC_FIELD_NUMBER: _ClassVar[int]
    driver: str
    host: str
    port: int
    username: str
    boot_mac: str
    def __init__(self, driver: _Optional[str] = ..., host: _Optional[str] = ..., port: _Optional[int] = ..., username: _Optional[str] = ..., boot_mac: _Optional[str] = ...) -> None: ...

class Bmc(_message.Message):
    __slots__ = ("provider", "region", "config", "update_time")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    provider: str
    region: str
    config: BmcConfig
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, provider: _Optional[str] = ..., region: _Optional[str] = ..., config: _Optional[_Union[BmcConfig, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
