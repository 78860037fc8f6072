"""The command line against a system in memory: what was printed, the exit code, and what the services received."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from typer.testing import CliRunner, Result

from mulligan.cli.app import app
from mulligan.cli.session import Surroundings
from mulligan.client import Client, Context, InMemoryTransport, Timeouts, TokenFile, contexts
from tests.fake_system import EARTH, EAST, REGIONS, WEST, FakeIam, FakeMeta, FakeTime

LAB = "00000000-0000-7000-8000-0000000001ab"
ADA = "00000000-0000-7000-8000-00000000000a"
RACK = "00000000-0000-7000-8000-0000000000f1"
NODE = "00000000-0000-7000-8000-0000000000f2"

SECRET = "hush-hush-hush"

NAMES = {
    ("region", "", "earth"): EARTH,
    ("region", "", "east"): EAST,
    ("region", "", "west"): WEST,
    ("project", "", "lab"): LAB,
    ("account", "", "ada"): ADA,
    ("provider_group", EAST, "rack1"): RACK,
    ("provider", EAST, "node1"): NODE,
}


class World:
    """One user's home and one system."""

    def __init__(self, home: Path, **services: object) -> None:
        self.time = FakeTime()
        self.iam = FakeIam(self.time, secret=SECRET)
        self.services: dict[str, object] = {"iam": self.iam, "meta": FakeMeta(dict(NAMES)), **services}
        self.up = True
        self.home = home
        self.transport = InMemoryTransport()
        (home / "admin.json").write_text(json.dumps({"account": "admin", "secret": SECRET}))
        contexts.set_context(
            "local", Context(("gateway:1",), account="admin", credential_file=str(home / "admin.json"))
        )

    def run(self, *arguments: str, stdin: str | None = None, columns: int = 200) -> Result:
        """Runs one command."""
        surroundings = Surroundings(
            connect=self._connect,
            now_us=self.time.now_us,
            make_console=lambda: Console(width=columns, file=sys.stdout),
        )
        return CliRunner().invoke(app, list(arguments), obj=surroundings, input=stdin)

    def json(self, *arguments: str) -> Any:
        """Runs one command with --output json, and reads what it says."""
        result = self.run(*arguments, "--output", "json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    def received(self, method: str) -> Any:
        """The request of the one call of this method that arrived."""
        [request] = [call.request for call in self.transport.calls if call.method == method]
        return request

    def _connect(self, name: str, context: Context, timeouts: Timeouts) -> Client:
        self.transport = InMemoryTransport(require_login=True, regions=REGIONS)
        self.transport.serve("gateway:1", **self.services)
        if not self.up:
            self.transport.stop("gateway:1")
            timeouts = Timeouts(connect_s=0.1)
        return Client(
            context.addresses,
            self.transport,
            credentials=context.credentials if context.credential_file else None,
            token_cache=TokenFile(name, context),
            timeouts=timeouts,
            time=self.time,
        )
