"""What a command works with: the client, the caller's context, and a printer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from rich.console import Console

from mulligan.cli.output import Format, Printer
from mulligan.client import Client, Timeouts, TokenFile, contexts
from mulligan.client.contexts import Context
from mulligan.clock import now_us
from mulligan.errors import InvalidArgument, NotFound, Unauthenticated
from mulligan.ids import is_id

# Wide enough for any table: what is piped into another program must not be cut.
_PIPED_COLUMNS = 1000

Connect = Callable[[str, Context, Timeouts], Client]


def _connect(name: str, context: Context, timeouts: Timeouts) -> Client:
    return Client.connect(context, token_cache=TokenFile(name, context), timeouts=timeouts)


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=_PIPED_COLUMNS, file=sys.stdout)


@dataclass(frozen=True)
class Surroundings:
    """What commands take from the world around them; tests bring their own."""

    connect: Connect = _connect
    now_us: Callable[[], int] = now_us
    make_console: Callable[[], Console] = field(default=_console)


@dataclass(frozen=True)
class Flags:
    """What every command can be told."""

    context: str
    output: Format
    timeout_s: float


class Session:
    """One command's run. The client is there unless the command needs none."""

    def __init__(self, surroundings: Surroundings, flags: Flags) -> None:
        self.surroundings = surroundings
        self.flags = flags
        self.timeouts = Timeouts(call_s=flags.timeout_s, connect_s=min(5.0, flags.timeout_s))
        self.print = Printer(surroundings.make_console(), flags.output, self.labels)
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The connected client."""
        assert self._client is not None, "this command was declared to need no client"
        return self._client

    def context_name(self) -> str:
        """Name of the chosen context; raises NotFound when there is none."""
        known = contexts.load()
        known.get(self.flags.context)
        return self.flags.context or known.current

    def context(self) -> Context:
        """The chosen context; raises NotFound when there is none."""
        return contexts.load().get(self.flags.context)

    def open(self, context: Context | None = None) -> Client:
        """A client for the chosen context, or for one that is being made; to be entered by who calls."""
        return self.surroundings.connect(self.context_name(), context or self.context(), self.timeouts)

    def use(self, client: Client) -> None:
        """Gives the session its connected client."""
        self._client = client

    def require_login(self) -> None:
        """Raises Unauthenticated when nobody is logged in."""
        if not self.client.account:
            raise Unauthenticated("nobody is logged in")

    async def labels(self, ids: Iterable[str]) -> Mapping[str, str]:
        """Names of UUIDs, for those that have one."""
        found = await self.client.names.objects(ids)
        return {id: item.name for id, item in found.items() if item.name}

    async def region(self, value: str, *, default: bool = True) -> str:
        """UUID of a region by name or UUID; without one, the context's region, or "" for all that may be seen."""
        chosen = value or (self.context().region if default else "")
        return await self.client.names.id_or_name("region", chosen)

    async def project(self, value: str) -> str:
        """UUID of a project by name or UUID; "" stays empty."""
        return await self.client.names.id_or_name("project", value)

    async def account(self, value: str) -> str:
        """UUID of an account by name or UUID; "" stays empty."""
        return await self.client.names.id_or_name("account", value)

    async def locate(self, kind: str, value: str, region: str) -> tuple[str, str]:
        """UUIDs of a provider or provider group and of the region that it lives in.

        A name is looked for in the region (name or UUID) and below it; without one everywhere.
        """
        above = await self.region(region)
        if not is_id(value):
            return await self.client.names.find(kind, value, await self.client.regions_below(above))
        found = await self.client.names.objects([value])
        if value not in found:
            raise NotFound(f"there is no {kind.replace('_', ' ')} {value} that you may see")
        return value, found[value].region

    async def machine(self, value: str) -> str:
        """UUID of a machine by UUID, or by its name in the project that is logged in to."""
        if is_id(value):
            return value
        if not self.client.project:
            raise InvalidArgument(
                f"machine names belong to a project, and you act in the system; give the UUID instead of {value!r}, "
                "or log in with --project"
            )
        return await self.client.names.resolve("machine", value, self.client.project)


def require_id(value: str, what: str) -> str:
    """The value itself; raises InvalidArgument for a thing that has no name when it is no UUID."""
    if not is_id(value):
        raise InvalidArgument(f"{what} is told by its UUID, and {value!r} is none; `mulligan {what} list` shows them")
    return value
