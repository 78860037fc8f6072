"""Limits on what a project uses at one instant, by resource type, in this shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mulligan.api.resource.v1 import claim_pb2
from mulligan.resource.inventory import MAX_AMOUNT
from mulligan.resource.model import Claim
from mulligan.resource.timeline import ALREADY, Timeline


class Quota:
    """A limit and the project's use over time, from now on."""

    __slots__ = ("id", "limit", "project", "resource_type", "use")

    def __init__(self, id: str, project: str, resource_type: str, limit: int, use: Timeline | None = None) -> None:
        self.id = id
        self.project = project
        self.resource_type = resource_type
        self.limit = limit
        self.use = use or Timeline()


class QuotaBook:
    """The quotas of a shard; a project without one may use all there is."""

    def __init__(self) -> None:
        self._by_project: dict[str, dict[str, Quota]] = {}

    def __iter__(self) -> Iterator[Quota]:
        """By project, then resource type."""
        for project in sorted(self._by_project):
            yield from sorted(self._by_project[project].values(), key=lambda each: each.resource_type)

    def of(self, project: str) -> Mapping[str, Quota]:
        """The project's quotas by resource type."""
        return self._by_project.get(project, {})

    def put(self, quota: Quota) -> None:
        """Adds or replaces."""
        self._by_project.setdefault(quota.project, {})[quota.resource_type] = quota

    def drop(self, project: str, resource_type: str) -> None:
        """Removes one if it is there."""
        quotas = self._by_project.get(project, {})
        quotas.pop(resource_type, None)
        if not quotas:
            self._by_project.pop(project, None)

    def add(self, project: str, amounts: Mapping[str, int], now: int, begin: int, end: int, sign: int = 1) -> None:
        """Notes that the project uses that much more (with sign -1, less) in [begin, end); the past does not count."""
        quotas = self._by_project.get(project)
        if not quotas or end <= now:
            return
        for resource_type, amount in amounts.items():
            if resource_type in quotas:
                use = quotas[resource_type].use
                use.forget_before(now)
                use.add(begin if begin > now else ALREADY, end, sign * amount)

    def charges(self, claim: Claim) -> list[tuple[str, str, int]]:
        """(quota id, resource type, amount) of what a claim counts against."""
        quotas = self._by_project.get(claim.project)
        if not quotas:
            return []
        totals = claim.totals()
        return [(each.id, kind, totals[kind]) for kind, each in quotas.items() if kind in totals]

    def headroom(self, project: str, now: int, begin: int, end: int) -> dict[str, int] | None:
        """What the project may still use at every instant of [begin, end), by resource type; None: no quota at all."""
        quotas = self._by_project.get(project)
        if not quotas:
            return None
        for quota in quotas.values():
            quota.use.forget_before(now)
        return {each.resource_type: each.limit - each.use.peak(begin, end) for each in quotas.values()}

    def shortages(self, project: str, asked: Mapping[str, int], begin: int, end: int) -> list[claim_pb2.QuotaShortage]:
        """The quotas that a request for `asked` in [begin, end) would exceed."""
        short = []
        for resource_type, quota in sorted(self.of(project).items()):
            used, amount = quota.use.peak(begin, end), asked.get(resource_type, 0)
            if amount and used + amount > quota.limit:
                asked_for = min(amount, MAX_AMOUNT)
                short.append(
                    claim_pb2.QuotaShortage(resource_type=resource_type, limit=quota.limit, used=used, asked=asked_for)
                )
        return short
