import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from mulligan.api.common.v1 import common_pb2 as _common_pb2
from mulligan.api.control.v1 import machine_pb2 as _machine_pb2
from mulligan.api.control.v1 import operation_pb2 as _operation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RegisterBmcRequest(_message.Message):
    __slots__ = ("request_id", "region", "provider", "config", "password")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    region: str
    provider: str
    config: _machine_pb2.BmcConfig
    password: str
    def __init__(self, request_id: _Optional[str] = ..., region: _Optional[str] = ..., provider: _Optional[str] = ..., config: _Optional[_Union[_machine_pb2.BmcConfig, _Mapping]] = ..., password: _Optional[str] = ...) -> None: ...

class RegisterBmcResponse(_message.Message):
    __slots__ = ("bmc",)
    BMC_FIELD_NUMBER: _ClassVar[int]
    bmc: _machine_pb2.Bmc
    def __init__(self, bmc: _Optional[_Union[_machine_pb2.Bmc, _Mapping]] = ...) -> None: ...

class GetBmcRequest(_message.Message):
    __slots__ = ("region", "provider")
    REGION_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    region: str
    provider: str
    def __init__(self, region: _Optional[str] = ..., provider: _Optional[str] = ...) -> None: ...

class GetBmcResponse(_message.Message):
    __slots__ = ("bmc",)
    BMC_FIELD_NUMBER: _ClassVar[int]
    bmc: _machine_pb2.Bmc
    def __init__(self, bmc: _Optional[_Union[_machine_pb2.Bmc, _Mapping]] = ...) -> None: ...

