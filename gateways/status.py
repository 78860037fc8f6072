"""The status report: every announced actor and gateway is asked for its health now, and what is missing is listed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from actors.health import ComponentHealth
from gateways.catalogue import Announced, Catalogue
from gateways.routing import GLOBAL_SHARD
from mulligan.api.catalog.v1.catalog_service_pb2 import ComponentStatus, GetStatusResponse
from mulligan.meta.regions import DEFAULT_SHARD

# Seconds that one component may take to answer.
ASK_DEADLINE_S: Final = 2.0

GATEWAYS: Final = ("iam", "meta", "resource", "control", "boot")
GLOBAL_SERVICES: Final = ("iam", "meta")
SHARDED_SERVICES: Final = ("resource", "control", "results")

_KINDS: Final = ("dependency", "service", "gateway", "executor", "queue")

# Asks an actor, by its name, within a number of seconds.
Ask = Callable[[str, float], Awaitable[list[ComponentHealth]]]


class Status:
    """Makes the report."""

    def __init__(self, catalogue: Catalogue, ask: Ask) -> None:
        self._catalogue = catalogue
        self._ask = ask

    async def report(self) -> GetStatusResponse:
        """One line for each component; dependencies, which several report on, once."""
        shards, gateways = self._catalogue.shards(), self._catalogue.gateways()
        asked = [self._lines("gateway", each) for each in gateways]
        asked += [self._lines("executor" if each.service == "executor" else "service", each) for each in shards]
        lines = [line for lines in await asyncio.gather(*asked) for line in lines]
        lines += self._missing(shards, gateways)
        merged = sorted(_merged(lines), key=_order)
        return GetStatusResponse(
            healthy=all(line.healthy for line in merged), components=[_component(line) for line in merged]
        )

    async def _lines(self, kind: str, announced: Announced) -> list[ComponentHealth]:
        """What one actor tells, itself first; one that does not answer is an unhealthy line."""
        name = announced.actor or f"{announced.service}/{announced.shard}"
        try:
            own, *others = await self._ask(name, ASK_DEADLINE_S)
        except TimeoutError:
            detail = f"announced, but no answer within {ASK_DEADLINE_S:g} s"
        except Exception as error:
            detail = f"announced, but cannot be asked: {type(error).__name__}: {error}"[:200]
        else:
            version = own.version or announced.version
            own = ComponentHealth(
                kind, name, own.healthy, own.detail, own.latency_ms, announced.address or own.address, version
            )
            return [own, *others]
        return [ComponentHealth(kind, name, False, detail, 0.0, announced.address, announced.version)]

    def _missing(self, shards: Iterable[Announced], gateways: Iterable[Announced]) -> list[ComponentHealth]:
        """What nobody announces and a whole system has."""
        served = {(each.service, each.shard) for each in shards}
        expected = [(service, GLOBAL_SHARD) for service in GLOBAL_SERVICES]
        owned = sorted(self._catalogue.tree.shards | {DEFAULT_SHARD})
        expected += [(service, shard) for service in SHARDED_SERVICES for shard in owned]
        lines = [
            ComponentHealth("service", f"{service}/{shard}", False, _advice(f"mulligan-{_component_of(service)}"))
            for service, shard in expected
            if (service, shard) not in served
        ]
        if not any(service == "executor" for service, _ in served):
            lines.append(ComponentHealth("executor", "executor", False, _advice("mulligan-executor")))
        present = {each.service for each in gateways}
        lines += [
            ComponentHealth("gateway", f"gateway-{service}", False, _advice(f"mulligan-{_component_of(service)}"))
            for service in GATEWAYS
            if service not in present
        ]
        return lines


def _component_of(service: str) -> str:
    """The component that runs a service's actors."""
    return "control" if service in ("results", "boot") else service


def _advice(component: str) -> str:
    return f"not running; start {component}, or see its log"


def _merged(lines: Iterable[ComponentHealth]) -> list[ComponentHealth]:
    """Of lines on the same thing the worst: unhealthy for one is unhealthy."""
    worst: dict[tuple[str, str], ComponentHealth] = {}
    for line in lines:
        known = worst.get((line.kind, line.name))
        if known is None or (line.healthy, -line.latency_ms) < (known.healthy, -known.latency_ms):
            worst[line.kind, line.name] = line
    return list(worst.values())


def _order(line: ComponentHealth) -> tuple[int, str]:
    return (_KINDS.index(line.kind) if line.kind in _KINDS else len(_KINDS)), line.name


def _component(line: ComponentHealth) -> ComponentStatus:
    return ComponentStatus(
        kind=line.kind,
        name=line.name,
        healthy=line.healthy,
        detail=line.detail,
        latency_ms=line.latency_ms,
        address=line.address,
        version=line.version,
    )
