"""What the catalogue tells to whom, and what the status report lists."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from actors.health import ComponentHealth
from gateways.catalogue import CatalogService, Catalogue
from gateways.routing import Regions
from gateways.status import Status
from mulligan.api.catalog.v1.catalog_service_pb2 import (
    ComponentStatus,
    GetStatusResponse,
    WatchCatalogRequest,
    WatchCatalogResponse,
)
from mulligan.caller import ANONYMOUS, Caller
from mulligan.ids import new_id
from tests.gateway_parts import ADMIN, MEMBER, MemoryPrefix, Signer, region

PROJECT = new_id()


def entry(actor: str, **fields: str) -> bytes:
    """A catalogue entry as actors write it."""
    return json.dumps({"actor": actor, "version": "1.2.3", "incarnation": "x", **fields}).encode()


class World:
    """A small installation."""

    def __init__(self) -> None:
        self.actors, self.gateways, self.regions = MemoryPrefix(), MemoryPrefix(), MemoryPrefix()
        self.catalogue = Catalogue(self.actors, self.gateways, Regions(self.regions), self.regions)
        self.service = CatalogService(self.catalogue, self._no_report)
        self.signer = Signer()
        self.open, self.hidden = region(shard="n"), region(shard="h", visibility="internal")
        for record in (self.open, self.hidden):
            self.regions.put(record.id, record.to_json())
        for service in ("iam", "resource"):
            self.gateways.put(f"{service}/host", entry(f"gateway-{service}/host#1", address=f"{service}.example:1"))
        for shard in ("n", "h"):
            self.actors.put(f"resource/{shard}", entry(f"resource/{shard}#1"))
        self.actors.put("iam/global", entry("iam/global#1"))

    async def _no_report(self) -> GetStatusResponse:
        return GetStatusResponse()

    async def catalog(self, caller: Caller, cursor: str = "", wait_s: float = 1.0) -> tuple[Any, str]:
        """The next catalogue, or None, and the cursor."""
        page = await self.service.watch_catalog(WatchCatalogRequest(), caller, cursor, wait_s)
        assert not page.done
        return (page.messages[0] if page.messages else None), page.cursor


async def test_before_login_only_iam_is_told() -> None:
    told, _ = await World().catalog(ANONYMOUS)
    assert [each.address for each in told.endpoints] == ["iam.example:1"]
    assert (len(told.shards), len(told.regions)) == (0, 0)


async def test_a_tenant_sees_services_and_the_regions_it_may_know_of() -> None:
    world = World()
    told, _ = await world.catalog(world.signer.caller(MEMBER, project=PROJECT))
    assert {each.service for each in told.endpoints} == {"iam", "resource"}
    assert [(each.region, each.shard) for each in told.regions] == [(world.open.id, "n")]
    assert {(each.service, each.shard, each.actor) for each in told.shards} == {
        ("iam", "global", "iam/global#1"),
        ("resource", "n", "resource/n#1"),
    }


async def test_an_operator_sees_all() -> None:
    world = World()
    told, _ = await world.catalog(world.signer.caller(ADMIN))
    assert {each.region for each in told.regions} == {world.open.id, world.hidden.id}
    assert {each.shard for each in told.shards} == {"n", "h", "global"}
    assert told.revision == world.catalogue.revision


async def test_a_change_wakes_those_who_may_see_it_and_nobody_else() -> None:
    world = World()
    member, admin = world.signer.caller(MEMBER, project=PROJECT), world.signer.caller(ADMIN)
    _, member_cursor = await world.catalog(member)
    _, admin_cursor = await world.catalog(admin)
    waiting = [
        asyncio.create_task(world.catalog(member, member_cursor, 0.2)),
        asyncio.create_task(world.catalog(admin, admin_cursor, 5)),
    ]
    await asyncio.sleep(0)
    record = region(world.hidden.id)
    world.regions.put(record.id, record.to_json())
    (nothing, same), (told, _) = await asyncio.gather(*waiting)
    assert (nothing, same) == (None, member_cursor)
    assert record.id in {each.region for each in told.regions}


async def test_an_entry_that_cannot_be_read_hides_no_other() -> None:
    world = World()
    world.gateways.put("meta/host", b"not json")
    world.gateways.put("meta/other", b"[]")
    told, _ = await world.catalog(world.signer.caller(ADMIN))
    assert {each.service for each in told.endpoints} == {"iam", "resource"}


async def test_what_changed_while_nobody_looked_is_told_at_once() -> None:
    world = World()
    _, cursor = await world.catalog(ANONYMOUS)
    world.gateways.delete("iam/host")
    told, _ = await world.catalog(ANONYMOUS, cursor)
    assert isinstance(told, WatchCatalogResponse)
    assert len(told.endpoints) == 0


class Asked:
    """Actors that tell what they are told to tell."""

    def __init__(self) -> None:
        self.answers: dict[str, list[ComponentHealth] | Exception] = {}

    async def __call__(self, actor: str, timeout_s: float) -> list[ComponentHealth]:
        answer = self.answers.get(actor, [ComponentHealth("service", actor, True, "epoch 1", version="1.2.3")])
        if isinstance(answer, Exception):
            raise answer
        return answer


async def lines(world: World, asked: Asked) -> tuple[bool, dict[tuple[str, str], ComponentStatus]]:
    """The report."""
    report = await Status(world.catalogue, asked).report()
    return report.healthy, {(line.kind, line.name): line for line in report.components}


def whole(world: World) -> None:
    """Announces everything that a whole system of this world has."""
    for service in ("meta", "control", "boot"):
        world.gateways.put(f"{service}/host", entry(f"gateway-{service}/host#1", address=f"{service}.example:1"))
    shards = [(service, shard) for service in ("resource", "control", "results") for shard in ("n", "h", "default")]
    for service, shard in [*shards, ("meta", "global"), ("executor", "host-0")]:
        world.actors.put(f"{service}/{shard}", entry(f"{service}/{shard}#1"))


async def test_a_whole_system_is_healthy() -> None:
    world = World()
    whole(world)
    healthy, report = await lines(world, Asked())
    assert healthy
    assert report["gateway", "gateway-iam/host#1"].address == "iam.example:1"
    assert report["executor", "executor/host-0#1"].version == "1.2.3"
    assert len(report) == 5 + 12


@pytest.mark.parametrize(
    ("prefix", "key", "line"),
    [
        ("actors", "resource/default", ("service", "resource/default")),
        ("actors", "results/n", ("service", "results/n")),
        ("actors", "meta/global", ("service", "meta/global")),
        ("actors", "executor/host-0", ("executor", "executor")),
        ("gateways", "boot/host", ("gateway", "gateway-boot")),
        ("gateways", "control/host", ("gateway", "gateway-control")),
    ],
)
async def test_what_is_missing_is_listed_with_what_to_do(prefix: str, key: str, line: tuple[str, str]) -> None:
    world = World()
    whole(world)
    getattr(world, prefix).delete(key)
    healthy, report = await lines(world, Asked())
    assert not healthy
    assert [name for name, each in report.items() if not each.healthy] == [line]
    assert "start mulligan-" in report[line].detail


async def test_what_does_not_answer_is_unhealthy_and_shows_no_secret() -> None:
    world, asked = World(), Asked()
    whole(world)
    asked.answers["resource/n#1"] = TimeoutError()
    asked.answers["gateway-iam/host#1"] = ValueError("Failed to look up actor")
    healthy, report = await lines(world, asked)
    assert not healthy
    assert report["service", "resource/n#1"].detail == "announced, but no answer within 2 s"
    assert "Failed to look up actor" in report["gateway", "gateway-iam/host#1"].detail


async def test_a_dependency_is_listed_once_and_as_bad_as_anyone_finds_it() -> None:
    world, asked = World(), Asked()
    whole(world)
    for shard, up in (("n", True), ("h", False), ("default", True)):
        name = f"resource/{shard}#1"
        asked.answers[name] = [
            ComponentHealth("service", name, True),
            ComponentHealth("dependency", "postgres", up, "" if up else "no answer", 3.0),
        ]
    healthy, report = await lines(world, asked)
    assert not healthy
    assert not report["dependency", "postgres"].healthy
    assert report["dependency", "postgres"].detail == "no answer"
