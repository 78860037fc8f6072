"""The command line as its users run it: as a process of its own, against a whole system."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mulligan.ids import new_id
from tests.system import System
from tests.waiting import eventually

MULLIGAN = str(Path(sys.executable).with_name("mulligan"))
PASSWORD = "correct horse battery"
DEADLINE_S = 90

DEPLOYMENT = """\
root: earth-{mark}
distance_types:
  network: [local, site, remote]
  failure: [local, rack, row, site]
profiles:
  small:
    provider_type: compute
    capabilities: [cpu.x86.avx2]
    inventory:
      cpu.shared: {{total: 4}}
      memory: {{total: 4294967296}}
layout: {{sites: [site-{mark}], rows_per_site: 1, racks_per_row: 2, nodes_per_rack: 3}}
default_profile: small
"""

WHOLE_MACHINE = "groups: [{exclusive: true, resources: {cpu.shared: {min: 4}}}]\n"


@dataclass(frozen=True)
class Finished:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed with --output json."""
        assert self.code == 0, self.err
        return json.loads(self.out)


@dataclass(frozen=True)
class Shell:
    """Runs commands in one context."""

    context: str

    async def run(self, *arguments: str, stdin: str = "") -> Finished:
        """One command to its end."""
        process = await self.begin(*arguments)
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), DEADLINE_S)
        finished = Finished(process.returncode or 0, out.decode(), err.decode())
        assert "Traceback" not in finished.err
        return finished

    async def begin(self, *arguments: str) -> Process:
        """One command, not waited for."""
        return await asyncio.create_subprocess_exec(
            MULLIGAN, *arguments, "--context", self.context, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )

    async def json(self, *arguments: str, stdin: str = "") -> Any:
        """What a command prints for programs."""
        return (await self.run(*arguments, "--output", "json", stdin=stdin)).json


@dataclass(frozen=True)
class Place:
    """A site with six small machines, and a project whose member is logged in."""

    operator: Shell
    member: Shell
    site: str
    project: str
    account: str


@pytest.fixture
async def place(system: System, tmp_path: Path) -> Place:
    mark = new_id()[-8:]
    operator, member = Shell("local"), Shell(f"member-{mark}")
    file = tmp_path / "dc.yaml"
    file.write_text(DEPLOYMENT.format(mark=mark))
    loaded = await operator.json("inventory", "load", str(file))
    assert (loaded["providers_made"], loaded["groups_made"]) == (6, 4)
    project, account = f"lab-{mark}", f"ada-{mark}"
    await operator.json("project", "create", project)
    await operator.json("account", "create", account, "--secret-stdin", stdin=f"{PASSWORD}\n")
    await operator.json("role", "assign", account, "member", "--project", project)
    gateway = system.gateways["meta"]
    made = await member.run("context", "set", member.context, "--address", gateway, "--ca-file", str(system.ca_file))
    assert made.code == 0, made.err
    login = await member.run("login", account, "--project", project, "--secret-stdin", stdin=f"{PASSWORD}\n")
    assert login.code == 0, login.err
    assert f"as {account}, in project {project}" in login.out
    return Place(operator, member, f"site-{mark}", project, account)


async def test_status_says_that_all_is_well(system: System) -> None:
    shell = Shell("local")
    status = await shell.run("status")
    assert status.code == 0, status.out
    assert "everything is healthy" in status.out
    parts = (await shell.json("status"))["components"]
    assert {part["kind"] for part in parts} >= {"dependency", "service", "gateway"}


