"""Every story of tests/stories, over plain gRPC against a whole system."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.stories.cast import Cast, assemble
from tests.stories.runner import STORIES, Story
from tests.system import System


@pytest.fixture(scope="package")
async def cast(system: System) -> AsyncIterator[Cast]:
    """Accounts of every role, made once."""
    assembled = await assemble(system.gateways["iam"], system.ca_file.read_bytes(), system.admin)
    yield assembled
    await assembled.close()


@pytest.mark.parametrize("path", sorted(STORIES.glob("*.yaml")), ids=lambda path: path.stem)
async def test_story(path: Path, cast: Cast) -> None:
    values = {**cast.values, "region": await cast.fresh_region()}
    await Story(path, values).run(cast.send)
