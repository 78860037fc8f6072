"""Settings of a service that change while it runs: kept in etcd, in force in every process within a second.

Each setting has a value that stays and may have a temporary one beside it. When the time of that is up the former
value is in force again, in every process and after any restart, because both are stored with the time.

    /mulligan/settings/<service> = {"settings": {"log_level": {"value": "info", "temporary": "debug",
                                    "until_us": 1764000000000000}}, "requests": {...}}
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from mulligan.api.common.v1.common_pb2 import ServiceSettings
from mulligan.api.control.v1.request_response_pb2 import ExecutorSettings
from mulligan.caller import ANONYMOUS, Caller
from mulligan.clock import SECOND, Clock, now_us
from mulligan.config import LOG_LEVELS
from mulligan.errors import Aborted, InvalidArgument, Unavailable
from mulligan.requests import copy_fields, masked_fields, request_digest, require_request_id
from mulligan.stores import keys
from mulligan.stores.etcd import EtcdClient, WatchedPrefix
from mulligan.stores.transactions import Plan, commit, read_many

log = logging.getLogger(__name__)

SettingsT = TypeVar("SettingsT", bound=Message)


@dataclass(frozen=True, slots=True)
class _Bounds:
    default: int
    least: int
    most: int


# What max_request_bytes may be raised to. Whatever it is, a gateway takes that much in before it can refuse it.
MAX_REQUEST_BYTES = 16 * 1024 * 1024

_SERVICE_BOUNDS = {
    "max_in_flight": _Bounds(1_000, 1, 100_000),
    "max_request_bytes": _Bounds(4 * 1024 * 1024, 1_024, MAX_REQUEST_BYTES),
    "max_deadline_seconds": _Bounds(60, 1, 3_600),
}
_EXECUTOR_BOUNDS = {
    "max_tasks": _Bounds(100, 1, 10_000),
    "phone_home_seconds": _Bounds(1_800, 1, 86_400),
    "bmc_state_seconds": _Bounds(120, 1, 3_600),
    "step_attempts": _Bounds(5, 1, 100),
}
_BOUNDS: Mapping[type[Message], Mapping[str, _Bounds]] = {
    ServiceSettings: _SERVICE_BOUNDS,
    ExecutorSettings: _EXECUTOR_BOUNDS,
}

MAX_EXPIRY_S = 30 * 86_400

# A request that is repeated within this time, and among the last so many, gets its first answer.
_REMEMBERED_S = 86_400
_REMEMBERED = 100

# Times that a change is tried while others change the same service.
_ATTEMPTS = 10

# How long the process that made a change waits to see it itself.
_SEEN_WITHIN_S = 2.0

# A timer this long at most, so that a clock that was set is noticed.
_MAX_TIMER_S = 60.0


class ConfigureRequest(Protocol):
    """What every `<Service>ConfigureRequest` has."""

    request_id: str
    validate_only: bool

    @property
    def settings(self) -> Any:
        """The values that update_mask names."""

    @property
    def update_mask(self) -> FieldMask:
        """Fields to change; empty: none."""

    @property
    def expires_after(self) -> Duration:
        """After this the former values return."""

    def HasField(self, field_name: Any) -> bool:  # noqa: N802 (a protobuf message's own name)
        """Whether the field was given."""


class RuntimeSettings(Generic[SettingsT]):
    """The settings of one service as they are in force now, and the way to change them."""

    def __init__(
        self,
        etcd: EtcdClient,
        service: str,
        kind: type[SettingsT],
        *,
        apply_log_level: bool = True,
        clock: Clock = now_us,
    ) -> None:
        """`kind` is ServiceSettings or ExecutorSettings. Until configured, log_level is what the process began with.

        Give `apply_log_level=False` to a process that only stores the settings for another.
        """
        # Called with the settings after they changed.
        self.on_change: list[Callable[[SettingsT], None]] = []
        self._etcd = etcd
        self._service = service
        self._kind = kind
        self._apply_log_level = apply_log_level
        self._clock = clock
        self._defaults = default_settings(kind, logging.getLevelName(logging.getLogger().level).lower())
        self._watched = WatchedPrefix(etcd, keys.SETTINGS)
        self._current = self._defaults
        self._timer: asyncio.TimerHandle | None = None

    @property
    def current(self) -> SettingsT:
        """What is in force. Do not change it."""
        return self._current

    async def start(self) -> None:
        """Reads the settings, puts them in force and follows them; raises Unavailable."""
        self._watched.on_change.append(lambda service, _: self._refresh() if service == self._service else None)
        await self._watched.start()
        self._refresh()

    async def close(self) -> None:
        """Stops following; what is in force stays."""
        if self._timer is not None:
            self._timer.cancel()
        await self._watched.close()

    async def configure(self, request: ConfigureRequest, caller: Caller = ANONYMOUS) -> SettingsT:
        """Serves `<Service>Configure`: changes what the mask names, and tells what is in force then.

        An empty mask changes nothing; `validate_only` checks and tells what would be in force. Raises
        InvalidArgument for a value out of bounds, Aborted (REQUEST_ID_REUSED), Unavailable.
        """
        names = masked_fields(request.update_mask, self._kind)
        if not names:
            return self._current
        change = _Change(names, _checked(request.settings, names), _expiry_us(request))
        if request.validate_only:
            stored = await self._read()
            return self._in_force(change.applied(stored.document, self._clock()))
        request_id = f"{caller.account}/{caller.project}/{require_request_id(request.request_id)}"
        return await self._store(change, request_id, request_digest(request).hex())  # type: ignore[arg-type]

    async def _store(self, change: _Change, request_id: str, digest: str) -> SettingsT:
        for _ in range(_ATTEMPTS):
            stored = await self._read()
            former = stored.document.get("requests", {}).get(request_id)
            if former is not None:
                if former["digest"] != digest:
                    raise Aborted("request_id was used for another request; take a new one", reason="REQUEST_ID_REUSED")
                return self._in_force(stored.document)
            document = change.applied(stored.document, self._clock())
            _remember(document, request_id, digest, self._clock())
            plan = Plan()
            plan.expect_unchanged(keys.settings(self._service), stored.revision)
            plan.put(keys.settings(self._service), json.dumps(document, separators=(",", ":")))
            outcome = await commit(self._etcd, plan)
            if outcome.succeeded:
                await self._watched.wait_changed(outcome.revision - 1, _SEEN_WITHIN_S)
                return self._in_force(document)
        raise Unavailable(f"settings of {self._service} are changed by many at once; try again")

    async def _read(self) -> _Document:
        key = keys.settings(self._service)
        found = (await read_many(self._etcd, [key])).get(key)
        return _Document(_parsed(found.value), found.revision) if found else _Document({}, 0)

    def _refresh(self) -> None:
        """Puts in force what etcd says, now and whenever a temporary value ends."""
        document = _parsed(self._watched.items.get(self._service, b"{}"))
        before, self._current = self._current, self._in_force(document)
        self._set_timer(document)
        if self._apply_log_level:
            logging.getLogger().setLevel(self._current.log_level.upper())  # type: ignore[attr-defined]
        if before != self._current:
            log.info("service=%s settings changed", self._service)
            for callback in self.on_change:
                callback(self._current)

    def _set_timer(self, document: Mapping[str, Any]) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock()
        ends = [each.get("until_us", 0) for each in document.get("settings", {}).values()]
        if pending := [end for end in ends if end > now]:
            delay_s = min((min(pending) - now) / SECOND, _MAX_TIMER_S)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._refresh)

    def _in_force(self, document: Mapping[str, Any]) -> SettingsT:
        settings = self._kind()
        settings.CopyFrom(self._defaults)
        now = self._clock()
        for name, entry in document.get("settings", {}).items():
            value = entry["temporary"] if entry.get("until_us", 0) > now else entry.get("value")
            if value is not None and name in self._kind.DESCRIPTOR.fields_by_name:
                _set(settings, name, value)
        return settings


@dataclass(frozen=True, slots=True)
class _Document:
    document: dict[str, Any]
    # Etcd revision that wrote it; 0: there is none.
    revision: int


@dataclass(frozen=True, slots=True)
class _Change:
    names: list[str]
    values: Message
    # Microseconds until the former values return; 0: never.
    expiry_us: int

    def applied(self, document: Mapping[str, Any], now: int) -> dict[str, Any]:
        """The document with the change made at `now`; temporary values that ended are dropped."""
        settings = {
            name: entry if entry.get("until_us", 0) > now else {"value": entry.get("value")}
            for name, entry in document.get("settings", {}).items()
        }
        for name in self.names:
            value = getattr(self.values, name)
            if self.expiry_us:
                former = settings.get(name, {}).get("value")
                settings[name] = {"value": former, "temporary": value, "until_us": now + self.expiry_us}
            else:
                settings[name] = {"value": value}
        return {**document, "settings": settings}


def default_settings(kind: type[SettingsT], log_level: str = "info") -> SettingsT:
    """What is in force where nobody configured anything."""
    bounds = {name: each.default for name, each in _BOUNDS[kind].items()}
    return kind(log_level=log_level if log_level in LOG_LEVELS else "info", **bounds)


def _set(settings: Message, name: str, value: Any) -> None:
    try:
        setattr(settings, name, value)
    except (TypeError, ValueError):  # written by a version that knows other values
        log.error("setting=%s has a stored value that this version cannot read; its default is in force", name)


def _checked(settings: SettingsT, names: list[str]) -> SettingsT:
    """The named values; raises InvalidArgument for the first that is out of bounds."""
    for name in names:
        value = getattr(settings, name)
        if name == "log_level":
            if value not in LOG_LEVELS:
                raise InvalidArgument(
                    f"log_level must be one of {', '.join(LOG_LEVELS)}, not {value[:64]!r}", field="settings.log_level"
                )
            continue
        bounds = _BOUNDS[type(settings)][name]
        if not bounds.least <= value <= bounds.most:
            raise InvalidArgument(
                f"{name} must lie between {bounds.least} and {bounds.most}, not be {value}", field=f"settings.{name}"
            )
    checked = type(settings)()
    copy_fields(settings, checked, names)
    return checked


def _expiry_us(request: ConfigureRequest) -> int:
    if not request.HasField("expires_after"):
        return 0
    microseconds = request.expires_after.seconds * SECOND + request.expires_after.nanos // 1000
    if not 0 < microseconds <= MAX_EXPIRY_S * SECOND:
        raise InvalidArgument(
            "expires_after must be more than nothing and at most 30 days; leave it out for a change that stays",
            field="expires_after",
        )
    return microseconds


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document
    log.error("the stored settings cannot be read; defaults are in force until the next Configure call")
    return {}


def _remember(document: dict[str, Any], request_id: str, digest: str, now: int) -> None:
    """Keeps the request beside the settings, so that both are written at once or not at all."""
    former = document.get("requests", {})
    recent = {key: each for key, each in former.items() if each["at_us"] > now - _REMEMBERED_S * SECOND}
    newest = dict(list(recent.items())[-(_REMEMBERED - 1) :])
    document["requests"] = {**newest, request_id: {"digest": digest, "at_us": now}}
