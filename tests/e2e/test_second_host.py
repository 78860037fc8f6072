"""A second host joins: it serves beside the first one, takes a shard over when the first lets it go, and leaves."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from cluster.bootstrap import bring_up
from cluster.child import ChildState
from cluster.down import bring_down
from cluster.host import prepare_host
from cluster.places import Places
from cluster.ray_head import ray_address
from cluster.status import supervisor_of
from mulligan.client import Client
from mulligan.config import Settings
from mulligan.errors import FailedPrecondition
from mulligan.ids import new_id
from mulligan.stores.addresses import Addresses
from tests.system import System
from tests.waiting import eventually

# Another address of this machine stands for another host.
SECOND = "127.0.0.2"


@asynccontextmanager
async def second_host(system: System, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Settings]:
    """A host with the stores, authority and secrets of the first one."""
    stores = Addresses.load(system.settings)
    with tempfile.TemporaryDirectory(prefix="mulligan-e2e-") as folder:
        monkeypatch.setenv("XDG_CONFIG_HOME", f"{folder}/config")
        state_dir = Path(folder) / "state"
        settings = Settings(
            state_dir=state_dir,
            etcd=",".join(stores.etcd),
            nats=stores.nats.replace("://", f"://{stores.nats_user}:{stores.nats_password}@"),
            postgres=stores.postgres,
            ray=ray_address(system.settings),
            listen=SECOND,
            port=0,
        )
        with pytest.raises(FailedPrecondition, match=r"copy these from the first host.*master\.key"):
            await prepare_host(settings)
        Places(state_dir).make()
        shutil.copytree(system.settings.state_dir / "tls", state_dir / "tls")
        for name in ("master.key", "ray.token"):
            shutil.copy(system.places.secrets / name, Places(state_dir).secrets / name)
        try:
            await bring_up(settings)
            yield settings
        finally:
            await bring_down(settings)


async def resource_actor(client: Client) -> str:
    """Which generation serves the default shard; empty while there is none."""
    report = await client.catalog.get_status(timeout_s=20)
    return next((part.name for part in report.components if part.name.startswith("resource/default#")), "")


async def test_a_second_host_serves_takes_over_and_leaves(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    async with system.client() as client:
        async with second_host(system, monkeypatch) as second:
            report = await client.catalog.get_status(timeout_s=20)
            assert report.healthy
            addresses = {part.address for part in report.components if part.name.startswith("gateway-resource/")}
            assert {address.rpartition(":")[0] for address in addresses} == {"127.0.0.1", SECOND}
            before = await resource_actor(client)
            with _held_still(system):
                first = ChildState.read(system.places, "resource").process
                assert first is not None
                first.send(signal.SIGTERM)
                after = await eventually(lambda: _other(client, before), within_s=60)
            region = (await client.meta.create_region(name=f"region-{new_id()}")).region.id
            providers = client.resource.list_providers(region=region, timeout_s=20)
            assert [provider async for provider in providers] == []
            assert (ChildState.read(Places(second.state_dir), "resource")).process is not None
        # The second host is gone: what it served is served again.
        await eventually(lambda: _other(client, after), within_s=60)
        await eventually(lambda: _healthy(client), within_s=60)


@contextmanager
def _held_still(system: System) -> Iterator[None]:
    """The first host starts nothing again meanwhile, so that what comes is the second one's."""
    supervisor = supervisor_of(system.places)
    assert supervisor is not None
    supervisor.send(signal.SIGSTOP)
    try:
        yield
    finally:
        supervisor.send(signal.SIGCONT)


async def _other(client: Client, before: str) -> str:
    found = await resource_actor(client)
    return found if found != before else ""


async def _healthy(client: Client) -> bool:
    return (await client.catalog.get_status(timeout_s=20)).healthy
