"""The client: one object that reaches every service of a system."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from mulligan.api.catalog.v1.catalog_client import CatalogClient
from mulligan.api.control.v1.control_client import ControlClient
from mulligan.api.iam.v1.iam_client import IamClient
from mulligan.api.meta.v1.meta_client import MetaClient
from mulligan.api.resource.v1.resource_client import ResourceClient
from mulligan.client import contexts
from mulligan.client._calls import RoutedCalls
from mulligan.client._catalogue import Catalogue
from mulligan.client._config import Backoff, Credentials, Timeouts
from mulligan.client._endpoints import Endpoints
from mulligan.client._grpc import GrpcTransport
from mulligan.client._names import Names
from mulligan.client._routes import Routes
from mulligan.client._time import Deadline, SystemTime, Time
from mulligan.client._token_file import TokenFile
from mulligan.client._tokens import CredentialSource, TokenCache, TokenSource
from mulligan.client._transport import Metadata, Transport
from mulligan.errors import InvalidArgument, MulliganError

Target = str | Sequence[str] | contexts.Context


class Client:
    """Reaches every service of one Mulligan system.

        async with Client.connect("10.0.0.5:7400", ca_file="ca.crt", credentials=Credentials("ada", secret)) as client:
            claim = await client.resource.create_claim(region="east", spec=spec)
            async for machine in client.control.list_machines():
                ...

    It starts from any one gateway, follows the catalogue, keeps its token fresh, goes to another gateway when one
    fails, and repeats what may be repeated within the caller's deadline. It belongs to one event loop; any number
    of tasks may use it at once. Errors are classes of `mulligan.errors`.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        transport: Transport,
        *,
        credentials: CredentialSource | None = None,
        token_cache: TokenCache | None = None,
        timeouts: Timeouts | None = None,
        backoff: Backoff | None = None,
        time: Time | None = None,
    ) -> None:
        """Puts a client together from its parts; `connect` is the usual way."""
        if not addresses:
            raise InvalidArgument("give the address of at least one gateway, such as 127.0.0.1:7400", field="addresses")
        self._time = time or SystemTime()
        self._timeouts = timeouts or Timeouts()
        self._transport = transport
        backoff = backoff or Backoff()
        endpoints = Endpoints(addresses, self._time)
        self._catalogue = Catalogue(transport, endpoints, self._time, backoff)
        calls = RoutedCalls(transport, endpoints, self._catalogue, self._time, self._timeouts, backoff)
        self.catalog = CatalogClient(calls)
        self.iam = IamClient(calls)
        self.meta = MetaClient(calls)
        self.resource = ResourceClient(calls)
        self.control = ControlClient(calls)
        self.names = Names(self.meta, self._time)
        self._tokens = TokenSource(self.iam, self._time, self._timeouts, credentials, token_cache)
        calls.routes, calls.tokens = Routes(self._catalogue, self.names), self._tokens
        self._catalogue.identify_with(self._identify, self._tokens.reject)
        self._tokens.on_new_tokens = self._see_everything

    @classmethod
    def connect(
        cls,
        target: Target | None = None,
        *,
        context: str | contexts.Context | None = None,
        ca_file: str | Path | None = None,
        credentials: CredentialSource | None = None,
        token_cache: TokenCache | None = None,
        transport: Transport | None = None,
        timeouts: Timeouts | None = None,
        backoff: Backoff | None = None,
    ) -> Self:
        """A client to be entered with `async with`, which connects it.

        `target` is an address "host:port", several of them, or a Context; or `context` names one of `client.yaml`.
        With neither it is the current context. `ca_file` signs the gateways' certificates (default: those of the
        context, or of this host). What is given here goes before what the context says.
        """
        name, found = _context_of(target, context)
        if credentials is None:
            # Saved tokens are the context's own account's: whoever brings credentials gets tokens for those.
            credentials = found.credentials if found.credential_file else None
            token_cache = token_cache or (TokenFile(name, found) if name and found.account else None)
        return cls(
            found.addresses,
            transport or GrpcTransport(_read_ca(ca_file or found.ca_file)),
            credentials=credentials,
            token_cache=token_cache,
            timeouts=timeouts,
            backoff=backoff,
        )

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Gets the first catalogue and logs in. Raises Unavailable when no gateway answers, and Unauthenticated."""
        self._catalogue.start()
        try:
            await self._catalogue.wait_for("iam", Deadline(self._time, self._timeouts.connect_s))
            await self._tokens.get()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Ends the watch and every connection."""
        await self._tokens.close()
        await self._catalogue.stop()
        await self._transport.close()

    async def login(self, credentials: Credentials) -> None:
        """Becomes another account, or acts in another project. Raises Unauthenticated when it is refused."""
        await self._tokens.login(credentials)
        await self._catalogue.restart()

    async def logout(self) -> None:
        """Revokes this session's tokens and forgets them."""
        await self._tokens.logout()
        await self._catalogue.restart()

    @property
    def account(self) -> str:
        """UUID of the account that is logged in; empty: nobody."""
        return self._tokens.tokens.account if self._tokens.tokens else ""

    @property
    def project(self) -> str:
        """UUID of the project that it acts in; empty: the system, or nobody is logged in."""
        return self._tokens.tokens.project if self._tokens.tokens else ""

    async def regions_below(self, region: str = "") -> list[str]:
        """UUIDs of a region (by UUID) and of all below it; without one, of all that the caller may see."""
        await self._catalogue.wait_whole(Deadline(self._time, self._timeouts.connect_s))
        return self._catalogue.below(region)

    async def _identify(self) -> Metadata:
        """Who watches the catalogue: nobody, until there is a token, and again when it cannot be renewed."""
        try:
            return await self._tokens.get() if self._tokens.tokens else ()
        except MulliganError:
            return ()

    async def _see_everything(self) -> None:
        if not self._catalogue.is_whole:
            await self._catalogue.restart()


def _context_of(target: Target | None, context: str | contexts.Context | None) -> tuple[str, contexts.Context]:
    """The context's name (empty: it has none) and what it says."""
    for given in (target, context):
        if isinstance(given, contexts.Context):
            return "", given
    if isinstance(target, str):
        return "", contexts.Context(tuple(part.strip() for part in target.split(",") if part.strip()))
    if target is not None and not isinstance(target, contexts.Context):
        return "", contexts.Context(tuple(target))
    known = contexts.load()
    name = context if isinstance(context, str) and context else known.current
    return name, known.get(name)


def _read_ca(path: str | Path | None) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidArgument(
            f"cannot read the CA file {path}: {error.strerror}; give the ca.crt of the system", field="ca_file"
        ) from None
