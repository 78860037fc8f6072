"""A park of simulated machines: IPMI 2.0 BMCs on loopback whose machines really netboot and phone home."""

from mulligan.park.faults import Faults
from mulligan.park.process import Park, ParkBmc
from mulligan.park.server import ParkOptions, run_park

__all__ = ["Faults", "Park", "ParkBmc", "ParkOptions", "run_park"]
