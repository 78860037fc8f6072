"""Accounts, projects and assignments as the service holds them, how they look on the wire, and what a valid one is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from mulligan.api.iam.v1 import iam_pb2
from mulligan.caller import Grant
from mulligan.clock import to_timestamp
from mulligan.iam.errors import invalid
from mulligan.iam.policy import ROLES, includes

USER: Final = iam_pb2.ACCOUNT_TYPE_USER
APPLICATION_CREDENTIAL: Final = iam_pb2.ACCOUNT_TYPE_APPLICATION_CREDENTIAL

# A token has to fit into the 8 KiB of a request's headers.
MAX_GRANTS: Final = 96

PASSWORD_CHARACTERS: Final = (12, 1024)


@dataclass(frozen=True, slots=True)
class Account:
    """A user or an application credential. `project` and `owner` are a credential's own, else empty."""

    id: str
    type: int
    enabled: bool
    secret_hash: str
    create_us: int
    project: str = ""
    owner: str = ""
    # None: never.
    expire_us: int | None = None

    @property
    def is_user(self) -> bool:
        """A person's account, rather than an application credential."""
        return self.type == USER

    def usable(self, now_us: int) -> bool:
        """Enabled and not expired."""
        return self.enabled and (self.expire_us is None or now_us < self.expire_us)

    def message(self) -> iam_pb2.Account:
        """As it goes over the wire: without its hash."""
        message = iam_pb2.Account(
            id=self.id,
            type=iam_pb2.AccountType.Name(self.type),
            enabled=self.enabled,
            create_time=to_timestamp(self.create_us),
            project=self.project,
            owner=self.owner,
        )
        if self.expire_us is not None:
            message.expire_time.CopyFrom(to_timestamp(self.expire_us))
        return message


@dataclass(frozen=True, slots=True)
class Assignment:
    """A role of an account, in a project or ("") the system, in all regions ("") or the tree of one."""

    id: str
    account: str
    role: str
    project: str
    region: str
    create_us: int

    @property
    def grant(self) -> Grant:
        """What a token that acts where it counts carries."""
        return Grant(self.role, not self.project, self.region)

    def message(self) -> iam_pb2.Assignment:
        """As it goes over the wire."""
        return iam_pb2.Assignment(
            id=self.id,
            account=self.account,
            role=self.role,
            project=self.project,
            region=self.region,
            create_time=to_timestamp(self.create_us),
        )


def project_message(identifier: str, create_us: int) -> iam_pb2.Project:
    """A project as it goes over the wire."""
    return iam_pb2.Project(id=identifier, create_time=to_timestamp(create_us))


def grant_messages(grants: Iterable[Grant]) -> list[iam_pb2.Grant]:
    """Grants as they go over the wire."""
    return [iam_pb2.Grant(role=grant.role, system=grant.system, region=grant.region) for grant in grants]


class Trees(Protocol):
    """What of the region tree is asked here."""

    def is_within(self, region: str, ancestor: str) -> bool:
        """Whether `region` is `ancestor` or lies below it."""
        ...


def narrowed(wanted: Iterable[Grant], held: Sequence[Grant], trees: Trees) -> tuple[Grant, ...]:
    """What of the `wanted` grants in a project who holds `held` there may hand on: each role that a held one includes,
    in the regions that both reach. Never anything in the system."""
    found = set()
    for want in wanted:
        for have in held:
            region = _shared_region(want.region, have.region, trees)
            if region is not None and includes(have.role, want.role):
                found.add(Grant(want.role, False, region))
    return tuple(sorted(found, key=lambda grant: (grant.role, grant.region)))


def condensed(grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """The same rights in fewer project grants: without a role that another one in the same region includes."""
    widest: dict[str, list[Grant]] = {}
    for grant in sorted(grants, key=lambda each: len(ROLES[each.role]), reverse=True):
        there = widest.setdefault(grant.region, [])
        if not any(includes(each.role, grant.role) for each in there):
            there.append(grant)
    return tuple(
        sorted((each for there in widest.values() for each in there), key=lambda each: (each.role, each.region))
    )


def _shared_region(first: str, second: str, trees: Trees) -> str | None:
    """The region whose tree lies in both; "" is all regions, None is nothing."""
    if not second or first == second:
        return first
    if not first or trees.is_within(second, first):
        return second
    return first if trees.is_within(first, second) else None


def valid_password(password: str, field: str) -> str:
    """The password; raises InvalidArgument unless it has 12 to 1024 characters."""
    least, most = PASSWORD_CHARACTERS
    if not least <= len(password) <= most:
        raise invalid(field, f"must have {least} to {most} characters")
    return password


def valid_role(role: str, field: str) -> str:
    """The role; raises InvalidArgument for one that there is not."""
    if role not in ROLES:
        raise invalid(field, f"must be one of {', '.join(ROLES)}, not {role[:64]!r}")
    return role
