"""Tests. What Ray reads when it is imported is set here, before any of them is."""

import os
import secrets

os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
    # Else Ray replaces 127.0.0.1 by the host's outward address.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
