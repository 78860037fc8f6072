"""Which gateway a call goes to: one that works, near at hand, and not the busiest."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mulligan.client._config import ASIDE
from mulligan.client._time import Time

# Every gateway serves the catalogue.
CATALOG = "catalog"

_MAX_ORDERS = 1024


@dataclass(slots=True)
class _Aside:
    until: float
    failures: int


class Endpoints:
    """The addresses of each service.

    One client keeps to the same gateway for a shard while it has little under way, so that its requests travel
    together; with more under way it takes the gateway that it keeps least busy. Different clients prefer different
    gateways. A gateway that could not be reached is put aside, longer each time, and comes back by itself.
    """

    def __init__(self, seeds: Sequence[str], time: Time) -> None:
        """`seeds` are the addresses that the catalogue is first asked for at."""
        self._seeds = tuple(dict.fromkeys(seeds))
        self._time = time
        self._services: dict[str, tuple[str, ...]] = {CATALOG: self._seeds}
        self._orders: dict[tuple[str, str], tuple[str, ...]] = {}
        self._aside: dict[str, _Aside] = {}
        self._under_way: Counter[str] = Counter()
        self._seed = random.randbytes(8).hex()

    def update(self, services: Mapping[str, Iterable[str]]) -> None:
        """Takes the addresses of the named services as the catalogue tells them; of others it keeps what it knows.

        A service that has none any more keeps those it had: its gateways come back there, or the catalogue tells.
        """
        for service, addresses in services.items():
            if found := tuple(dict.fromkeys(addresses)):
                self._services[service] = found
        known = (address for service, kept in self._services.items() if service != CATALOG for address in kept)
        self._services[CATALOG] = tuple(dict.fromkeys((*self._seeds, *known)))
        self._orders.clear()

    def addresses(self, service: str) -> tuple[str, ...]:
        """Every known address of a service."""
        return self._services.get(service, ())

    def choose(self, service: str, key: str = "") -> str | None:
        """The address to call for `key` (a shard); None when no gateway of the service is known.

        When all of them are put aside it is the one whose time comes first: a call is never refused unasked.
        """
        order = self._orders.get((service, key)) or self._order(service, key)
        if len(order) < 2:
            return order[0] if order else None
        if self._aside:
            now = self._time.monotonic()
            working = [address for address in order if not self._is_aside(address, now)]
            if not working:
                return min(order, key=lambda address: self._aside[address].until)
            order = tuple(working)
        return min(order, key=self._under_way.__getitem__)

    def has_other(self, service: str, failed: Iterable[str]) -> bool:
        """Whether a gateway of the service is left that is not among the failed ones, nor put aside."""
        now, failed = self._time.monotonic(), set(failed)
        return any(
            address not in failed and not self._is_aside(address, now) for address in self._services.get(service, ())
        )

    def begin(self, address: str) -> None:
        """Counts a call as under way."""
        self._under_way[address] += 1

    def end(self, address: str) -> None:
        """Counts a call as over."""
        self._under_way[address] -= 1

    def failed(self, address: str) -> None:
        """Puts an address aside: it could not be reached, or it drains."""
        now = self._time.monotonic()
        aside = self._aside.setdefault(address, _Aside(0.0, 0))
        if aside.until <= now:  # calls that fail together count as one failure
            aside.failures += 1
            aside.until = now + ASIDE.delay_s(aside.failures)

    def works(self, address: str) -> None:
        """Takes an address back: it answered."""
        if self._aside:
            self._aside.pop(address, None)

    def _is_aside(self, address: str, now: float) -> bool:
        aside = self._aside.get(address)
        return aside is not None and aside.until > now

    def _order(self, service: str, key: str) -> tuple[str, ...]:
        """The service's addresses by preference: rendezvous hashing, so that few calls move when one goes."""
        if len(self._orders) >= _MAX_ORDERS:
            self._orders.clear()
        weights = {address: zlib.crc32(f"{self._seed}/{key}/{address}".encode()) for address in self.addresses(service)}
        order = self._orders[service, key] = tuple(sorted(weights, key=weights.__getitem__))
        return order
