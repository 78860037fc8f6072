"""Free TCP ports, outside of the range that outgoing connections take theirs from.

A port in that range may be taken while its server is down for a moment, even by the very client that tries to reach it.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

from mulligan.errors import FailedPrecondition

LOOPBACK = "127.0.0.1"
# Below are the ports that well-known services have.
LOWEST = 15_000
LAST = 65_535
FALLBACK_RANGE = (32_768, 60_999)
ATTEMPTS = 500


def free_port(host: str = LOOPBACK) -> int:
    """A port that was free a moment ago."""
    return free_ports(1, host)


def free_ports(count: int, host: str = LOOPBACK) -> int:
    """The first of that many in a row. Raises FailedPrecondition when there are none."""
    first_outgoing, last_outgoing = _outgoing_range()
    below = range(LOWEST, first_outgoing - count)
    allowed = below if len(below) > 1_000 else range(last_outgoing + 1, LAST - count)
    if len(allowed) <= 1_000:
        # The range of outgoing connections was made so wide that nothing is left beside it.
        allowed = range(LOWEST, LAST - count)
    for _ in range(ATTEMPTS):
        first = random.choice(allowed)
        if all(is_free(first + offset, host) for offset in range(count)):
            return first
    raise FailedPrecondition(f"no {count} free ports in a row on {host}; choose them in the settings")


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As servers do: connections of an earlier life that still linger are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _outgoing_range() -> tuple[int, int]:
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        return int(first), int(last)
    except (OSError, ValueError):
        return FALLBACK_RANGE
