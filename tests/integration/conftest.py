"""One Ray for all integration tests, started when the first asks for it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import ray

from actors.names import NAMESPACE
from cluster.embedded.server import wait_ready
from cluster.places import Places
from cluster.processes import MARK, ProcessId, kill_all, marked, spawn, wait_all
from cluster.ray_head import RayHead, node_address, ray_address
from mulligan.config import Settings
from mulligan.files import write_private
from mulligan.stores.addresses import Addresses


@pytest.fixture(scope="session")
async def ray_settings(addresses: Addresses) -> AsyncIterator[Settings]:
    """A Ray head as the supervisor runs it, beside the shared stores; this process is connected to it."""
    settings = Settings(state_dir=addresses.state_dir)
    places = Places(settings.state_dir)
    places.make()
    # This process knows the token by its environment, the head by its file.
    write_private(places.ray_token, os.environ["RAY_AUTH_TOKEN"].encode())
    head = RayHead(settings)
    head.prepare()
    command, system = head.command(), str(settings.state_dir)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = {**inherited, **command.environment, MARK: system}
    process = spawn(command.arguments, environment, places.log("ray"), settings.state_dir)
    found = ProcessId.of(process.pid)
    assert found is not None
    try:
        await wait_ready(head)
        ray.init(
            address=ray_address(settings),
            namespace=NAMESPACE,
            log_to_driver=False,
            configure_logging=False,
            _node_ip_address=node_address(settings),
        )
        yield settings
    finally:
        ray.shutdown()
        process.terminate()
        await wait_all([found], 15)
        await kill_all(marked(system))
        process.wait()
