"""How the names of protos are written in Python."""

from __future__ import annotations

import re


def snake_case(name: str) -> str:
    """CreateClaim -> create_claim, WhoAmI -> who_am_i."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
