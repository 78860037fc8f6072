"""What a provider may be configured as: checked against the vocabulary and the groups of the shard."""

from __future__ import annotations

from mulligan.api.resource.v1 import provider_pb2
from mulligan.errors import InvalidArgument
from mulligan.resource.inventory import Inventory, parse_inventories
from mulligan.resource.model import MAX_CAPABILITIES, MAX_GROUPS_OF_PROVIDER, MAX_INVENTORIES, Profile, Provider
from mulligan.resource.spec import canonical_id
from mulligan.resource.world import World


class ConfigParser:
    """Validates provider configs. Most are alike, so what one means is remembered; make a new one for each request."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._profiles: dict[bytes, Profile] = {}
        self._groups: dict[tuple[str, ...], frozenset[str]] = {}

    def provider(self, identifier: str, region: str, config: provider_pb2.ProviderConfig, now: int) -> Provider:
        """A new provider; raises InvalidArgument (INVALID_INVENTORY, UNKNOWN_TYPE …), NotFound for a group."""
        return Provider(identifier, region, self._profile(config), self._membership(config), now)

    def _profile(self, config: provider_pb2.ProviderConfig) -> Profile:
        alike = provider_pb2.ProviderConfig(
            provider_type=config.provider_type, capabilities=config.capabilities, inventories=config.inventories
        )
        key = alike.SerializeToString(deterministic=True)
        if key not in self._profiles:
            self._profiles[key] = self._parse_profile(config)
        return self._profiles[key]

    def _parse_profile(self, config: provider_pb2.ProviderConfig) -> Profile:
        vocabulary = self._world.vocabulary
        vocabulary.require_provider_type(config.provider_type, "config.provider_type")
        if len(config.capabilities) > MAX_CAPABILITIES:
            raise InvalidArgument(
                f"a provider has at most {MAX_CAPABILITIES} capabilities", field="config.capabilities"
            )
        vocabulary.require_capabilities(config.capabilities, "config.capabilities")
        inventories = known_inventories(self._world, config.inventories, "config.inventories")
        return self._world.profile(config.provider_type, frozenset(config.capabilities), inventories)

    def _membership(self, config: provider_pb2.ProviderConfig) -> frozenset[str]:
        key = tuple(config.groups)
        if key not in self._groups:
            if len(key) > MAX_GROUPS_OF_PROVIDER:
                raise InvalidArgument(
                    f"a provider is in at most {MAX_GROUPS_OF_PROVIDER} groups", field="config.groups"
                )
            self._groups[key] = frozenset(self._world.group(canonical_id(each, "config.groups")).id for each in key)
        return self._groups[key]


def known_inventories(world: World, messages: object, field: str) -> tuple[Inventory, ...]:
    """Valid inventories of known resource types; raises InvalidArgument (INVALID_INVENTORY, UNKNOWN_TYPE)."""
    inventories = parse_inventories(messages, field)  # type: ignore[arg-type]
    if len(inventories) > MAX_INVENTORIES:
        raise InvalidArgument(f"a provider has at most {MAX_INVENTORIES} inventories", field=field)
    for inventory in inventories:
        world.vocabulary.require_resource_type(inventory.resource_type, f"{field}.resource_type")
    return inventories
