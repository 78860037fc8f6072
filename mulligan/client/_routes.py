"""Where a request goes: its region made a UUID, found again where it was moved to, and the shard it lives in."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from google.protobuf.message import Message

from mulligan.client._catalogue import Catalogue
from mulligan.client._names import Names
from mulligan.errors import FailedPrecondition, MulliganError
from mulligan.ids import is_id
from mulligan.methods import Method

_MAX_REMEMBERED = 10_000

# Fields that say which object a request is about, so that one object's move is not taken for its region's.
_SUBJECTS = ("id", "machine", "provider", "claim")


class Routes:
    """Knows the way to every region, and learns from gateways that say it was the wrong one."""

    def __init__(self, catalogue: Catalogue, names: Names) -> None:
        self._catalogue = catalogue
        self._names = names
        self._moved: OrderedDict[tuple[str, str, str], str] = OrderedDict()

    async def find(self, method: Method[Any, Any], request: Message, timeout_s: float | None) -> str:
        """The shard of the request's region, "" when it names none. A region's name in it becomes its UUID."""
        region: str = getattr(request, method.region_field)
        if not region:
            return ""
        if not is_id(region):
            region = await self._names.resolve("region", region, timeout_s=timeout_s)
            setattr(request, method.region_field, region)
        if self._moved:
            region = self._moved.get((method.service, region, _subject(request)), region)
            setattr(request, method.region_field, region)
        return self._catalogue.shard_of(region)

    def forget_names(self) -> None:
        """Something was not found: perhaps because a remembered name means something else by now."""
        self._names.forget()

    def redirect(self, method: Method[Any, Any], request: Message, error: MulliganError) -> bool:
        """Turns the request to where a WRONG_REGION error sends it, and remembers that; False for other errors.

        It names another region, or for the same region another shard, which the catalogue has yet to tell.
        """
        if not isinstance(error, FailedPrecondition) or error.reason != "WRONG_REGION" or not method.region_field:
            return False
        asked, right = getattr(request, method.region_field), error.metadata.get("region", "")
        if not right:
            return False
        if right == asked:
            self._catalogue.correct(right, error.metadata.get("shard", ""))
        else:
            self._remember((method.service, asked, _subject(request)), right)
            setattr(request, method.region_field, right)
        return True

    def _remember(self, key: tuple[str, str, str], region: str) -> None:
        self._moved[key] = region
        if len(self._moved) > _MAX_REMEMBERED:
            self._moved.popitem(last=False)


def _subject(request: Message) -> str:
    fields = request.DESCRIPTOR.fields_by_name
    return next((getattr(request, name) for name in _SUBJECTS if name in fields and getattr(request, name)), "")
