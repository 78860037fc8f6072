"""One system for all tests that kill its parts, and the table of how long it took to come back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.chaos.field import Field, opened_field

_RECOVERIES = pytest.StashKey[dict[str, tuple[float, float]]]()


@pytest.fixture(scope="package")
async def field(pytestconfig: pytest.Config) -> AsyncIterator[Field]:
    """A system with machines. Each test leaves it healthy."""
    async with opened_field() as opened:
        pytestconfig.stash[_RECOVERIES] = opened.recoveries
        yield opened


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tells what each kill cost."""
    recoveries = config.stash.get(_RECOVERIES, {})
    if recoveries:
        terminalreporter.section("seconds from kill -9 to: work done, everything healthy")
        for name, (worked_s, healthy_s) in recoveries.items():
            terminalreporter.write_line(f"{name:<40} {worked_s:6.1f} {healthy_s:6.1f}")
