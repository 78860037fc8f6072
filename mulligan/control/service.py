"""The RPCs of mulligan.control.v1.ControlService."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from google.protobuf.message import Message

from mulligan.api.common.v1.common_pb2 import ServiceSettings
from mulligan.api.control.v1 import request_response_pb2 as pb
from mulligan.api.resource.v1 import claim_pb2
from mulligan.caller import Caller
from mulligan.clock import Clock
from mulligan.control import errors, policy, store
from mulligan.control.bmcs import Bmcs, checked_position
from mulligan.control.changes import Changes, wait_for
from mulligan.control.expiry import EndedClaims, Expiry
from mulligan.control.model import DECOMMISSIONED, Machine, Operation
from mulligan.control.operations import Begun, Operations
from mulligan.control.outbox import Outbox
from mulligan.control.policy import TerritorySource, named_region, project_filter, sees
from mulligan.control.requests import RequestLog
from mulligan.dispatch import Page
from mulligan.errors import NotFound
from mulligan.ids import parse_id
from mulligan.requests import decode_page_token, encode_page_token, page_size, require_request_id
from mulligan.runtime_settings import RuntimeSettings


class Claims(EndedClaims, Protocol):
    """What the control service asks the resource service."""

    async def get(self, region: str, claim: str) -> claim_pb2.Claim:
        """A claim of any project; raises NotFound."""


class ControlService:
    """Machines, operations and BMCs of one shard."""

    def __init__(
        self,
        database: store.Database,
        requests: RequestLog,
        operations: Operations,
        bmcs: Bmcs,
        claims: Claims,
        outbox: Outbox,
        expiry: Expiry,
        changes: Changes,
        territory: TerritorySource,
        settings: RuntimeSettings[ServiceSettings],
        executor_settings: RuntimeSettings[pb.ExecutorSettings],
        clock: Clock,
    ) -> None:
        """All parts are started by whoever made them."""
        self._database = database
        self._requests = requests
        self._operations = operations
        self._claims = claims
        self._outbox = outbox
        self._expiry = expiry
        self._changes = changes
        self._territory = territory
        self._settings = settings
        self._executor_settings = executor_settings
        self._clock = clock
        self.register_bmc = bmcs.register
        self.get_bmc = bmcs.get
        self.list_bmcs = bmcs.list
        self.delete_bmc = bmcs.delete

    async def provision(self, request: pb.ProvisionRequest, caller: Caller) -> pb.ProvisionResponse:
        """Begins to make a machine out of a claim."""
        require_request_id(request.request_id)
        claim_id = parse_id(request.claim, "claim")
        policy.check_machine_config(request.config)

        async def begin() -> Begun:
            reach = self._territory().reach(named_region(request.region), caller)
            claim = await self._claims.get(request.region, claim_id)
            provider = policy.check_claim(claim, caller, self._clock())
            async with self._database.reading() as connection:
                bmc = await store.find_bmc(connection, provider)
            if bmc is None or not store.within(reach, bmc.region):
                raise errors.provider_has_no_bmc(provider, request.region or claim.region)
            await self._evict(provider, claim.id)
            return await self._operations.provision(request, caller, claim, bmc, self._clock())

        return pb.ProvisionResponse.FromString(await self._once(request, caller, begin))

    async def decommission(self, request: pb.DecommissionRequest, caller: Caller) -> pb.DecommissionResponse:
        """Begins to take a machine back."""
        require_request_id(request.request_id)
        parse_id(request.machine, "machine")

        async def begin() -> Begun:
            reach = self._territory().reach(named_region(request.region), caller)
            return await self._operations.decommission(request, caller, reach, self._clock())

        return pb.DecommissionResponse.FromString(await self._once(request, caller, begin))

    async def get_machine(self, request: pb.GetMachineRequest, caller: Caller) -> pb.GetMachineResponse:
        """A machine as it is now."""
        machine = await self._machine(request.region, request.id, caller)
        return pb.GetMachineResponse(machine=machine.to_message())

    async def list_machines(self, request: pb.ListMachinesRequest, caller: Caller) -> pb.ListMachinesResponse:
        """A page of machines, in order of their ids."""
        size = page_size(request.page_size)
        after = checked_position(decode_page_token(request.page_token, {"after": str}).get("after", ""))
        reach = self._territory().reach(named_region(request.region), caller)
        project = project_filter(caller)
        async with self._database.reading() as connection:
            found = await store.list_machines(
                connection, reach, project, after, size + 1, request.include_decommissioned
            )
        token = encode_page_token({"after": found[size - 1].id}) if len(found) > size else ""
        return pb.ListMachinesResponse(machines=[each.to_message() for each in found[:size]], next_page_token=token)

    async def watch_machine(self, request: pb.WatchMachineRequest, caller: Caller, cursor: str, wait_s: float) -> Page:
        """The machine when it is not as at the cursor, which is its version."""

        async def look() -> Page | None:
            machine = await self._machine(request.region, request.id, caller)
            if str(machine.version) == cursor:
                return None
            message = pb.WatchMachineResponse(machine=machine.to_message())
            return Page([message], str(machine.version), machine.state == DECOMMISSIONED)

        return await self._watch(request.id, cursor, wait_s, look)

    async def get_operation(self, request: pb.GetOperationRequest, caller: Caller) -> pb.GetOperationResponse:
        """An operation as it is now."""
        operation = await self._operation(request.region, request.id, caller)
        return pb.GetOperationResponse(operation=operation.to_message())

    async def list_operations(self, request: pb.ListOperationsRequest, caller: Caller) -> pb.ListOperationsResponse:
        """A page of operations, newest first."""
        size = page_size(request.page_size)
        before = checked_position(decode_page_token(request.page_token, {"before": str}).get("before", ""))
        machine = parse_id(request.machine, "machine") if request.machine else None
        reach = self._territory().reach(named_region(request.region), caller)
        project = project_filter(caller)
        async with self._database.reading() as connection:
            found = await store.list_operations(connection, reach, project, machine, before, size + 1)
        token = encode_page_token({"before": found[size - 1].id}) if len(found) > size else ""
        return pb.ListOperationsResponse(operations=[each.to_message() for each in found[:size]], next_page_token=token)

    async def watch_operation(
        self, request: pb.WatchOperationRequest, caller: Caller, cursor: str, wait_s: float
    ) -> Page:
        """The operation when it is not as at the cursor, which is its etag."""

        async def look() -> Page | None:
            operation = await self._operation(request.region, request.id, caller)
            if str(operation.version) == cursor:
                return None
            message = pb.WatchOperationResponse(operation=operation.to_message())
            return Page([message], str(operation.version), operation.done)

        return await self._watch(request.id, cursor, wait_s, look)

    async def control_configure(
        self, request: pb.ControlConfigureRequest, caller: Caller
    ) -> pb.ControlConfigureResponse:
        """Changes or tells the settings of the control service."""
        return pb.ControlConfigureResponse(settings=await self._settings.configure(request, caller))

    async def executor_configure(
        self, request: pb.ExecutorConfigureRequest, caller: Caller
    ) -> pb.ExecutorConfigureResponse:
        """Changes or tells the settings of executors."""
        return pb.ExecutorConfigureResponse(settings=await self._executor_settings.configure(request, caller))

    async def _once(
        self,
        request: pb.ProvisionRequest | pb.DecommissionRequest,
        caller: Caller,
        begin: Callable[[], Awaitable[Begun]],
    ) -> bytes:
        """The answer that the request got before, or begins its operation."""

        async def act() -> Message:
            begun = await begin()
            await self._outbox.publish(begun.operation)
            self._changes.bump(begun.operation.id, begun.operation.machine)
            return begun.response

        return await self._requests.once(self._database, caller, request.request_id, request, act)

    async def _evict(self, provider: str, claim: str) -> None:
        """Takes the provider back from a machine whose claim has ended; raises FailedPrecondition (IN_USE) then."""
        async with self._database.reading() as connection:
            machine = await store.find_machine_of_provider(connection, provider)
        if machine is None or machine.claim == claim:
            return
        try:
            ended = policy.has_ended(await self._claims.get("", machine.claim), self._clock())
        except NotFound:
            ended = True
        if ended:
            await self._expiry.take_back(machine.id)
            raise errors.provider_is_taken_back(provider)

    async def _machine(self, region: str, machine_id: str, caller: Caller) -> Machine:
        canonical = parse_id(machine_id, "id")
        reach = self._territory().reach(named_region(region), caller)
        async with self._database.reading() as connection:
            machine = await store.find_machine(connection, canonical)
        if machine is None or not sees(caller, machine.project) or not store.within(reach, machine.region):
            raise errors.machine_not_found(canonical)
        return machine

    async def _operation(self, region: str, operation_id: str, caller: Caller) -> Operation:
        canonical = parse_id(operation_id, "id")
        reach = self._territory().reach(named_region(region), caller)
        async with self._database.reading() as connection:
            operation = await store.find_operation(connection, canonical)
        if operation is None or not sees(caller, operation.project) or not store.within(reach, operation.region):
            raise errors.operation_not_found(canonical)
        return operation

    async def _watch(
        self, identifier: str, cursor: str, wait_s: float, look: Callable[[], Awaitable[Page | None]]
    ) -> Page:
        """What `look` finds, as soon as it finds something; an empty page when the time is up."""
        ends = time.monotonic() + wait_s
        with self._changes.listening(parse_id(identifier, "id")) as changed:
            while True:
                changed.clear()
                page = await look()
                if page is not None:
                    return page
                left = ends - time.monotonic()
                if left <= 0:
                    return Page([], cursor)
                await wait_for(changed, left)
