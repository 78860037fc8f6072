"""What bootstrap leaves behind: everything healthy, nothing open to others, and nothing more on a second run."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path

import psutil

from cluster.bootstrap import bring_up
from cluster.processes import marked
from cluster.status import host_status, supervisor_of
from cluster.supervisor import COMPONENTS
from tests.system import System

# MiB of memory (proportional set size) that a whole idle system may take.
MEMORY_BUDGET_MIB = 2560


def processes(system: System) -> list[psutil.Process]:
    """Every process of the system, PostgreSQL's included, which hide their environment."""
    supervisor = supervisor_of(system.places)
    assert supervisor is not None
    found = {psutil.Process(each.pid) for each in (supervisor, *marked(str(system.settings.state_dir)))}
    for child in host_status(system.settings).children:
        found |= set(psutil.Process(child.pid).children(recursive=True))
    return list(found)


async def test_every_part_is_healthy(system: System) -> None:
    async with system.client() as client:
        report = await client.catalog.get_status()
    assert report.healthy, [part for part in report.components if not part.healthy]
    names = {part.name.partition("#")[0].partition("/")[0] for part in report.components}
    gateways = {"gateway-iam", "gateway-meta", "gateway-resource", "gateway-control", "boot"}
    assert {"etcd", "nats", "postgres", "iam", "meta", "resource", "control", "results", "executor"} | gateways <= names


async def test_a_second_bootstrap_changes_nothing(system: System) -> None:
    before = {child.name: child.pid for child in host_status(system.settings).children}
    admin, supervisor = system.places.admin.read_text(), supervisor_of(system.places)
    assert await bring_up(system.settings) == list(system.gateways.values())
    assert {child.name: child.pid for child in host_status(system.settings).children} == before
    assert system.places.admin.read_text() == admin
    assert supervisor_of(system.places) == supervisor


async def test_nothing_listens_to_other_hosts(system: System) -> None:
    listening = {
        connection.laddr.ip
        for process in processes(system)
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening
    assert all(ip_address(each.removeprefix("::ffff:")).is_loopback for each in listening), listening


async def test_secrets_are_readable_by_their_owner_alone(system: System) -> None:
    folder = system.places.secrets
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in folder.iterdir()} >= {"admin.json", "master.key", "ray.token", "postgres.password"}
    for path in [*folder.iterdir(), system.settings.state_dir / "tls" / "server.key"]:
        assert path.stat().st_mode & 0o777 == 0o600, path
    # Nor is a secret left where Ray looks for one by itself.
    token = system.places.ray_token.read_text()
    by_itself = Path.home() / ".ray" / "auth_token"
    assert not by_itself.exists() or by_itself.read_text().strip() != token.strip()


async def test_no_secret_is_in_a_command_line_or_a_log(system: System) -> None:
    secrets = [json.loads(system.places.admin.read_text())["secret"]]
    secrets += [(system.places.secrets / name).read_text().strip() for name in ("ray.token", "postgres.password")]
    shown = "\n".join(" ".join(process.cmdline()) for process in processes(system))
    logs = "\n".join(path.read_text(errors="replace") for path in (system.settings.state_dir / "log").iterdir())
    assert not [secret for secret in secrets if secret in shown or secret in logs]


async def test_the_whole_system_stays_within_its_memory(system: System) -> None:
    used = sum(process.memory_full_info().pss for process in processes(system)) / 2**20
    assert used < MEMORY_BUDGET_MIB


async def test_every_component_tells_what_it_keeps(system: System) -> None:
    children = {child.name: child for child in host_status(system.settings).children}
    assert set(COMPONENTS) <= set(children)
    assert all("actors serve" in children[name].detail for name in COMPONENTS)
