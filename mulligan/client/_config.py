"""What a client can be told: small values, all with defaults that suit most programs."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who logs in: an account (UUID or name), its secret, and the project to act in.

    Without a project it is the account's only one, or the system when the account has a role there.
    """

    account: str
    secret: str = field(repr=False)
    project: str = ""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that things may take."""

    # From a call to its answer, retries included, where the call gives no timeout_s of its own.
    call_s: float = 30.0
    # From connect to the first catalogue, and for a gateway of a service to be announced.
    connect_s: float = 10.0
    # Logging in or refreshing: a password costs the service time by design.
    login_s: float = 15.0
    # That a stream may go without any contact to a gateway before it gives up.
    reconnect_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next attempt: exponential, with jitter."""

    first_s: float = 0.05
    factor: float = 2.0
    longest_s: float = 2.0

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after that many failures in a row (from 1): between half of the step and the whole."""
        step: float = min(self.longest_s, self.first_s * self.factor ** min(failures - 1, 32))
        return step * random.uniform(0.5, 1.0)


# A gateway that could not be reached is left alone for so long.
ASIDE = Backoff(first_s=0.5, factor=2.0, longest_s=15.0)
