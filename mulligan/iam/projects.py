"""Handlers about projects and role assignments."""

from __future__ import annotations

from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from mulligan.api.iam.v1 import request_response_pb2 as pb
from mulligan.caller import Caller
from mulligan.errors import AlreadyExists, FailedPrecondition, ResourceExhausted
from mulligan.iam import store
from mulligan.iam.accounts import next_page, page_after, require_administrator
from mulligan.iam.errors import in_use, not_found
from mulligan.iam.login import end_project
from mulligan.iam.model import MAX_GRANTS, Account, Assignment, project_message, valid_role
from mulligan.iam.named import ensure_name, named
from mulligan.iam.outbox import ACCOUNT
from mulligan.iam.parts import Parts
from mulligan.ids import parse_id
from mulligan.meta.model import PROJECT as PROJECT_KIND
from mulligan.meta.model import check_name
from mulligan.requests import derived_id, page_size, require_request_id

# A token carries the roles of one project and of the system.
MAX_ROLES: Final = MAX_GRANTS // 2


class ProjectHandlers:
    """Part of IamService."""

    parts: Parts

    async def create_project(self, request: pb.CreateProjectRequest, caller: Caller) -> pb.CreateProjectResponse:
        """An empty project."""
        name, parts = check_name(request.name), self.parts
        identifier = derived_id(caller.account, caller.project, require_request_id(request.request_id))

        async def act(connection: AsyncConnection) -> pb.CreateProjectResponse:
            now_us = parts.clock()
            await store.insert_project(connection, identifier, now_us)
            return pb.CreateProjectResponse(project=project_message(identifier, now_us))

        # It belongs to itself, so that its members can find it by name.
        naming = named(parts.names, PROJECT_KIND, name, identifier, identifier)
        response, repeated = await parts.outcomes.once(caller, request, pb.CreateProjectResponse, act, naming)
        if repeated:
            await ensure_name(parts, response.project.id, naming)
        return response

    async def get_project(self, request: pb.GetProjectRequest, caller: Caller) -> pb.GetProjectResponse:
        """One that the caller may see."""
        identifier = parse_id(request.id, "id")
        async with self.parts.database.read() as connection:
            create_us = await store.visible_project(connection, caller, identifier)
        if create_us is None:
            raise not_found("project", identifier)
        return pb.GetProjectResponse(project=project_message(identifier, create_us))

    async def list_projects(self, request: pb.ListProjectsRequest, caller: Caller) -> pb.ListProjectsResponse:
        """Those that the caller may see, by id."""
        size, after = page_size(request.page_size), page_after(request.page_token)
        async with self.parts.database.read() as connection:
            found = await store.list_projects(connection, caller, after, size + 1)
        return pb.ListProjectsResponse(
            projects=[project_message(*each) for each in found[:size]],
            next_page_token=next_page([identifier for identifier, _ in found], size),
        )

    async def delete_project(self, request: pb.DeleteProjectRequest, caller: Caller) -> pb.DeleteProjectResponse:
        """Gone; its tokens die."""
        identifier, parts = parse_id(request.id, "id"), self.parts

        async def act(connection: AsyncConnection) -> pb.DeleteProjectResponse:
            if not await store.hold_project(connection, identifier, to_delete=True):
                raise not_found("project", identifier)
            roles, credentials = await store.uses_of_project(connection, identifier)
            if roles or credentials:
                raise in_use(
                    f"the project has {roles} role assignments and {credentials} application credentials; "
                    "delete them first",
                    project=identifier,
                )
            await end_project(parts, connection, identifier)
            await store.delete_project(connection, identifier)
            await parts.outbox.forget_names(connection, [identifier])
            return pb.DeleteProjectResponse()

        response, _ = await parts.outcomes.once(caller, request, pb.DeleteProjectResponse, act)
        await parts.outbox.flush()
        return response

    async def create_assignment(
        self, request: pb.CreateAssignmentRequest, caller: Caller
    ) -> pb.CreateAssignmentResponse:
        """A role for a user; tokens that it gets from now on carry it."""
        parts = self.parts
        assignment = Assignment(
            derived_id(caller.account, caller.project, require_request_id(request.request_id)),
            parse_id(request.account, "account"),
            valid_role(request.role, "role"),
            parse_id(request.project, "project") if request.project else "",
            parse_id(request.region, "region") if request.region else "",
            parts.clock(),
        )

        async def act(connection: AsyncConnection) -> pb.CreateAssignmentResponse:
            await self._require_assignable(connection, assignment)
            await store.insert_assignment(connection, assignment)
            return pb.CreateAssignmentResponse(assignment=assignment.message())

        response, _ = await parts.outcomes.once(caller, request, pb.CreateAssignmentResponse, act)
        return response

    async def list_assignments(self, request: pb.ListAssignmentsRequest, caller: Caller) -> pb.ListAssignmentsResponse:
        """Those of an account, in a project, or all, by id."""
        size, after = page_size(request.page_size), page_after(request.page_token)
        account = parse_id(request.account, "account") if request.account else ""
        project = parse_id(request.project, "project") if request.project else ""
        async with self.parts.database.read() as connection:
            found = await store.list_assignments(connection, account, project, after, size + 1)
        return pb.ListAssignmentsResponse(
            assignments=[each.message() for each in found[:size]],
            next_page_token=next_page([each.id for each in found], size),
        )

    async def delete_assignment(
        self, request: pb.DeleteAssignmentRequest, caller: Caller
    ) -> pb.DeleteAssignmentResponse:
        """Gone. Access tokens of the account die, and of its credentials; sessions go on with what is left."""
        identifier, parts = parse_id(request.id, "id"), self.parts

        async def act(connection: AsyncConnection) -> pb.DeleteAssignmentResponse:
            assignment = await store.find_assignment(connection, identifier)
            if assignment is None:
                raise not_found("assignment", identifier)
            account = await self._lock_account(connection, assignment.account)
            if not await store.delete_assignment(connection, identifier):
                raise not_found("assignment", identifier)
            await require_administrator(connection, account)
            for each in (account.id, *await store.credentials_of(connection, account.id)):
                latest_us = await parts.sessions.latest_of(connection, each)
                await parts.outbox.revoke(connection, ACCOUNT, each, latest_us)
            return pb.DeleteAssignmentResponse()

        response, _ = await parts.outcomes.once(caller, request, pb.DeleteAssignmentResponse, act)
        await parts.outbox.flush()
        return response

    async def _lock_account(self, connection: AsyncConnection, identifier: str) -> Account:
        account = await store.lock_account(connection, identifier)
        if account is None:
            raise not_found("account", identifier)
        return account

    async def _require_assignable(self, connection: AsyncConnection, assignment: Assignment) -> None:
        account = await store.lock_account(connection, assignment.account)
        if account is None:
            raise not_found("account", assignment.account)
        if not account.is_user:
            raise FailedPrecondition("the roles of an application credential never change; make another one")
        if assignment.project and not await store.hold_project(connection, assignment.project):
            raise not_found("project", assignment.project)
        if assignment.region and assignment.region not in await self.parts.regions.tree([assignment.region]):
            raise not_found("region", assignment.region)
        there = [
            each for each in await store.assignments_of(connection, account.id) if each.project == assignment.project
        ]
        if assignment.grant in [each.grant for each in there]:
            raise AlreadyExists("the account has this role there already", metadata={"account": account.id})
        if len(there) >= MAX_ROLES:
            raise ResourceExhausted(
                f"an account has at most {MAX_ROLES} roles in a project or the system; bind one to a region further up",
                reason="QUOTA_EXCEEDED",
            )
