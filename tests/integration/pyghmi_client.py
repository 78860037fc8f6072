"""Drives one BMC with pyghmi, in a process of its own: `PORT USERNAME PASSWORD STEP …`; prints a JSON list of answers.

Steps: on, off, reset, cycle, status, boot-network, boot-disk, boot-device, inventory, sensors, guid, events, wait-on.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pyghmi.ipmi.command as command
import pyghmi.ipmi.private.session as session
from pyghmi.exceptions import IpmiException


def main() -> None:
    port, username, password, *steps = sys.argv[1:]
    original = session._io_wait
    # pyghmi misses wake-ups; a short wait costs it little.
    session._io_wait = lambda timeout, address=None, queue=None: original(min(timeout, 0.05), address, queue)
    try:
        # As text, pyghmi would not forget a lost session.
        client = command.Command("127.0.0.1", username.encode(), password.encode(), port=int(port))
        answers = [ask(client, step) for step in steps]
        client.ipmi_session.logout()
    except IpmiException as error:
        print(json.dumps({"error": str(error)}))
        return
    print(json.dumps(answers))


def ask(client: Any, step: str) -> Any:
    if step in ("on", "off", "reset"):
        return client.set_power(step)
    if step == "cycle":
        return client.raw_command(netfn=0, command=2, data=[2])["code"]
    if step.startswith("boot-") and step != "boot-device":
        return client.set_bootdev({"boot-network": "network", "boot-disk": "hd"}[step])
    simple = {
        "status": client.get_power,
        "boot-device": client.get_bootdev,
        "guid": client.get_system_uuid if hasattr(client, "get_system_uuid") else lambda: None,
        "inventory": lambda: dict(client.get_inventory())["System"],
        "sensors": lambda: [(reading.name, reading.value, reading.units) for reading in client.get_sensor_data()],
        "events": lambda: len(list(client.get_event_log())),
        "wait-on": lambda: client.set_power("on", wait=10),
    }
    return simple[step]()


if __name__ == "__main__":
    main()
