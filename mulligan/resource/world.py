"""The memory of a shard: providers and their use, groups, vocabulary, quotas. A cache of what Postgres has."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Mapping
from itertools import count

from mulligan.errors import AlreadyExists, NotFound
from mulligan.resource.index import Index
from mulligan.resource.inventory import Inventory
from mulligan.resource.model import Profile, Provider, ProviderGroup
from mulligan.resource.quota import QuotaBook
from mulligan.resource.spec import SpecParser
from mulligan.resource.timeline import ALREADY, FOREVER, Timeline
from mulligan.resource.vocabulary import Vocabulary


class World:
    """Everything that planning needs, kept consistent with every change."""

    def __init__(self) -> None:
        """Nothing is there."""
        self.now = 0
        self.vocabulary = Vocabulary()
        self.groups: dict[str, ProviderGroup] = {}
        self.providers: dict[str, Provider] = {}
        self.index = Index()
        self.quotas = QuotaBook()
        self.specs = SpecParser(self.vocabulary, self.groups)
        # How many providers are out of placement for the moment.
        self.frozen = 0
        self._provider_ids: list[str] | None = None
        # When the use of a provider next changes by itself; entries may be out of date.
        self._steps: list[tuple[int, int, Provider]] = []
        self._tie = count()

    # Time.

    def advance(self, now: int) -> int:
        """Moves on to `now`, never back: what ended is free. Returns the instant that the memory is at."""
        if now > self.now:
            self.now = now
            while self._steps and self._steps[0][0] <= now:
                step, _, provider = heapq.heappop(self._steps)
                if step == provider.next_step and provider.cell is not None:
                    self._forget_past(provider)
        return self.now

    def _forget_past(self, provider: Provider) -> None:
        provider.next_step = FOREVER
        for use in provider.uses:
            if use is not None:
                use.forget_before(self.now)
        self._watch(provider)
        self.index.refresh(provider)

    def _watch(self, provider: Provider) -> None:
        step = min([use.next_step() for use in provider.uses if use is not None], default=FOREVER)
        if step < provider.next_step:
            provider.next_step = step
            heapq.heappush(self._steps, (step, next(self._tie), provider))

    # Use of providers.

    def use(self, provider: Provider, needs: tuple[tuple[int, int], ...], begin: int, end: int, sign: int = 1) -> None:
        """Takes (or, with sign -1, gives back) amounts of a provider's resources in [begin, end).

        What of the window is over does not count.
        """
        if end <= self.now:
            return
        if begin <= self.now:
            begin = ALREADY
        for position, amount in needs:
            provider.timeline(position).add(begin, end, sign * amount)
        if begin != ALREADY or end != FOREVER:
            self._watch(provider)
        self.index.refresh(provider, [position for position, _ in needs])

    def set_use(self, provider: Provider, position: int, use: Timeline) -> None:
        """Puts a timeline that was read from the database in place."""
        provider.uses[position] = use
        self._watch(provider)
        self.index.refresh(provider, (position,))

    # Providers and groups.

    def provider(self, identifier: str) -> Provider:
        """Raises NotFound."""
        found = self.providers.get(identifier)
        if found is None:
            raise provider_not_found(identifier)
        return found

    def provider_ids(self) -> list[str]:
        """Ids of all providers, in order."""
        if self._provider_ids is None:
            self._provider_ids = sorted(self.providers)
        return self._provider_ids

    def group(self, identifier: str) -> ProviderGroup:
        """Raises NotFound."""
        found = self.groups.get(identifier)
        if found is None:
            raise group_not_found(identifier)
        return found

    def profile(self, provider_type: str, capabilities: frozenset[str], inventories: tuple[Inventory, ...]) -> Profile:
        """The one profile of all providers that are alike."""
        return self.index.profile(provider_type, capabilities, inventories)

    def add_provider(self, provider: Provider) -> None:
        """A new provider, or one that was read from the database."""
        self.providers[provider.id] = provider
        if self._provider_ids is not None:
            insort(self._provider_ids, provider.id)
        for group in provider.groups:
            self.groups[group].members += 1
        self.index.insert(provider)

    def remove_provider(self, provider: Provider) -> None:
        """Forgets a provider."""
        del self.providers[provider.id]
        if self._provider_ids is not None:
            del self._provider_ids[bisect_left(self._provider_ids, provider.id)]
        for group in provider.groups:
            self.groups[group].members -= 1
        self.index.remove(provider)

    def change_inventory(self, provider: Provider, inventories: tuple[Inventory, ...]) -> None:
        """Gives a provider another inventory; what is used of it stays used."""
        used = {each.resource_type: provider.uses[at] for at, each in enumerate(provider.profile.inventories)}
        self.index.remove(provider)
        old = provider.profile
        provider.profile = self.profile(old.provider_type, old.capabilities, inventories)
        provider.uses = [used.get(each.resource_type) for each in inventories]
        self.index.insert(provider)

    def freeze(self, provider: Provider, by: int) -> None:
        """Takes a provider out of placement while a change of it is stored (1), and puts it back (-1)."""
        provider.frozen += by
        self.frozen += by
        self.index.refresh(provider)

    def set_state(self, provider: Provider, state: int, reason: str, since_us: int) -> None:
        """Changes the state of a provider."""
        provider.state, provider.state_reason, provider.state_since_us = state, reason, since_us
        self.index.refresh(provider)

    def add_group(self, group: ProviderGroup) -> None:
        """A new group, or one that was read from the database."""
        self.groups[group.id] = group
        self.specs.forget()

    def remove_group(self, identifier: str) -> None:
        """Forgets a group that has no members."""
        del self.groups[identifier]
        self.specs.forget()

    def extend_vocabulary(self, other: Vocabulary) -> None:
        """Adds codes."""
        self.vocabulary.add(other)
        self.specs.forget()

    def reduce_vocabulary(self, other: Vocabulary) -> None:
        """Drops codes that nothing uses."""
        self.vocabulary.remove(other)
        self.specs.forget()

    def usage(self) -> Mapping[str, dict[str, Timeline]]:
        """Use over time of every provider that is in use, by resource type; for comparisons."""
        return {provider.id: uses for provider in self.providers.values() if (uses := _uses(provider))}


def provider_not_found(identifier: str) -> NotFound:
    """There is no such provider, or the caller may not know of it."""
    return NotFound(
        f"there is no provider {identifier}; ListProviders tells which there are", metadata={"provider": identifier}
    )


def group_not_found(identifier: str) -> NotFound:
    """There is no such provider group, or the caller may not know of it."""
    return NotFound(
        f"there is no provider group {identifier}; ListProviderGroups tells which there are",
        metadata={"provider_group": identifier},
    )


def provider_exists(identifier: str) -> AlreadyExists:
    """The very request that would make the provider made it before, so long ago that its answer was forgotten."""
    return AlreadyExists(
        f"provider {identifier} was made by this request before, whatever its name is now; use it, or send a new"
        " request_id to make another",
        metadata={"provider": identifier},
    )


def group_exists(identifier: str) -> AlreadyExists:
    """As `provider_exists`, of a provider group."""
    return AlreadyExists(
        f"provider group {identifier} was made by this request before, whatever its name is now; use it, or send a"
        " new request_id to make another",
        metadata={"provider_group": identifier},
    )


def _uses(provider: Provider) -> dict[str, Timeline]:
    return {
        inventory.resource_type: use
        for inventory, use in zip(provider.profile.inventories, provider.uses, strict=True)
        if use is not None and use != Timeline()
    }
