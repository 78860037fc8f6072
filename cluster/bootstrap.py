"""`mulligan bootstrap`: from nothing to a healthy system, or from a damaged one; idempotent.

What takes long, PostgreSQL's first start and the actors' imports, goes on side by side.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from cluster.host import prepare_host, require_free_ports
from cluster.places import Places
from cluster.processes import last_lines, spawn
from cluster.settings_file import write_settings
from cluster.status import ChildStatus, HostStatus, host_status, supervisor_of
from mulligan.client.contexts import write_local_context
from mulligan.config import Settings, load_settings, stored_settings, without_settings
from mulligan.errors import FailedPrecondition, Unavailable
from mulligan.stores import etcd as etcd_store
from mulligan.stores import keys
from mulligan.stores.addresses import Addresses

HEALTHY_DEADLINE_S = 150.0
LOOK_PAUSE_S = 0.1
# A child that ended so often before it ever worked will not work by itself.
GIVE_UP_RESTARTS = 4
GATEWAYS = ("iam", "meta", "resource", "control")

Show = Callable[[HostStatus], None]


def settings_for(flags: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Settings:
    """The settings with these flags; raises FailedPrecondition when the running system has others."""
    settings = load_settings(flags, environment)
    changed = _changes(settings)
    if changed and supervisor_of(Places(settings.state_dir)):
        raise FailedPrecondition(
            f"the system in {settings.state_dir} runs with another {', '.join(changed)}; run `mulligan down` first"
        )
    return settings


def _changes(settings: Settings) -> dict[str, Any]:
    """What the settings file does not say, or says otherwise."""
    stored = stored_settings(settings.state_dir)
    names = [field.name for field in fields(Settings)]
    return {name: getattr(settings, name) for name in names if getattr(settings, name) != getattr(stored, name)}


async def bring_up(settings: Settings, show: Show = lambda _: None) -> list[str]:
    """Starts what does not run and waits until all of it works; the gateways' addresses, IAM first.

    From then on the settings file has the settings, whatever gave them. Raises FailedPrecondition with the cause,
    Unavailable when it takes longer than 150 s.
    """
    places = Places(settings.state_dir)
    await prepare_host(settings)
    if not host_status(settings).running:
        await require_free_ports(settings)
    write_settings(places.settings, _changes(settings))
    started: subprocess.Popen[bytes] | None = None
    try:
        async with asyncio.timeout(HEALTHY_DEADLINE_S):
            while not (status := host_status(settings)).ready:
                show(status)
                if started is None and not status.supervised:
                    started = _start_supervisor(settings, places)
                _check(settings, status, started)
                await asyncio.sleep(LOOK_PAUSE_S)
            show(status)
            addresses = await gateway_addresses(settings)
    except TimeoutError:
        raise Unavailable(_why_not(host_status(settings), places)) from None
    write_local_context(settings, addresses)
    return addresses


async def gateway_addresses(settings: Settings) -> list[str]:
    """Where this system's gateways listen now, IAM first."""
    etcd = await etcd_store.connect(Addresses.load(settings))
    try:
        found = etcd_store.WatchedPrefix(etcd, keys.CATALOG_GATEWAYS)
        await found.start()
        await found.close()
    finally:
        await etcd.close()
    entries = [(name.partition("/")[0], json.loads(value)["address"]) for name, value in found.items.items()]
    return [address for service in GATEWAYS for name, address in sorted(entries) if name == service]


def _start_supervisor(settings: Settings, places: Places) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-P", "-m", "cluster.supervisor", f"--state-dir={settings.state_dir}"]
    return spawn(arguments, without_settings(os.environ), places.log("supervisor"), places.state_dir)


def _check(settings: Settings, status: HostStatus, started: subprocess.Popen[bytes] | None) -> None:
    """Raises FailedPrecondition when waiting longer is of no use."""
    places = Places(settings.state_dir)
    if started is not None and started.poll() is not None and supervisor_of(places) is None:
        raise FailedPrecondition(_with_log("the supervisor ended", "supervisor", places))
    for child in status.children if status.supervised else ():
        if not child.ready and child.restarts >= GIVE_UP_RESTARTS:
            why = child.detail or f"started {child.restarts} times"
            raise FailedPrecondition(_with_log(f"{child.name} does not stay up: {why}", child.name, places))


def _why_not(status: HostStatus, places: Places) -> str:
    late = [child for child in status.children if not child.ready]
    if not late:
        return "everything runs, but the gateways' addresses are not in etcd yet; run `mulligan bootstrap` again"
    shown = "; ".join(_in_words(child) for child in late)
    return _with_log(f"not healthy after {HEALTHY_DEADLINE_S:.0f} s: {shown}", late[0].name, places)


def _in_words(child: ChildStatus) -> str:
    return f"{child.name} is {child.state}" + (f" ({child.detail})" if child.detail else "")


def _with_log(cause: str, name: str, places: Places) -> str:
    lines = "\n".join(f"  {line[:300]}" for line in last_lines(places.log(name)))
    return f"{cause}. The end of {places.log(name)}:\n{lines}"