class ListBmcsRequest(_message.Message):
    __slots__ = ("region", "page_size", "page_token")
    REGION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    region: str
    page_size: int
    page_token: str
    def __init__(self, region: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListBmcsResponse(_message.Message):
    __slots__ = ("bmcs", "next_page_token")
    BMCS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    bmcs: _containers.RepeatedCompositeFieldContainer[_machine_pb2.Bmc]
    next_page_token: str
    def __init__(self, bmcs: _Optional[_Iterable[_Union[_machine_pb2.Bmc, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteBmcRequest(_message.Message):
    __slots__ = ("request_id", "region", "provider")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    region: str
    provider: str
    def __init__(self, request_id: _Optional[str] = ..., region: _Optional[str] = ..., provider: _Optional[str] = ...) -> None: ...

class DeleteBmcResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ProvisionRequest(_message.Message):
    __slots__ = ("request_id", "region", "claim", "name", "config")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    region: str
    claim: str
    name: str
    config: _machine_pb2.MachineConfig
    def __init__(self, request_id: _Optional[str] = ..., region: _Optional[str] = ..., claim: _Optional[str] = ..., name: _Optional[str] = ..., config: _Optional[_Union[_machine_pb2.MachineConfig, _Mapping]] = ...) -> None: ...

class ProvisionResponse(_message.Message):
    __slots__ = ("operation", "machine")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    operation: _operation_pb2.Operation
    machine: _machine_pb2.Machine
    def __init__(self, operation: _Optional[_Union[_operation_pb2.Operation, _Mapping]] = ..., machine: _Optional[_Union[_machine_pb2.Machine, _Mapping]] = ...) -> None: ...

class DecommissionRequest(_message.Message):
    __slots__ = ("request_id", "region", "machine", "force")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    region: str
    machine: str
    force: bool
    def __init__(self, request_id: _Optional[str] = ..., region: _Optional[str] = ..., machine: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class DecommissionResponse(_message.Message):
    __slots__ = ("operation",)
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    operation: _operation_pb2.Operation
    def __init__(self, operation: _Optional[_Union[_operation_pb2.Operation, _Mapping]] = ...) -> None: ...

class GetMachineRequest(_message.Message):
    __slots__ = ("region", "id")
    REGION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    region: str
    id: str
    def __init__(self, region: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class GetMachineResponse(_message.Message):
    __slots__ = ("machine",)
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    machine: _machine_pb2.Machine
    def __init__(self, machine: _Optional[_Union[_machine_pb2.Machine, _Mapping]] = ...) -> None: ...

class ListMachinesRequest(_message.Message):
    __slots__ = ("region", "page_size", "page_token", "include_decommissioned")
    REGION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_DECOMMISSIONED_FIELD_NUMBER: _ClassVar[int]
    region: str
    page_size: int
    page_token: str
    include_decommissioned: bool
    def __init__(self, region: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., include_decommissioned: _Optional[bool] = ...) -> None: ...

class ListMachinesResponse(_message.Message):
    __slots__ = ("machines", "next_page_token")
    MACHINES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    machines: _containers.RepeatedCompositeFieldContainer[_machine_pb2.Machine]
    next_page_token: str
    def __init__(self, machines: _Optional[_Iterable[_Union[_machine_pb2.Machine, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchMachineRequest(_message.Message):
    __slots__ = ("region", "id")
    REGION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    region: str
    id: str
    def __init__(self, region: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class WatchMachineResponse(_message.Message):
    __slots__ = ("machine",)
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    machine: _machine_pb2.Machine
    def __init__(self, machine: _Optional[_Union[_machine_pb2.Machine, _Mapping]] = ...) -> None: ...

class GetOperationRequest(_message.Message):
    __slots__ = ("region", "id")
    REGION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    region: str
    id: str
    def __init__(self, region: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class GetOperationResponse(_message.Message):
    __slots__ = ("operation",)
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    operation: _operation_pb2.Operation
    def __init__(self, operation: _Optional[_Union[_operation_pb2.Operation, _Mapping]] = ...) -> None: ...

class ListOperationsRequest(_message.Message):
    __slots__ = ("region", "machine", "page_size", "page_token")
    REGION_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    region: str
    machine: str
    page_size: int
    page_token: str
    def __init__(self, region: _Optional[str] = ..., machine: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListOperationsResponse(_message.Message):
    __slots__ = ("operations", "next_page_token")
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedCompositeFieldContainer[_operation_pb2.Operation]
    next_page_token: str
    def __init__(self, operations: _Optional[_Iterable[_Union[_operation_pb2.Operation, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchOperationRequest(_message.Message):
    __slots__ = ("region", "id")
    REGION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    region: str
    id: str
    def __init__(self, region: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class WatchOperationResponse(_message.Message):
    __slots__ = ("operation",)
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    operation: _operation_pb2.Operation
    def __init__(self, operation: _Optional[_Union[_operation_pb2.Operation, _Mapping]] = ...) -> None: ...

class ControlConfigureRequest(_message.Message):
    __slots__ = ("request_id", "settings", "update_mask", "expires_after", "validate_only")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AFTER_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    settings: _common_pb2.ServiceSettings
    update_mask: _field_mask_pb2.FieldMask
    expires_after: _duration_pb2.Duration
    validate_only: bool
    def __init__(self, request_id: _Optional[str] = ..., settings: _Optional[_Union[_common_pb2.ServiceSettings, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., expires_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class ControlConfigureResponse(_message.Message):
    __slots__ = ("settings",)
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    settings: _common_pb2.ServiceSettings
    def __init__(self, settings: _Optional[_Union[_common_pb2.ServiceSettings, _Mapping]] = ...) -> None: ...

class ExecutorSettings(_message.Message):
    __slots__ = ("log_level", "max_tasks", "phone_home_seconds", "bmc_state_seconds", "step_attempts")
    LOG_LEVEL_FIELD_NUMBER: _ClassVar[int]
    MAX_TASKS_FIELD_NUMBER: _ClassVar[int]
    PHONE_HOME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BMC_STATE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STEP_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    log_level: str
    max_tasks: int
    phone_home_seconds: int
    bmc_state_seconds: int
    step_attempts: int
    def __init__(self, log_level: _Optional[str] = ..., max_tasks: _Optional[int] = ..., phone_home_seconds: _Optional[int] = ..., bmc_state_seconds: _Optional[int] = ..., step_attempts: _Optional[int] = ...) -> None: ...

class ExecutorConfigureRequest(_message.Message):
    __slots__ = ("request_id", "settings", "update_mask", "expires_after", "validate_only")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AFTER_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    settings: ExecutorSettings
    update_mask: _field_mask_pb2.FieldMask
    expires_after: _duration_pb2.Duration
    validate_only: bool
    def __init__(self, request_id: _Optional[str] = ..., settings: _Optional[_Union[ExecutorSettings, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., expires_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class ExecutorConfigureResponse(_message.Message):
    __slots__ = ("settings",)
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    settings: ExecutorSettings
    def __init__(self, settings: _Optional[_Union[ExecutorSettings, _Mapping]] = ...) -> None: ...
