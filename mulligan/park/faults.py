"""What a simulated BMC or its machine does wrong, on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from mulligan.errors import InvalidArgument

LONGEST_DELAY_S = 600.0


@dataclass(frozen=True, slots=True)
class Faults:
    """All off: a healthy machine."""

    # Each answer of the BMC comes this many seconds late.
    delay_s: float = 0.0
    # The BMC answers nothing at all.
    unreachable: bool = False
    # The BMC lets clients log in, again and again, and answers no command.
    hang_after_login: bool = False
    # The BMC has another password than it was started with.
    wrong_password: bool = False
    # Power commands are accepted and change nothing.
    lying_power: bool = False
    # The machine fetches its boot script and is not heard of again.
    never_phones_home: bool = False

    def changed(self, values: Mapping[str, Any]) -> Faults:
        """The same with some fields set anew; raises InvalidArgument for a field or value that it does not know."""
        known = {field.name for field in fields(Faults)}
        for name, value in values.items():
            if name not in known:
                raise InvalidArgument(f"unknown fault {name!r}; known are {', '.join(sorted(known))}", field=name)
            if name == "delay_s":
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_DELAY_S:
                    raise InvalidArgument(f"delay_s must lie between 0 and {LONGEST_DELAY_S:g}", field=name)
            elif not isinstance(value, bool):
                raise InvalidArgument(f"{name} must be true or false", field=name)
        return replace(self, **values)
