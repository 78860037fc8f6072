"""Times in claim files: from now on, or with their zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from mulligan.clock import LAST_INSTANT, SECOND

_RELATIVE = re.compile(r"\+(?=\d)(?:(\d{1,5})w)?(?:(\d{1,6})d)?(?:(\d{1,7})h)?(?:(\d{1,9})m)?(?:(\d{1,11})s)?")
_UNITS_S = (7 * 86_400, 86_400, 3_600, 60, 1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

EXPECTED = "a time is now, a stretch from now such as +7d or +2h30m, or 2026-12-01T08:00:00Z"


def parse_time(text: str, now_us: int) -> int:
    """Microseconds since the epoch; raises ValueError that says what a time may be."""
    if text == "now":
        return now_us
    relative = _RELATIVE.fullmatch(text)
    moment = now_us + _seconds(relative) * SECOND if relative else _absolute(text)
    if not 0 <= moment <= LAST_INSTANT:
        raise ValueError(f"{text!r} must lie between the years 1970 and 9999")
    return moment


def _seconds(match: re.Match[str]) -> int:
    return sum(int(amount or 0) * unit for amount, unit in zip(match.groups(), _UNITS_S, strict=True))


def _absolute(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time; {EXPECTED}") from None
    if moment.tzinfo is None:
        raise ValueError(
            f"{text!r} has no time zone; write {text}{'' if 'T' in text or ' ' in text else 'T00:00:00'}Z for UTC"
        )
    return (moment - _EPOCH) // timedelta(microseconds=1)
