"""The smart client: any one address of a system is enough to reach every service of it.

    from mulligan.client import Client, Credentials

    async with Client.connect("10.0.0.5:7400", ca_file="ca.crt", credentials=Credentials("ada", secret)) as client:
        response = await client.resource.create_claim(region="east", spec=spec)

Errors are classes of `mulligan.errors`. `InMemoryTransport` stands in for a system in tests of programs.
"""

from mulligan.client._client import Client
from mulligan.client._config import Backoff, Credentials, Timeouts
from mulligan.client._memory import InMemoryTransport, RecordedCall
from mulligan.client._names import Names
from mulligan.client._time import Time
from mulligan.client._token_file import TokenFile
from mulligan.client._tokens import SavedTokens, TokenCache
from mulligan.client._transport import ConnectionLost, Metadata, NoAnswer, Transport, Unreachable
from mulligan.client.contexts import Context

__all__ = [
    "Backoff",
    "Client",
    "ConnectionLost",
    "Context",
    "Credentials",
    "InMemoryTransport",
    "Metadata",
    "Names",
    "NoAnswer",
    "RecordedCall",
    "SavedTokens",
    "Time",
    "Timeouts",
    "TokenCache",
    "TokenFile",
    "Transport",
    "Unreachable",
]
