"""The names that programs may rely on: a change here is a change for every one of them."""

from __future__ import annotations

import subprocess
import sys

import mulligan.client


def test_public_names() -> None:
    assert mulligan.client.__all__ == [
        "Backoff",
        "Client",
        "ConnectionLost",
        "Context",
        "Credentials",
        "InMemoryTransport",
        "Metadata",
        "Names",
        "NoAnswer",
        "RecordedCall",
        "SavedTokens",
        "Time",
        "Timeouts",
        "TokenCache",
        "TokenFile",
        "Transport",
        "Unreachable",
    ]
    assert all(hasattr(mulligan.client, name) for name in mulligan.client.__all__)


def test_the_client_needs_nothing_that_only_servers_have() -> None:
    server_only = ("ray", "asyncpg", "nats", "sqlalchemy", "etcd3aio", "jwt", "aiohttp", "uvloop", "pyghmi")
    program = (
        "import sys, mulligan.client, mulligan.inventory, mulligan.cli.app\n"
        f"print([name for name in {server_only!r} if name in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"
