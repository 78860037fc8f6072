"""`mulligan down`: drains and stops everything that this host runs, and sees to it that nothing is left."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Callable

from cluster.places import Places
from cluster.processes import kill_all, marked, wait_all
from cluster.status import HostStatus, host_status, supervisor_of
from cluster.supervisor import Supervisor
from mulligan.config import Settings
from mulligan.errors import DeadlineExceeded

# Components drain within 40 s, then the servers end one after another.
STOP_DEADLINE_S = 120.0
LOOK_PAUSE_S = 0.2

Show = Callable[[HostStatus], None]


async def bring_down(settings: Settings, show: Show = lambda _: None) -> bool:
    """Stops everything; False when nothing ran. Raises DeadlineExceeded when a process outlives even SIGKILL."""
    places = Places(settings.state_dir)
    system = str(settings.state_dir)
    ran = supervisor_of(places) is not None or any(marked(system))
    if not ran:
        return False
    await _stop_supervisor(settings, places, show)
    if any(marked(system)):
        # Its supervisor was killed, or did not finish: do what it would have done.
        await Supervisor(settings).stop()
    left = await kill_all(marked(system))
    # Sockets and logs of Ray's processes: nothing that outlives them.
    shutil.rmtree(places.short_folder(), ignore_errors=True)
    show(host_status(settings))
    if left:
        pids = ", ".join(str(process.pid) for process in left)
        raise DeadlineExceeded(f"processes {pids} do not end even when killed; the kernel's log may say why")
    return True


async def _stop_supervisor(settings: Settings, places: Places, show: Show) -> None:
    process = supervisor_of(places)
    if process is None:
        return
    process.send(signal.SIGTERM)
    watching = asyncio.create_task(_show_until_cancelled(settings, show))
    if not await wait_all([process], STOP_DEADLINE_S):
        await kill_all([process])
    watching.cancel()
    await asyncio.wait([watching])


async def _show_until_cancelled(settings: Settings, show: Show) -> None:
    while True:
        show(host_status(settings))
        await asyncio.sleep(LOOK_PAUSE_S)
