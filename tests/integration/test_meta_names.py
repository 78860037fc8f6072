"""Names on a real etcd: one winner, no orphans, thousands at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.embedded.etcd import EmbeddedEtcd
from mulligan.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable
from mulligan.ids import new_id
from mulligan.meta.errors import Superseded
from mulligan.meta.model import NamedObject
from mulligan.meta.names import NameStore
from mulligan.stores import etcd as etcd_store
from mulligan.stores import keys
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from mulligan.stores.transactions import Plan, commit, read_many, read_prefix
from tests.stores import running
from tests.waiting import eventually


@pytest.fixture
async def names(etcd: EtcdClient) -> AsyncIterator[NameStore]:
    made = NameStore(etcd, reservation_s=1)
    yield made
    await made.close()


def provider(name: str, scope: str, id: str = "") -> NamedObject:
    return NamedObject("provider", scope, name, id or new_id(), region=scope)


async def keys_of(etcd: EtcdClient, id: str) -> list[str]:
    """Every key under /mulligan/meta/ that mentions the object."""
    everything = await read_prefix(etcd, f"{keys.ROOT}meta/")
    return [key for key, stored in everything.items() if id in key or id.encode() in stored.value]


async def test_a_name_registers_resolves_both_ways_and_goes(names: NameStore, etcd: EtcdClient) -> None:
    region, id = new_id(), new_id()
    async with names.registering("provider", region, "Rack 7 / Höhe 1", id, region=region) as made:
        assert made.slug == "rack-7-hohe-1"
        assert await names.resolve("provider", region, "Rack 7 / Höhe 1") is None
        assert await names.lookup([id]) == {}
    assert await names.resolve("provider", region, "Rack 7 / Höhe 1") == id
    assert await names.resolve("provider", region, "rack-7-hohe-1") == id
    assert await names.resolve("provider", new_id(), "rack-7-hohe-1") is None
    assert (await names.lookup([id, new_id()])) == {id: made}
    assert await names.remove(id)
    assert not await names.remove(id)
    assert await keys_of(etcd, id) == []


async def test_one_of_many_gets_a_name(names: NameStore) -> None:
    region = new_id()
    won: list[str] = []

    async def attempt() -> None:
        id = new_id()
        async with names.registering("provider", region, "highlander", id, region=region):
            won.append(id)

    results = await asyncio.gather(*(attempt() for _ in range(40)), return_exceptions=True)
    refused = [each for each in results if each is not None]
    assert len(won) == 1
    assert len(refused) == 39
    assert all(isinstance(each, AlreadyExists) and each.reason == "NAME_TAKEN" for each in refused)
    assert await names.resolve("provider", region, "highlander") == won[0]


async def test_slugs_that_collide_are_numbered_each_once(names: NameStore) -> None:
    region = new_id()
    spellings = ["Web 1", "WEB 1", "web_1", "Web-1", "wEb 1", "web 1", "weB 1", "WEb 1", "wEB 1", "WeB 1", "W\u00eab 1"]
    made = await asyncio.gather(*(names.register(provider(each, region)) for each in spellings))
    slugs = [each.object.slug for each in made]
    assert len(set(slugs)) == len(slugs)
    assert {"web-1", *(f"web-1-{number}" for number in range(2, 10))} <= set(slugs)
    for each in made:
        assert await names.resolve("provider", region, each.object.name) == each.object.id
        assert await names.resolve("provider", region, each.object.slug) == each.object.id


async def test_a_name_that_is_somebodys_slug_is_taken(names: NameStore) -> None:
    region = new_id()
    await names.register(provider("Web 1", region))
    with pytest.raises(AlreadyExists):
        await names.register(provider("web-1", region))
    assert (await names.register(provider("web-7", region))).object.slug == "web-7"
    assert (await names.register(provider("Web 7", region))).object.slug == "web-7-2"


async def test_a_failed_creation_frees_its_name(names: NameStore, etcd: EtcdClient) -> None:
    region, id = new_id(), new_id()
    with pytest.raises(InvalidArgument):
        async with names.registering("provider", region, "gone", id, region=region):
            raise InvalidArgument("no")
    assert await keys_of(etcd, id) == []


async def test_a_crash_between_reserving_and_confirming_frees_the_name_after_the_lease(
    names: NameStore, etcd: EtcdClient
) -> None:
    region = new_id()
    with pytest.raises(Unavailable):
        async with names.registering("provider", region, "held", new_id(), region=region):
            raise Unavailable("the store went away in the middle")
    with pytest.raises(AlreadyExists):
        await names.register(provider("held", region))

    async def is_free() -> bool:
        return not await read_many(etcd, [keys.meta_name("provider", region, "held")])

    await eventually(is_free)
    other = await names.register(provider("held", region))
    assert await names.resolve("provider", region, "held") == other.object.id


async def test_recovery_confirms_what_was_stored_and_frees_the_rest(names: NameStore, etcd: EtcdClient) -> None:
    region, kept, lost = new_id(), new_id(), new_id()
    for name, id in (("kept", kept), ("lost", lost)):
        with pytest.raises(Unavailable):
            async with names.registering("provider", region, name, id, region=region):
                raise Unavailable("nobody knows")

    async def stored(ids: list[str]) -> list[str]:
        return [id for id in ids if id == kept]

    assert await names.recover(lambda each: each.region == region, stored) == 2
    assert await names.recover(lambda each: each.region == region, stored) == 0
    assert await names.resolve("provider", region, "kept") == kept
    assert await keys_of(etcd, lost) == []


async def test_a_retry_with_the_same_id_is_no_second_registration(names: NameStore) -> None:
    region, id = new_id(), new_id()
    with pytest.raises(Unavailable):
        async with names.registering("provider", region, "again", id, region=region):
            raise Unavailable("the answer was lost")
    for _ in range(2):
        async with names.registering("provider", region, "again", id, region=region):
            pass
    with pytest.raises(InvalidArgument):
        async with names.registering("provider", region, "again", id, region=region):
            raise InvalidArgument("refused this time; what is registered stays")
    assert await names.resolve("provider", region, "again") == id
    with pytest.raises(AlreadyExists) as refused:
        await names.register(provider("otherwise", region, id=id))
    assert refused.value.reason == "ALREADY_EXISTS"


async def test_a_retry_that_fails_leaves_what_an_earlier_attempt_reserved(names: NameStore) -> None:
    region, id = new_id(), new_id()
    with pytest.raises(Unavailable):
        async with names.registering("provider", region, "maybe", id, region=region):
            raise Unavailable("stored, but nobody heard of it")
    with pytest.raises(InvalidArgument):
        async with names.registering("provider", region, "maybe", id, region=region):
            raise InvalidArgument("the retry was refused")

    async def stored(ids: list[str]) -> list[str]:
        return ids

    assert await names.recover(lambda each: each.id == id, stored) == 1
    assert await names.resolve("provider", region, "maybe") == id


async def test_a_confirmation_after_the_lease_registers_anew(names: NameStore, etcd: EtcdClient) -> None:
    region, id = new_id(), new_id()

    async def is_free() -> bool:
        return not await read_many(etcd, [keys.meta_name("provider", region, "slow")])

    async with names.registering("provider", region, "slow", id, region=region):
        await eventually(is_free)
    assert await names.resolve("provider", region, "slow") == id
    assert keys.meta_reserved(id) not in await read_many(etcd, [keys.meta_reserved(id)])


async def test_objects_without_a_name(names: NameStore) -> None:
    project, id = new_id(), new_id()
    async with names.registering("machine", project, "", id, project=project) as made:
        pass
    assert (await names.lookup([id])) == {id: made}
    assert await names.resolve("machine", project, "") is None
    assert await names.remove(id)


async def test_nothing_is_put_into_a_deleted_region(names: NameStore, etcd: EtcdClient) -> None:
    region = new_id()
    plan = Plan()
    plan.put(keys.meta_deleted_region(region), b"")
    await commit(etcd, plan)
    with pytest.raises(NotFound, match="deleted"):
        await names.register(provider("late", region))
    assert [type(each) for each in await names.register_many([provider("late", region)])] == [NotFound]


async def test_rename_keeps_the_old_slug_for_a_while(names: NameStore) -> None:
    region = new_id()
    first = await names.register(provider("First Name", region))
    id = first.object.id
    assert await names.find(id) == first
    second = await names.rename(first, "Second Name")
    assert (second.object.name, second.object.slug) == ("Second Name", "second-name")
    assert await names.resolve("provider", region, "First Name") is None
    assert await names.resolve("provider", region, "first-name") == id
    with pytest.raises(Superseded):
        await names.rename(first, "Third Name")
    assert (await names.register(provider("FIRST NAME", region))).object.slug == "first-name-2"
    assert (await names.rename(second, "First Name")).object.slug == "first-name"
    assert await names.resolve("provider", region, "second-name") == id
    assert await names.remove(id)
    assert await names.resolve("provider", region, "second-name") is None


async def test_rename_to_a_taken_name_is_refused(names: NameStore) -> None:
    region = new_id()
    await names.register(provider("Taken Name", region))
    found = await names.register(provider("other", region))
    for name in ("Taken Name", "taken-name"):
        with pytest.raises(AlreadyExists):
            await names.rename(found, name)
    assert (await names.rename(found, "OTHER")).object.slug == "other"


async def test_ten_thousand_names_at_once(names: NameStore) -> None:
    region = new_id()
    objects = [provider(f"node-{number:05}", region) for number in range(10_000)]
    assert not any(await names.register_many(objects))
    assert await names.resolve("provider", region, "node-09999") == objects[-1].id
    assert not any(await names.register_many(objects))
    assert await names.remove_many([each.id for each in objects]) == 10_000
    assert await names.lookup([each.id for each in objects]) == {}


async def test_bulk_tells_for_each_why_not(names: NameStore) -> None:
    region = new_id()
    await names.register(provider("there", region))
    good, twin = provider("good", region), new_id()
    objects = [
        good,
        provider("there", region),
        provider("same", region),
        provider("same", region),
        provider(" padded", region),
        replace(good),
        provider("one", region, id=twin),
        provider("two", region, id=twin),
        provider("GOOD", region),
        NamedObject("provider", region, "", new_id(), region=region),
    ]
    reasons = [each and each.reason for each in await names.register_many(objects)]
    expected = [None, "NAME_TAKEN", None, "NAME_TAKEN", "INVALID_FIELD", None, None, "ALREADY_EXISTS", None, None]
    assert reasons == expected
    found = await names.resolve_many([("provider", region, each) for each in ("good", "same", "good-2", "padded")])
    assert found == [good.id, objects[2].id, objects[8].id, None]


async def test_bulk_gives_a_slug_that_several_ask_for_to_the_first(names: NameStore) -> None:
    for _ in range(40):
        region = new_id()
        await names.register(provider("there", region))
        # The one that is taken makes the others be tried by themselves.
        objects = [provider(name, region) for name in ("good", "there", "GOOD", "Good")]
        reasons = [each and each.reason for each in await names.register_many(objects)]
        assert reasons == [None, "NAME_TAKEN", None, None]
        slugs = await names.resolve_many([("provider", region, each) for each in ("good", "good-2", "good-3")])
        assert slugs == [objects[0].id, objects[2].id, objects[3].id]


async def lapsed(names: NameStore, etcd: EtcdClient, region: str, name: str) -> str:
    """Id of an object that was stored while its reservation ran out; somebody else has its name by now."""
    id = new_id()
    with pytest.raises(Unavailable):
        async with names.registering("provider", region, name, id, region=region):
            raise Unavailable("stored, but nobody heard of it")

    async def is_free() -> bool:
        return not await read_many(etcd, [keys.meta_name("provider", region, name)])

    await eventually(is_free)
    return id


async def test_recovery_goes_on_when_the_name_of_a_stored_object_is_somebody_elses_by_now(
    names: NameStore, etcd: EtcdClient
) -> None:
    region = new_id()
    first = await lapsed(names, etcd, region, "alice")
    second = (await names.register(provider("alice", region))).object.id

    async def stored(ids: list[str]) -> list[str]:
        return ids

    assert await names.recover(lambda each: each.region == region, stored) == 1
    assert await names.recover(lambda each: each.region == region, stored) == 0
    assert await names.resolve("provider", region, "alice") == second
    assert (await names.lookup([first]))[first].name == ""
    assert keys.meta_in_region(region, first) in await read_many(etcd, [keys.meta_in_region(region, first)])


async def test_recovery_goes_on_when_the_region_of_a_stored_object_was_deleted(
    names: NameStore, etcd: EtcdClient
) -> None:
    region = new_id()
    await lapsed(names, etcd, region, "alice")
    plan = Plan()
    plan.put(keys.meta_deleted_region(region), b"")
    await commit(etcd, plan)

    async def stored(ids: list[str]) -> list[str]:
        return ids

    assert await names.recover(lambda each: each.region == region, stored) == 1


async def test_recovery_forgets_a_reservation_that_ran_out(names: NameStore, etcd: EtcdClient) -> None:
    region = new_id()
    lost = await lapsed(names, etcd, region, "alice")

    async def stored(_: list[str]) -> list[str]:
        return []

    assert await names.recover(lambda each: each.region == region, stored) == 1
    assert await keys_of(etcd, lost) == []


async def test_removing_an_object_leaves_its_former_name_to_who_has_it_now(names: NameStore, etcd: EtcdClient) -> None:
    region = new_id()
    first = await lapsed(names, etcd, region, "alice")
    second = (await names.register(provider("alice", region))).object.id
    assert await names.remove(first)
    assert not await names.remove(first)
    assert await keys_of(etcd, first) == []
    assert await names.resolve("provider", region, "alice") == second
    assert keys.meta_in_region(region, second) in await read_many(etcd, [keys.meta_in_region(region, second)])


async def test_a_confirmation_that_etcd_missed_is_made_once_it_is_back(addresses: Addresses, state_dir: Path) -> None:
    """Nobody asks again: the request is answered from what its service stored."""
    async with running(EmbeddedEtcd, state_dir) as server:
        own = replace(addresses, etcd=(server.server.address,), tls_dir=state_dir / "tls")
        client = await etcd_store.connect(own)
        names, region, id = NameStore(client), new_id(), new_id()
        with pytest.raises(Unavailable):
            async with names.registering("provider", region, "patient", id, region=region):
                await server.kill()
        await server.start()

        async def is_registered() -> bool:
            with suppress(Unavailable):
                return await names.resolve("provider", region, "patient") == id
            return False

        await eventually(is_registered)
        assert not await read_prefix(client, keys.META_RESERVED)
        await names.close()
        await client.close()


async def test_an_object_that_lost_its_name_while_it_was_stored_is_kept_without(
    names: NameStore, etcd: EtcdClient
) -> None:
    region, id = new_id(), new_id()

    async def is_free() -> bool:
        return not await read_many(etcd, [keys.meta_name("provider", region, "wanted")])

    other = provider("wanted", region)

    async def store_slowly() -> None:
        await eventually(is_free)
        await names.register(other)

    with pytest.raises(AlreadyExists):
        async with names.registering("provider", region, "wanted", id, region=region):
            await store_slowly()

    async def is_kept() -> bool:
        return id in await names.lookup([id])

    await eventually(is_kept)
    assert await names.resolve("provider", region, "wanted") == other.id
