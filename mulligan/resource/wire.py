"""What the resource service knows, as it goes over the wire."""

from __future__ import annotations

from collections.abc import Mapping

from mulligan.api.resource.v1 import claim_pb2, provider_pb2
from mulligan.clock import to_timestamp
from mulligan.resource.inventory import Inventory
from mulligan.resource.model import Claim, Provider, ProviderGroup
from mulligan.resource.timeline import FOREVER
from mulligan.resource.vocabulary import Vocabulary


def claim_message(claim: Claim, now: int) -> claim_pb2.Claim:
    """A claim as it stands at `now`."""
    return claim_pb2.Claim(
        id=claim.id,
        region=claim.region,
        project=claim.project,
        consumer=claim.consumer,
        acquire=to_timestamp(claim.acquire_us),
        release=to_timestamp(claim.release_us) if claim.release_us < FOREVER else None,
        state=claim.state(now),
        allocations=[
            claim_pb2.Allocation(
                group=each.group, provider=each.provider, resource_type=each.resource_type, amount=each.amount
            )
            for each in claim.allocations
        ],
        create_time=to_timestamp(claim.created_us),
    )


def provider_message(
    provider: Provider, used: Mapping[str, int], *, for_operators: bool = False
) -> provider_pb2.Provider:
    """A provider; `used` is what its reader may know to be in use. Why it is in its state, operators alone may know."""
    profile = provider.profile
    return provider_pb2.Provider(
        id=provider.id,
        region=provider.region,
        config=provider_pb2.ProviderConfig(
            provider_type=profile.provider_type,
            capabilities=sorted(profile.capabilities),
            groups=sorted(provider.groups),
            inventories=[inventory_message(each) for each in profile.inventories],
        ),
        state=provider.state,  # type: ignore[arg-type]  # an enum is an int here
        state_reason=provider.state_reason if for_operators else "",
        state_since=to_timestamp(provider.state_since_us),
        used=used,
        etag=str(provider.generation),
        create_time=to_timestamp(provider.created_us),
    )


def inventory_message(inventory: Inventory) -> provider_pb2.Inventory:
    """An inventory with its defaults filled in."""
    return provider_pb2.Inventory(
        resource_type=inventory.resource_type,
        total=inventory.total,
        reserved=inventory.reserved,
        min_unit=inventory.min_unit,
        max_unit=inventory.max_unit,
        step_size=inventory.step_size,
        allocation_ratio=inventory.allocation_ratio,
    )


def group_message(group: ProviderGroup, vocabulary: Vocabulary) -> provider_pb2.ProviderGroup:
    """A provider group with its number of members."""
    spans = [
        provider_pb2.Span(distance_type=kind, position=vocabulary.distance_types[kind][at])
        for kind, at in sorted(group.spans.items())
    ]
    return provider_pb2.ProviderGroup(id=group.id, region=group.region, spans=spans, provider_count=group.members)
