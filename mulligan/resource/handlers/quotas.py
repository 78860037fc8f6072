"""Quotas: limits on a project's peak use of a resource type in the shard."""

from __future__ import annotations

from typing import Any

from mulligan.api.resource.v1 import claim_pb2
from mulligan.api.resource.v1 import request_response_pb2 as messages
from mulligan.caller import Caller
from mulligan.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from mulligan.ids import new_id
from mulligan.requests import decode_page_token, encode_page_token, page_size
from mulligan.resource.batch import NOBODY, RequestKey
from mulligan.resource.core import Answer, Core, Recorder
from mulligan.resource.inventory import MAX_AMOUNT
from mulligan.resource.quota import Quota
from mulligan.resource.spec import canonical_id
from mulligan.resource.structure import delete_quota, project_use, put_quota
from mulligan.resource.timeline import ALREADY, FOREVER, Timeline


class QuotaHandlers:
    """Serves the RPCs about quotas."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def set_quota(self, request: messages.SetQuotaRequest, caller: Caller) -> Answer:
        """Sets a limit; one below what is in use refuses new claims only."""
        project, kind, limit = request.quota.project, request.quota.resource_type, request.quota.limit

        async def put(key: RequestKey, record: Recorder) -> messages.SetQuotaResponse:
            core = self._core
            owner = canonical_id(project, "quota.project")
            core.regions.scope(request.region, caller)
            core.world.vocabulary.require_resource_type(kind, "quota.resource_type")
            if limit < 0:
                raise InvalidArgument(
                    f"quota.limit must be 0 or more, not {limit}", reason="INVALID_AMOUNT", field="quota.limit"
                )

            async def store(connection: Any) -> tuple[Quota, messages.SetQuotaResponse]:
                known, now = world.quotas.of(owner).get(kind), world.now
                use = None if known else await project_use(connection, core.store.shard, owner, kind, now)
                _check_countable(owner, kind, use)
                quota = Quota(known.id if known else new_id(), owner, kind, limit, known.use if known else use)
                await put_quota(connection, core.store.shard, quota.id, owner, kind, limit, use)
                response = messages.SetQuotaResponse(quota=_message(quota, core.store.shard, now))
                await record(connection, response)
                return quota, response

            async with core.gated(owner):
                world = core.world
                _, response = await core.memory.writer.exclusive(store, lambda made: world.quotas.put(made[0]))
            return response

        return await self._core.mutate(request, caller, put)

    async def list_quotas(self, request: messages.ListQuotasRequest, caller: Caller) -> messages.ListQuotasResponse:
        """Limits and use: all for a system assignment, else those of the caller's project."""
        world = self._core.world
        self._core.regions.scope(request.region, caller)
        size = page_size(request.page_size)
        position = decode_page_token(request.page_token, {"project": str, "resource_type": str})
        after = (position["project"], position["resource_type"]) if position else ("", "")
        project = visible_project(request.project, caller)
        quotas = [
            each
            for each in world.quotas
            if project in ("", each.project) and (each.project, each.resource_type) > after
        ]
        page = quotas[:size]
        token = ""
        if len(quotas) > size:
            token = encode_page_token({"project": page[-1].project, "resource_type": page[-1].resource_type})
        shard = self._core.store.shard
        return messages.ListQuotasResponse(
            quotas=[_message(each, shard, world.now) for each in page], next_page_token=token
        )

    async def delete_quota(self, request: messages.DeleteQuotaRequest, caller: Caller) -> Answer:
        """Removes a limit."""

        async def delete(key: RequestKey, record: Recorder) -> messages.DeleteQuotaResponse:
            core = self._core
            project = canonical_id(request.project, "project")
            core.regions.scope(request.region, caller)

            async def store(connection: Any) -> messages.DeleteQuotaResponse:
                quota = world.quotas.of(project).get(request.resource_type)
                if quota is None:
                    raise NotFound(
                        f"project {project} has no quota of {request.resource_type[:64]!r} here;"
                        " ListQuotas tells which there are",
                        metadata={"project": project},
                    )
                await delete_quota(connection, quota.id, quota.resource_type)
                response = messages.DeleteQuotaResponse()
                await record(connection, response)
                return response

            async with core.gated(project):
                world = core.world
                return await core.memory.writer.exclusive(
                    store, lambda _: world.quotas.drop(project, request.resource_type)
                )

        return await self._core.mutate(request, caller, delete)


def visible_project(asked: str, caller: Caller) -> str:
    """Whose use to tell: the caller's project's, or for a system assignment any ("" for all).

    Raises PermissionDenied.
    """
    project = canonical_id(asked, "project") if asked else ""
    if caller.system:
        return project
    if project and project != caller.project:
        raise PermissionDenied("project is not your token's; only a system assignment may name another")
    return caller.project or NOBODY


def _check_countable(project: str, kind: str, use: Timeline | None) -> None:
    if use is not None and use.peak(ALREADY, FOREVER) > MAX_AMOUNT:
        raise FailedPrecondition(
            f"project {project} uses more of {kind} than 63 bits hold, so it cannot be counted; release claims of it"
            " first, then set the quota",
            reason="CAPACITY_IN_USE",
            metadata={"project": project},
        )


def _message(quota: Quota, shard: str, now: int) -> claim_pb2.Quota:
    ahead = Timeline(list(quota.use.starts), list(quota.use.levels))
    ahead.forget_before(now)
    return claim_pb2.Quota(
        project=quota.project,
        resource_type=quota.resource_type,
        limit=quota.limit,
        used=ahead.peak(ALREADY, FOREVER),
        shard=shard,
    )
