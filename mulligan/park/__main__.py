"""`python -m mulligan.park --count N --boot-url URL`: runs a park until it is told to stop."""

from __future__ import annotations

import argparse
import json
import os
import sys

from mulligan.errors import InvalidArgument
from mulligan.park.faults import Faults
from mulligan.park.server import DEFAULT_PASSWORD, ParkOptions, log_to_stderr, run_park


def main() -> None:
    """Runs what the command line says."""
    given = _parser().parse_args()
    try:
        options = ParkOptions(
            count=given.count,
            boot_url=given.boot_url,
            base_port=given.base_port,
            username=given.username,
            password=given.password or os.environ.get("MULLIGAN_PARK_PASSWORD") or DEFAULT_PASSWORD,
            boot_s=given.boot_seconds,
            ca=given.ca,
            site=given.site,
            faults=Faults().changed(json.loads(given.faults)),
        )
    except (InvalidArgument, ValueError) as error:
        sys.exit(f"mulligan park: {error}")
    log_to_stderr()
    run_park(options, given.stop_at_end_of_input)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mulligan.park", description="Simulated machines behind IPMI 2.0 BMCs.")
    parser.add_argument("--count", type=int, required=True, help="how many machines")
    parser.add_argument("--boot-url", required=True, help="machines fetch BOOT_URL/boot/<mac>")
    parser.add_argument("--base-port", type=int, default=0, help="UDP port of the first BMC; 0: free ports")
    parser.add_argument("--username", default="admin", help="of every BMC")
    parser.add_argument("--password", default="", help="of every BMC; better in MULLIGAN_PARK_PASSWORD")
    parser.add_argument("--boot-seconds", type=float, default=1.0, help="from power-on to fetching the boot script")
    parser.add_argument("--ca", default="", help="CA certificate that the https boot endpoint is checked with")
    parser.add_argument("--site", type=int, default=0, help="second byte of the MAC addresses; differs between parks")
    parser.add_argument("--faults", default="{}", help='JSON for all at start, such as {"delay_s": 0.5}')
    parser.add_argument("--stop-at-end-of-input", action="store_true", help="end when standard input does")
    return parser


if __name__ == "__main__":
    main()
