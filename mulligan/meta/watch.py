"""WatchObjects: everything there is, then every change, resumable at any revision of etcd."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from mulligan.api.meta.v1.meta_pb2 import Object, ObjectEvent
from mulligan.api.meta.v1.request_response_pb2 import WatchObjectsRequest, WatchObjectsResponse
from mulligan.caller import Caller
from mulligan.dispatch import Page
from mulligan.errors import InvalidArgument
from mulligan.meta.index import Change
from mulligan.meta.view import MetaView
from mulligan.stores.etcd import EtcdClient
from mulligan.stores.transactions import current_revision

# Events of one message: well below what one gRPC message may hold.
_EVENTS = 500

# Objects looked at for one page of a list, so that nobody else waits long.
_LOOKED_AT = 5_000

# Changes told at once.
_CHANGES = 5_000


@dataclass(frozen=True, slots=True)
class Position:
    """Where a stream is: telling everything, or telling changes."""

    # Changes after this revision are still to be told.
    revision: int
    telling: bool = False
    # While telling everything: what comes behind this id.
    after: str = ""

    def to_cursor(self) -> str:
        """The position as text."""
        return f"all:{self.revision}:{self.after}" if self.telling else f"after:{self.revision}"

    @classmethod
    def from_cursor(cls, cursor: str) -> Position:
        """Reads `to_cursor`; raises InvalidArgument."""
        kind, _, rest = cursor.partition(":")
        revision, _, after = rest.partition(":")
        if kind not in ("all", "after") or not revision.isascii() or not revision.isdigit():
            raise InvalidArgument("the cursor is not one that this stream gave; watch again from a revision")
        return cls(int(revision), kind == "all", after)


class ObjectWatch:
    """Serves the long polls of WatchObjects."""

    def __init__(self, etcd: EtcdClient, view: MetaView) -> None:
        self._etcd = etcd
        self._view = view

    async def poll(self, request: WatchObjectsRequest, caller: Caller, cursor: str, wait_s: float) -> Page:
        """The next messages, or none after `wait_s` seconds."""
        position = await self._position(request, cursor)
        if position.telling:
            return self._tell(request, caller, position)
        deadline = time.monotonic() + wait_s
        revision = position.revision
        while True:
            page = self._tell_changes(request, caller, revision)
            if page.messages:
                return page
            revision = max(revision, Position.from_cursor(page.cursor).revision)
            changed = await self._view.wait_changed(revision, deadline - time.monotonic())
            if not changed or revision < self._view.changes.base:  # too many came at once: look back first
                return Page([], Position(revision).to_cursor())

    async def _position(self, request: WatchObjectsRequest, cursor: str) -> Position:
        """Where to go on; at the beginning of everything when what changed since is not known any more."""
        beginning = Position(self._view.revision, telling=True)
        if request.after_revision < 0:
            raise InvalidArgument("after_revision must not be negative; 0 tells everything", field="after_revision")
        if not cursor and not request.after_revision:
            return beginning
        position = Position.from_cursor(cursor) if cursor else Position(request.after_revision)
        if position.telling:
            return position
        if position.revision > self._view.revision and position.revision > await current_revision(self._etcd):
            return beginning  # a revision of another etcd, or of this one before it was restored
        return position if await self._view.look_back(position.revision) else beginning

    def _tell(self, request: WatchObjectsRequest, caller: Caller, position: Position) -> Page:
        eyes, events, last = self._view.eyes(caller), [], ""
        candidates = self._view.index.candidates(eyes, request.kind, (), position.after)
        for object_id, facets in islice(candidates, _LOOKED_AT):
            last = object_id
            if eyes.sees(object_id, facets):
                events.append(ObjectEvent(object=self._view.object(object_id).to_message()))
                if len(events) == _EVENTS:
                    break
        ended = next(candidates, None) is None
        message = WatchObjectsResponse(events=events, reset=not position.after, synced=ended)
        if ended:
            message.revision = position.revision
        following = Position(position.revision) if ended else Position(position.revision, True, last)
        return Page([message] if events or ended or message.reset else [], following.to_cursor())

    def _tell_changes(self, request: WatchObjectsRequest, caller: Caller, revision: int) -> Page:
        changes = self._view.changes.since(revision)
        reached = max(revision, self._view.revision)
        if len(changes) > _CHANGES:  # never in the middle of a revision: that is what a client resumes at
            reached = changes[_CHANGES].revision
            changes = [each for each in changes if each.revision <= reached]
        events = list(self._events(changes, request.kind, caller))
        return Page(_messages(events, reached), Position(reached).to_cursor())

    def _events(self, changes: Sequence[Change], kind: str, caller: Caller) -> Iterator[ObjectEvent]:
        now, then = self._view.eyes(caller), self._view.eyes_then(caller)
        for change in changes:
            facets = change.deleted or self._view.index.get(change.id)
            if facets is None or kind not in ("", facets.kind):
                continue
            if change.deleted:
                if then.sees(change.id, facets):
                    yield ObjectEvent(object=Object(id=change.id, kind=facets.kind), deleted=True)
            elif now.sees(change.id, facets):
                yield ObjectEvent(object=self._view.object(change.id).to_message())


def _messages(events: Sequence[ObjectEvent], reached: int) -> list[WatchObjectsResponse]:
    """Only the last one may be resumed at."""
    parts = [events[at : at + _EVENTS] for at in range(0, len(events), _EVENTS)]
    messages = [WatchObjectsResponse(events=part) for part in parts]
    if messages:
        messages[-1].synced, messages[-1].revision = True, reached
    return messages
