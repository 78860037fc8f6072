"""How long to wait before something that ended is started again."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_S = 0.2
MOST_S = 10.0
# A run as long as this was a good one: the next end counts as the first.
GOOD_RUN_S = 20.0


@dataclass(slots=True)
class Backoff:
    """0.2 s after a first end, twice as long after each further one, 10 s at most."""

    failures: int = 0

    def after(self, ran_s: float) -> float:
        """Seconds to wait after a run that long."""
        if ran_s >= GOOD_RUN_S:
            self.failures = 0
        delay_s = min(FIRST_S * 2**self.failures, MOST_S)
        self.failures = min(self.failures + 1, 16)
        return float(delay_s)
