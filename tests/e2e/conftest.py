"""One whole system for all end-to-end tests, started when the first asks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.system import System, running_system


@pytest.fixture(scope="package")
async def system() -> AsyncIterator[System]:
    """Everything, from etcd to the gateways. Do not kill its parts here: tests/chaos has systems for that."""
    async with running_system() as running:
        yield running
