from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_STARTED: _ClassVar[Outcome]
    OUTCOME_DONE: _ClassVar[Outcome]
    OUTCOME_RETRYING: _ClassVar[Outcome]
    OUTCOME_FAILED: _ClassVar[Outcome]
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_STARTED: Outcome
OUTCOME_DONE: Outcome
OUTCOME_RETRYING: Outcome
OUTCOME_FAILED: Outcome

class Task(_message.Message):
    __slots__ = ("operation", "machine", "region", "kind")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    operation: str
    machine: str
    region: str
    kind: str
    def __init__(self, operation: _Optional[str] = ..., machine: _Optional[str] = ..., region: _Optional[str] = ..., kind: _Optional[str] = ...) -> None: ...

class StepResult(_message.Message):
    __slots__ = ("operation", "machine", "region", "step", "outcome", "reason", "message", "evidence", "at_us", "fence", "index", "count", "executor", "attempt", "deadline_us")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    AT_US_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_US_FIELD_NUMBER: _ClassVar[int]
    operation: str
    machine: str
    region: str
    step: str
    outcome: Outcome
    reason: str
    message: str
    evidence: str
    at_us: int
    fence: int
    index: int
    count: int
    executor: str
    attempt: int
    deadline_us: int
    def __init__(self, operation: _Optional[str] = ..., machine: _Optional[str] = ..., region: _Optional[str] = ..., step: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., evidence: _Optional[str] = ..., at_us: _Optional[int] = ..., fence: _Optional[int] = ..., index: _Optional[int] = ..., count: _Optional[int] = ..., executor: _Optional[str] = ..., attempt: _Optional[int] = ..., deadline_us: _Optional[int] = ...) -> None: ...
