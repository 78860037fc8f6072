"""Every etcd key that Mulligan uses. Prefixes end with a slash; functions name single keys."""

from __future__ import annotations

ROOT = "/mulligan/"

# The UUID of the system whose state this is.
SYSTEM = f"{ROOT}system"

# What clients and gateways route by. Values are JSON; entries live under a lease.
CATALOG = f"{ROOT}catalog/"
CATALOG_ACTORS = f"{CATALOG}actors/"
CATALOG_GATEWAYS = f"{CATALOG}gateways/"

# The current generation of each actor: JSON {generation, version}.
ACTORS = f"{ROOT}actors/"

# Runtime settings of each service: JSON.
SETTINGS = f"{ROOT}settings/"

# Public keys that verify tokens (JSON JWK), and what no longer counts (JSON {before_us}, leased for a token's life).
IAM_KEYS = f"{ROOT}iam/keys/"
IAM_REVOKED = f"{ROOT}iam/revoked/"

# Names, slugs, object records and regions.
META_NAMES = f"{ROOT}meta/names/"
META_SLUGS = f"{ROOT}meta/slugs/"
META_OBJECTS = f"{ROOT}meta/objects/"
META_REGIONS = f"{ROOT}meta/regions/"
# Slugs that an object had before it was renamed, leased: they still find it for a while.
META_ALIASES = f"{ROOT}meta/aliases/"
# Objects whose names are reserved while their service stores them, leased.
META_RESERVED = f"{ROOT}meta/reserved/"
# <region>/<id> of everything that lives in a region, and the ids of regions that were deleted: guards of deletion.
META_IN_REGION = f"{ROOT}meta/in-region/"
META_DELETED_REGIONS = f"{ROOT}meta/deleted-regions/"
# Answers to mutating requests of the metadata service, leased: <account>/<project>/<request_id>.
META_REQUESTS = f"{ROOT}meta/requests/"

# Bumped whenever a machine or operation changed; wakes watch streams.
CONTROL_CHANGED = f"{ROOT}control/changed/"

# Stands for "no scope" in a key, where an empty part would be invisible.
NO_SCOPE = "-"


def catalog_actor(service: str, shard: str) -> str:
    """Where an actor that serves a shard is announced: JSON {actor, version}."""
    return f"{CATALOG_ACTORS}{service}/{shard}"


def catalog_gateway(service: str, instance: str) -> str:
    """Where a gateway is announced: JSON {address, version}."""
    return f"{CATALOG_GATEWAYS}{service}/{instance}"


def actor_generation(service: str, shard: str) -> str:
    """Which generation of a shard's actor is the current one."""
    return f"{ACTORS}{service}/{shard}"


def settings(service: str) -> str:
    """The runtime settings of a service."""
    return f"{SETTINGS}{service}"


def iam_key(key_id: str) -> str:
    """A public key."""
    return f"{IAM_KEYS}{key_id}"


def iam_revoked(kind: str, identifier: str) -> str:
    """A revocation; kind is token, account, project or session."""
    return f"{IAM_REVOKED}{kind}/{identifier}"


def meta_name(kind: str, scope: str, name: str) -> str:
    """Which id a name stands for within its scope."""
    return f"{META_NAMES}{kind}/{scope or NO_SCOPE}/{name}"


def meta_slug(kind: str, scope: str, slug: str) -> str:
    """Which id a slug stands for within its scope."""
    return f"{META_SLUGS}{kind}/{scope or NO_SCOPE}/{slug}"


def meta_alias(kind: str, scope: str, slug: str) -> str:
    """Which id a former slug stands for within its scope."""
    return f"{META_ALIASES}{kind}/{scope or NO_SCOPE}/{slug}"


def meta_object(identifier: str) -> str:
    """The record of an object."""
    return f"{META_OBJECTS}{identifier}"


def meta_reserved(identifier: str) -> str:
    """The record of an object that its service is storing."""
    return f"{META_RESERVED}{identifier}"


def meta_in_region(region: str, identifier: str) -> str:
    """Tells that an object lives in a region."""
    return f"{META_IN_REGION}{region}/{identifier}"


def meta_deleted_region(identifier: str) -> str:
    """Tells that there was such a region."""
    return f"{META_DELETED_REGIONS}{identifier}"


def meta_request(account: str, project: str, request_id: str) -> str:
    """The answer that a request was given."""
    return f"{META_REQUESTS}{account or NO_SCOPE}/{project or NO_SCOPE}/{request_id}"


def meta_region(identifier: str) -> str:
    """The record of a region."""
    return f"{META_REGIONS}{identifier}"


def control_changed(identifier: str) -> str:
    """The change counter of a machine or operation."""
    return f"{CONTROL_CHANGED}{identifier}"
