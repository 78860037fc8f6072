"""What the control service accepts: pure checks of requests, claims, states and reach."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from mulligan.api.control.v1.machine_pb2 import BmcConfig, MachineConfig
from mulligan.api.options.v1 import options_pb2
from mulligan.api.resource.v1 import claim_pb2
from mulligan.caller import Caller
from mulligan.clock import SECOND, from_timestamp
from mulligan.control import errors
from mulligan.control.model import ACTIVE, DECOMMISSIONED, FAILED, PROVISIONING, Machine
from mulligan.control.store import Reach
from mulligan.errors import InvalidArgument, NotFound, PermissionDenied
from mulligan.iam.policy import permits
from mulligan.ids import parse_id
from mulligan.meta.regions import RegionTree

DEFAULT_PORT: Final = 623
# IPMI 2.0, 22.27 and 22.29.
MAX_USERNAME_BYTES: Final = 16
MAX_PASSWORD_BYTES: Final = 20
MAX_URL_CHARACTERS: Final = 2048
MAX_KERNEL_ARGS_CHARACTERS: Final = 2048

# A step whose deadline passed this long ago is told by nobody any more.
OVERDUE_GRACE_S: Final = 60

_HOST_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*"
)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def canonical_mac(text: str) -> str:
    """A MAC address as aa:bb:cc:dd:ee:ff; also taken with dashes and capitals. Raises InvalidArgument."""
    mac = text.strip().lower().replace("-", ":")
    if not _MAC.fullmatch(mac) or mac in ("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"):
        raise InvalidArgument(
            f"boot_mac must be a MAC address such as aa:bb:cc:dd:ee:ff, not {text[:40]!r}", field="config.boot_mac"
        )
    return mac


def checked_bmc(config: BmcConfig, password: str) -> BmcConfig:
    """The config in its stored form; raises InvalidArgument that names the field."""
    if config.driver not in ("", "ipmi"):
        raise InvalidArgument(f"driver {config.driver[:40]!r} is not known; use ipmi", field="config.driver")
    if not 0 <= config.port <= 65535:
        raise InvalidArgument("port must lie between 1 and 65535; 0 means 623", field="config.port")
    if not 1 <= len(config.username.encode()) <= MAX_USERNAME_BYTES:
        raise InvalidArgument(f"username must have 1 to {MAX_USERNAME_BYTES} bytes", field="config.username")
    if not 1 <= len(password.encode()) <= MAX_PASSWORD_BYTES:
        raise InvalidArgument(f"password must have 1 to {MAX_PASSWORD_BYTES} bytes", field="password")
    return BmcConfig(
        driver="ipmi",
        host=_checked_host(config.host),
        port=config.port or DEFAULT_PORT,
        username=config.username,
        boot_mac=canonical_mac(config.boot_mac),
    )


def _checked_host(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST_NAME.fullmatch(host):
            raise InvalidArgument("host must be an IP address or a host name", field="config.host") from None
    return host.lower()


def check_machine_config(config: MachineConfig) -> None:
    """Raises InvalidArgument for what could not stand in an iPXE script."""
    for field in ("kernel_url", "initrd_url"):
        _check_url(getattr(config, field), f"config.{field}")
    if config.initrd_url and not config.kernel_url:
        raise InvalidArgument("initrd_url needs a kernel_url beside it", field="config.initrd_url")
    if len(config.kernel_args) > MAX_KERNEL_ARGS_CHARACTERS or not (config.kernel_args or "x").isprintable():
        raise InvalidArgument(
            f"kernel_args must be one line of at most {MAX_KERNEL_ARGS_CHARACTERS} printable characters",
            field="config.kernel_args",
        )


def _check_url(url: str, field: str) -> None:
    if not url:
        return
    plain = url.isascii() and url.isprintable() and not re.search(r"\s", url) and len(url) <= MAX_URL_CHARACTERS
    try:
        parts = urlsplit(url)
        known = plain and parts.scheme in ("http", "https", "tftp") and bool(parts.hostname)
    except ValueError:
        known = False
    if not known:
        raise InvalidArgument(f"{field} must be a URL with http, https or tftp and a host", field=field)


def check_claim(claim: claim_pb2.Claim, caller: Caller, now_us: int) -> str:
    """The one provider of a claim that a machine can be made of; raises NotFound for another project's."""
    if not caller.system and claim.project != caller.project:
        raise errors.claim_not_found(claim.id)
    if has_ended(claim, now_us):
        raise errors.claim_not_active(claim.id, "has ended or was released")
    if from_timestamp(claim.acquire, "acquire") > now_us:
        raise errors.claim_not_active(claim.id, f"begins at {claim.acquire.ToJsonString()}")
    providers = {allocation.provider for allocation in claim.allocations}
    if len(providers) != 1:
        raise errors.claim_of_several_providers(claim.id, len(providers))
    return providers.pop()


