"""The BMCs of providers: where they are and, sealed, what opens them."""

from __future__ import annotations

import asyncpg

from mulligan.api.control.v1.request_response_pb2 import (
    DeleteBmcRequest,
    DeleteBmcResponse,
    GetBmcRequest,
    GetBmcResponse,
    ListBmcsRequest,
    ListBmcsResponse,
    RegisterBmcRequest,
    RegisterBmcResponse,
)
from mulligan.caller import Caller
from mulligan.clock import Clock
from mulligan.control import errors, store
from mulligan.control.model import Bmc
from mulligan.control.policy import TerritorySource, checked_bmc, named_region
from mulligan.control.requests import RequestLog
from mulligan.errors import InvalidArgument
from mulligan.ids import parse_id
from mulligan.requests import decode_page_token, encode_page_token, page_size
from mulligan.secretbox import SecretBox


class Bmcs:
    """Registers, shows and forgets BMCs. No answer holds a password, sealed or not."""

    def __init__(
        self,
        database: store.Database,
        requests: RequestLog,
        box: SecretBox,
        territory: TerritorySource,
        clock: Clock,
    ) -> None:
        """`box` seals passwords; the context is the provider's id."""
        self._database = database
        self._requests = requests
        self._box = box
        self._territory = territory
        self._clock = clock

    async def register(self, request: RegisterBmcRequest, caller: Caller) -> RegisterBmcResponse:
        """Adds or replaces a provider's BMC."""
        config = checked_bmc(request.config, request.password)
        region = parse_id(request.region, "region")
        provider = parse_id(request.provider, "provider")
        self._territory().check_owned(region, caller)
        bmc = Bmc(
            provider=provider,
            region=region,
            driver=config.driver,
            host=config.host,
            port=config.port,
            username=config.username,
            boot_mac=config.boot_mac,
            update_us=self._clock(),
        )

        async def act() -> RegisterBmcResponse:
            return await self._store(request, caller, bmc)

        return RegisterBmcResponse.FromString(
            await self._requests.once(self._database, caller, request.request_id, request, act)
        )

    async def _store(self, request: RegisterBmcRequest, caller: Caller, bmc: Bmc) -> RegisterBmcResponse:
        sealed = self._box.seal(request.password.encode(), bmc.provider)
        response = RegisterBmcResponse(bmc=bmc.to_message())
        try:
            async with self._database.writing() as connection:
                await self._refuse_move(connection, bmc)
                await _refuse_taken_mac(connection, bmc)
                await store.save_bmc(connection, bmc, sealed)
                await self._requests.save(connection, caller, request.request_id, request, response, bmc.update_us)
        except asyncpg.UniqueViolationError:
            # Somebody was faster: with the same request, or with the same address.
            async with self._database.reading() as connection:
                await _refuse_taken_mac(connection, bmc)
            raise
        return response

    async def get(self, request: GetBmcRequest, caller: Caller) -> GetBmcResponse:
        """One BMC without its password."""
        provider = parse_id(request.provider, "provider")
        reach = self._territory().reach(named_region(request.region), caller)
        async with self._database.reading() as connection:
            bmc = await store.find_bmc(connection, provider)
        if bmc is None or not store.within(reach, bmc.region):
            raise errors.bmc_not_found(provider)
        return GetBmcResponse(bmc=bmc.to_message())

    async def list(self, request: ListBmcsRequest, caller: Caller) -> ListBmcsResponse:
        """A page of BMCs in order of their providers' ids."""
        size = page_size(request.page_size)
        after = decode_page_token(request.page_token, {"after": str}).get("after", "")
        reach = self._territory().reach(named_region(request.region), caller)
        async with self._database.reading() as connection:
            found = await store.list_bmcs(connection, reach, checked_position(after), size + 1)
        token = encode_page_token({"after": found[size - 1].provider}) if len(found) > size else ""
        return ListBmcsResponse(bmcs=[bmc.to_message() for bmc in found[:size]], next_page_token=token)

    async def delete(self, request: DeleteBmcRequest, caller: Caller) -> DeleteBmcResponse:
        """Forgets a BMC; raises FailedPrecondition (IN_USE) while a machine is on its provider."""
        provider = parse_id(request.provider, "provider")
        reach = self._territory().reach(named_region(request.region), caller)

        async def act() -> DeleteBmcResponse:
            response = DeleteBmcResponse()
            async with self._database.writing() as connection:
                bmc = await store.find_bmc(connection, provider)
                if bmc is None or not store.within(reach, bmc.region):
                    raise errors.bmc_not_found(provider)
                machine = await store.find_machine_of_provider(connection, provider)
                if machine is not None:
                    raise errors.bmc_in_use(provider, machine.id)
                await store.delete_bmc(connection, provider)
                await self._requests.save(connection, caller, request.request_id, request, response, self._clock())
            return response

        return DeleteBmcResponse.FromString(
            await self._requests.once(self._database, caller, request.request_id, request, act)
        )

    async def _refuse_move(self, connection: asyncpg.Connection, bmc: Bmc) -> None:
        """New addresses and credentials are welcome while a machine runs there, another region is not."""
        former = await store.find_bmc(connection, bmc.provider)
        if former is None or former.region == bmc.region:
            return
        machine = await store.find_machine_of_provider(connection, bmc.provider)
        if machine is not None:
            raise errors.bmc_in_use(bmc.provider, machine.id)


async def _refuse_taken_mac(connection: asyncpg.Connection, bmc: Bmc) -> None:
    other = await store.find_bmc_by_mac(connection, bmc.boot_mac)
    if other is not None and other.provider != bmc.provider:
        raise errors.mac_taken(bmc.boot_mac, other.provider)


def checked_position(position: str) -> str:
    """The id in a page token; raises InvalidArgument (INVALID_PAGE_TOKEN) when it is none."""
    try:
        return parse_id(position, "page_token") if position else ""
    except InvalidArgument:
        raise InvalidArgument(
            "page_token is not one that this list gave; start again without a token",
            reason="INVALID_PAGE_TOKEN",
            field="page_token",
        ) from None
