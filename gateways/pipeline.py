"""What the calls of one service pass through, in order: limits, authentication, routing, the queues of its shards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateways.authentication import Authentication, Identity, Metadata, Need
from gateways.coalesce import Coalescer
from gateways.limits import Lane, Limits
from gateways.methods import Method
from gateways.routing import Router
from gateways.shards import ShardCaller


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The parts that the calls of one service share."""

    limits: Limits
    authentication: Authentication
    router: Router
    shards: ShardCaller
    coalescer: Coalescer
    # A valid token widens what an anonymous method answers, so it is looked at when there is one.
    looks_at_tokens: bool = False


class Route:
    """A method bound to the pipeline of its service: what its calls have in common."""

    __slots__ = ("_kind", "_need", "lane", "method", "pipeline")

    def __init__(self, method: Method, pipeline: Pipeline, kind: Callable[[Route, Identity], Any]) -> None:
        """`kind` makes the handler of one call: UnaryCall, WatchCall or LoadCall."""
        self.method = method
        self.pipeline = pipeline
        self.lane: Lane = pipeline.limits.lane(method.anonymous, method.streaming)
        self._kind = kind
        self._need = Need.VALID
        if method.anonymous:
            self._need = Need.VALID_IF_GIVEN if pipeline.looks_at_tokens else Need.NOTHING

    def admit(self, metadata: Metadata) -> Any:
        """The handler of one call, before its request is read; raises what the caller is to be told instead."""
        return self._kind(self, self.pipeline.authentication.identify(metadata, self._need))