def has_ended(claim: claim_pb2.Claim, now_us: int) -> bool:
    """Whether its window is over or it was given back."""
    if claim.state in (claim_pb2.CLAIM_STATE_RELEASED, claim_pb2.CLAIM_STATE_ENDED):
        return True
    return claim.HasField("release") and from_timestamp(claim.release, "release") <= now_us


def check_can_decommission(machine: Machine, now_us: int, force: bool = False) -> None:
    """Raises FailedPrecondition (WRONG_STATE) with what to do instead."""
    if machine.state in (ACTIVE, FAILED) or (force and machine.state != DECOMMISSIONED):
        return
    if machine.state == PROVISIONING:
        deadline = machine.state_deadline_us
        if deadline is not None and deadline + OVERDUE_GRACE_S * SECOND < now_us:
            return
        raise errors.wrong_state(machine, f"wait until operation {machine.operation} ends, then decommission it")
    raise errors.wrong_state(machine, f"see operation {machine.operation}")


def check_may_force(caller: Caller) -> None:
    """Whoever takes a machine off the books without switching it off answers for the hardware."""
    if not caller.system:
        raise PermissionDenied("force is for operators; leave it out, or ask one of them")


def sees(caller: Caller, project: str) -> bool:
    """Whether what belongs to the project may be shown to the caller."""
    return caller.system or (bool(caller.project) and caller.project == project)


def project_filter(caller: Caller) -> str | None:
    """The project whose objects a list shows; None: every project's. Raises NotFound for a caller without either."""
    if caller.system:
        return None
    if not caller.project:
        raise NotFound("the token acts in no project; log in with one")
    return caller.project


class Territory:
    """The regions of one shard at one moment, and how much of it a caller reaches."""

    def __init__(self, tree: RegionTree, shard: str) -> None:
        self.tree = tree
        self._shard = shard
        self._owned = frozenset(tree.regions_of(shard))
        self._everything = len(self._owned) == len(tree)

    @property
    def owned(self) -> Reach:
        """All of it."""
        return None if self._everything else sorted(self._owned)

    def owns(self, region: str) -> bool:
        """Whether the shard serves the region."""
        return region in self._owned

    def check_owned(self, region: str, caller: Caller) -> None:
        """Raises NotFound for a region that is not there or not shown, FailedPrecondition for another shard's."""
        if not self.tree.is_visible(region, caller):
            raise _no_region(region)
        if region not in self._owned:
            raise errors.wrong_region(region, self.tree.shard_of(region))

    def reach(self, region: str, caller: Caller) -> Reach:
        """The regions that an answer may come from: the tree of `region`, of this shard, of the caller's grants."""
        bounds = _bounds(caller, self.tree)
        if region:
            if not self.tree.is_visible(region, caller):
                raise _no_region(region)
            found = set(self.tree.descendants(region)) & self._owned
            if not found:
                raise errors.wrong_region(region, self.tree.shard_of(region))
        elif not bounds and self._everything:
            return None
        else:
            found = set(self._owned)
        if bounds:
            found &= {each for bound in bounds for each in self.tree.descendants(bound)}
        return sorted(found)


def named_region(region: str) -> str:
    """The region that a request names, canonical; empty when it names none. Raises InvalidArgument (INVALID_UUID)."""
    return parse_id(region, "region") if region else ""


# Gives the territory as it is now.
TerritorySource = Callable[[], Territory]


def _bounds(caller: Caller, tree: RegionTree) -> list[str]:
    """Regions that the caller's grants for this very permission are bound to; none: they are not."""
    if not caller.permission:
        return []
    scope = options_pb2.SCOPE_PROJECT if caller.project else options_pb2.SCOPE_SYSTEM
    decision = permits(caller.grants, caller.permission, scope, caller.project)
    return [region for region in decision.regions if region in tree]


def _no_region(region: str) -> NotFound:
    return NotFound(
        f"there is no region {region[:64]}; ListRegions tells which there are", metadata={"region": region[:64]}
    )
