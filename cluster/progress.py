"""Shows how far a host is: a table that changes in place on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from cluster.status import HostStatus

_COLOURS = {"ready": "green", "restarting": "red", "starting": "yellow"}


class Progress:
    """Entered while something goes on; `show` what is known now."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._began = time.monotonic()
        self._shown: dict[str, str] = {}
        self._live = Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else None

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        else:
            self._console.print(self._title)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def show(self, status: HostStatus) -> None:
        """Brings what is seen up to date."""
        if self._live is not None:
            self._live.update(self._table(status), refresh=True)
            return
        for child in status.children:
            if self._shown.get(child.name) != child.state:
                self._shown[child.name] = child.state
                self._console.print(f"{self.elapsed_s:6.1f} s  {child.name:<10} {child.state}", highlight=False)

    def _table(self, status: HostStatus) -> Table:
        table = Table(title=f"{self._title} ({self.elapsed_s:.0f} s)", title_justify="left", box=None, pad_edge=False)
        for heading in ("", "", ""):
            table.add_column(heading)
        for child in status.children:
            colour = _COLOURS.get(child.state, "dim")
            table.add_row(child.name, f"[{colour}]{child.state}[/{colour}]", child.detail)
        return table
