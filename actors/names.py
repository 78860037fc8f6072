"""Names of actors: `<service>/<shard>#<generation>`, unique in the Ray namespace."""

from __future__ import annotations

import json
from dataclasses import dataclass

# The Ray namespace of every actor.
NAMESPACE = "mulligan"


@dataclass(frozen=True, slots=True, order=True)
class ActorName:
    """One generation of the actor that serves a shard. A gateway's shard is the host that it runs on."""

    service: str
    shard: str
    generation: int

    def __str__(self) -> str:
        return f"{self.service}/{self.shard}#{self.generation}"

    @classmethod
    def parse(cls, text: str) -> ActorName | None:
        """The name in its parts, or None when it is not one of ours."""
        path, _, generation = text.rpartition("#")
        service, _, shard = path.partition("/")
        if not service or not shard or not generation.isdecimal():
            return None
        return cls(service, shard, int(generation))


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which generation serves a shard now, as etcd has it; generation 0: none was ever made."""

    generation: int = 0
    version: str = ""
    # Host whose component made it, and drains it when it stops.
    host: str = ""

    def encode(self) -> str:
        """The value of the pointer's key."""
        return json.dumps({"generation": self.generation, "version": self.version, "host": self.host})

    @classmethod
    def decode(cls, value: bytes | None) -> Pointer:
        """The pointer in a key's value; None, an absent key, is generation 0."""
        if value is None:
            return cls()
        fields = json.loads(value)
        return cls(int(fields["generation"]), str(fields["version"]), str(fields.get("host", "")))