async def test_a_claims_life(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "machine.yaml"
    file.write_text(WHOLE_MACHINE)
    where = ("--region", place.site)
    explained = await place.member.run("claim", "explain", str(file), *where)
    assert explained.code == 0, explained.err
    planned = await place.member.json("claim", "create", str(file), *where, "--dry-run")
    assert planned["allocations"]
    claims = [await place.member.json("claim", "create", str(file), *where) for _ in range(6)]
    assert len({claim["allocations"][0]["provider"] for claim in claims}) == 6
    refused = await place.member.run("claim", "create", str(file), *where)
    assert refused.code == 7
    assert "mulligan claim explain" in refused.err
    assert (await place.member.run("claim", "explain", str(file), *where)).code == 1
    listed = await place.member.json("claim", "list", *where)
    assert {claim["id"] for claim in listed} == {claim["id"] for claim in claims}
    usage = {each["resource_type"]: each for each in await place.operator.json("usage", *where)}
    assert usage["cpu.shared"]["used"] == usage["cpu.shared"]["capacity"] == 24
    released = await place.member.json("claim", "release", claims[0]["id"])
    assert released["state"] == "released"
    assert (await place.member.run("claim", "create", str(file), *where)).code == 0


@pytest.mark.timeout(300)
async def test_a_machines_life_on_a_simulated_park(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "machine.yaml"
    file.write_text(WHOLE_MACHINE)
    rack = f"{place.site}-row1-rack1"
    park = await place.operator.begin("park", "run", "--group", rack, "--region", place.site)
    try:
        assert park.stdout is not None
        while b"interrupt" not in (line := await asyncio.wait_for(park.stdout.readline(), DEADLINE_S)):
            assert line, "the park ended"
        bmcs = await place.operator.json("bmc", "list", "--region", place.site)
        assert len(bmcs) == 3
        assert all("password" not in bmc["config"] for bmc in bmcs)
        claim = await place.member.json("claim", "create", str(file), "--region", place.site, "--group", rack)
        provisioned = await place.member.run("machine", "provision", claim["id"], "--name", "web1")
        assert provisioned.code == 0, provisioned.out + provisioned.err
        assert provisioned.out.splitlines()[-1] == "done"
        machine = await place.member.json("machine", "show", "web1")
        assert (machine["state"], machine["claim"]) == ("active", claim["id"])
        assert "web1" in (await place.member.run("machine", "list")).out
        watched = await place.member.run("operation", "watch", machine["operation"], "-o", "json")
        assert json.loads(watched.out.splitlines()[-1])["state"] == "succeeded"
        in_use = await place.operator.run("bmc", "delete", claim["allocations"][0]["provider"], "--region", place.site)
        assert in_use.code == 6
        assert (await place.member.run("machine", "decommission", "web1")).code == 0
        assert (await place.member.json("claim", "show", claim["id"]))["state"] == "released"
        kinds = [each["kind"] for each in await place.member.json("operation", "list")]
        assert kinds == ["decommission", "provision"]
    finally:
        park.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(park.wait(), DEADLINE_S) == 130


async def test_what_a_member_may_not_and_what_is_not_there(place: Place) -> None:
    denied = await place.member.run("project", "create", "other")
    assert denied.code == 4
    assert "mulligan whoami" in denied.err
    assert (await place.member.run("provider", "show", "no-such-node")).code == 5
    assert (await place.member.run("region", "show", "nowhere")).code == 5
    assert (await place.member.run("claim", "show", new_id())).code == 5
    taken = await place.operator.run("project", "create", place.project)
    assert taken.code == 6
    who = await place.member.run("whoami")
    assert f"({place.account})" in who.out
    assert f"({place.project})" in who.out


async def test_quotas_names_and_tags(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "machine.yaml"
    file.write_text(WHOLE_MACHINE)
    where = ("--region", place.site)
    await place.operator.json("quota", "set", place.project, "cpu.shared", "5", *where)
    assert (await place.member.run("claim", "create", str(file), *where)).code == 0
    short = await place.member.run("claim", "create", str(file), *where)
    assert short.code == 7
    assert "mulligan quota list" in short.err
    [quota] = await place.operator.json("quota", "list", *where, "--project", place.project)
    assert (quota["used"], quota["limit"]) == (4, 5)
    node = f"{place.site}-row1-rack2-node3"
    await place.operator.json("tag", "add", "provider", node, "spare", "rack:2", *where)
    await place.operator.json("name", "set", "provider", node, f"{place.site}-spare", *where)
    [tagged] = await place.operator.json("tag", "list", "spare", "rack:2", "--kind", "provider")
    assert tagged["name"] == f"{place.site}-spare"
    shown = await place.operator.json("provider", "show", f"{place.site}-spare")
    assert shown["id"] == tagged["id"]
    state = await place.operator.json("provider", "set-state", tagged["id"], "maintenance", "--reason", "new fan")
    assert (state["state"], state["state_reason"]) == ("maintenance", "new fan")


async def test_settings_change_while_the_system_runs_and_return(system: System) -> None:
    shell = Shell("local")
    before = await shell.json("service", "show", "resource")
    changed = await shell.json("service", "configure", "resource", "max_in_flight=4321", "--expires", "3s")
    assert changed["max_in_flight"] == 4321
    bad = await shell.run("service", "configure", "resource", "log_level=loud")
    assert bad.code == 2

    async def returned() -> bool:
        return bool((await shell.json("service", "show", "resource")) == before)

    await eventually(returned, within_s=30)


async def test_a_gateway_that_is_not_there(system: System) -> None:
    shell = Shell("nowhere")
    ca_file = str(system.ca_file)
    await shell.run("context", "set", "nowhere", "--address", "127.0.0.1:1", "--ca-file", ca_file)
    result = await shell.run("status", "--timeout", "2")
    assert result.code == 8
    assert "no answer from 127.0.0.1:1" in result.err
    assert len(result.err.strip().splitlines()) == 1
