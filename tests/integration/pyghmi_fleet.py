"""Powers many BMCs on from the network with pyghmi: `USERNAME PASSWORD PORT …`; fails when any fails."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pyghmi.ipmi.command as command
import pyghmi.ipmi.private.session as session

THREADS = 16


def main() -> None:
    username, password, *ports = sys.argv[1:]
    original = session._io_wait
    session._io_wait = lambda timeout, address=None, queue=None: original(min(timeout, 0.05), address, queue)

    def netboot(port: str) -> None:
        client = command.Command("127.0.0.1", username.encode(), password.encode(), port=int(port))
        client.set_bootdev("network")
        client.set_power("on")
        client.ipmi_session.logout()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(netboot, ports))


if __name__ == "__main__":
    main()
