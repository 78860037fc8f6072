"""Runs YAML stories against a live system over plain gRPC, with nothing of the smart client.

A story file has `story` (what it shows), optionally `use` (names of files in `setups/` whose steps run first) and
`steps`. A step:

    - as: member                          # admin, operator, member, reader, stranger, newcomer, nobody; default member
      call: resource.CreateClaim          # <service>.<Method>
      request: {region: $region, ...}     # protobuf JSON
      expect: OK                          # or a code and reason: RESOURCE_EXHAUSTED NO_CAPACITY
      check: {claim.state: CLAIM_STATE_ACTIVE}      # paths into the response; `length(x)` counts
      save: {claim: claim.id}             # later steps write $claim

Values that begin with `$`: a saved one; `$region` (a fresh root region of this story); `$new` (a new UUID);
`$name` (a new name); `$now`, `$now+2h`, `$now+7d` (a time, the same within one story); `$<identity>.project` and
`$<identity>.account`.
A request_id is filled in where the request has one and the step gives none.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from mulligan.api.control.v1 import control_service_pb2
from mulligan.api.iam.v1 import iam_service_pb2
from mulligan.api.meta.v1 import meta_service_pb2
from mulligan.api.resource.v1 import resource_service_pb2
from mulligan.ids import new_id

STORIES = Path(__file__).parent
SERVICES = {
    name: module.DESCRIPTOR.services_by_name[f"{name.title()}Service"]
    for name, module in {
        "iam": iam_service_pb2,
        "meta": meta_service_pb2,
        "resource": resource_service_pb2,
        "control": control_service_pb2,
    }.items()
}
_OFFSET = re.compile(r"^\$now(?:([+-]\d+)([smhd]))?$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

# Sends one request as an identity: answers the response, or the name of the code and the reason.
Send = Callable[[str, str, MethodDescriptor, Message], Awaitable[tuple[str, str, Message | None, str]]]


@dataclass
class Story:
    """One file's story and the values that it has saved so far."""

    path: Path
    values: dict[str, str]
    started: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))

    async def run(self, send: Send) -> None:
        """Runs every step; raises AssertionError that names the step that went otherwise."""
        text = yaml.safe_load(self.path.read_text())
        steps = [step for name in text.get("use", []) for step in _setup(name)] + text["steps"]
        for number, step in enumerate(steps, 1):
            await self._step(f"{self.path.name}, step {number} ({step['call']})", step, send)

    async def _step(self, where: str, step: dict[str, Any], send: Send) -> None:
        service, method_name = step["call"].split(".")
        method = SERVICES[service].methods_by_name[method_name]
        request = self._request(method, step.get("request", {}))
        code, reason, response, message = await send(step.get("as", "member"), service, method, request)
        seen = code if code == "OK" else f"{code} {reason}"
        assert seen == step.get("expect", "OK"), f"{where}: {seen}: {message}"
        if response is None:
            return
        shown = MessageToDict(response, preserving_proto_field_name=True)
        for path, wanted in step.get("check", {}).items():
            found = _at(shown, path)
            assert str(found) == str(self._value(wanted)), f"{where}: {path} is {found!r}, not {wanted!r} in {shown}"
        for name, path in step.get("save", {}).items():
            self.values[name] = str(_at(shown, path))

    def _request(self, method: MethodDescriptor, fields: dict[str, Any]) -> Message:
        request = ParseDict(self._value(fields), GetMessageClass(method.input_type)())
        if "request_id" in method.input_type.fields_by_name and "request_id" not in fields:
            request.request_id = new_id()  # type: ignore[attr-defined]  # known from the descriptor only
        return request

    def _value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._value(key): self._value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(item) for item in value]
        if not isinstance(value, str) or not value.startswith("$"):
            return value
        if value == "$new":
            return new_id()
        if value == "$name":
            return f"story-{new_id()}"
        if match := _OFFSET.match(value):
            seconds = int(match[1]) * _SECONDS[match[2]] if match[1] else 0
            return (self.started + datetime.timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
        return self.values[value[1:]]


def _setup(name: str) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = yaml.safe_load((STORIES / "setups" / f"{name}.yaml").read_text())["steps"]
    return steps


def _at(tree: Any, path: str) -> Any:
    """The value at a dotted path; numbers index lists; `length(path)` counts; absent is None."""
    if match := re.fullmatch(r"length\((.*)\)", path):
        return len(_at(tree, match[1]) or [])
    for part in path.split("."):
        if isinstance(tree, list):
            tree = tree[int(part)] if int(part) < len(tree) else None
        else:
            tree = (tree or {}).get(part)
    return tree
