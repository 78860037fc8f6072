"""Who may ask what of which region, and which shards are asked."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from gateways.authentication import Identity
from gateways.gateway import SERVICES
from gateways.methods import Method, methods_of
from gateways.routing import MAX_PASSAGES, Passage, Regions, Router
from mulligan.caller import Caller, Grant
from mulligan.errors import InvalidArgument, MulliganError, NotFound, PermissionDenied
from mulligan.ids import new_id
from mulligan.meta.regions import RegionRecord
from tests.gateway_parts import ADMIN, MEMBER, MemoryPrefix, Signer, region

METHODS = {(name, method.name): method for name, service in SERVICES.items() for method in methods_of(service)}
CREATE = METHODS["resource", "CreateClaim"]
LIST = METHODS["resource", "ListProviders"]
ADD = METHODS["resource", "CreateProvider"]
DEFINE = METHODS["resource", "DefineVocabulary"]
SET_QUOTA = METHODS["resource", "SetQuota"]
EXPLAIN = METHODS["resource", "ExplainClaim"]
CONFIGURE = METHODS["resource", "ResourceConfigure"]

PROJECT = new_id()


class World:
    """earth (default) over north (shard n) and south (shard s), a hidden root, one root for the project alone."""

    def __init__(self) -> None:
        self.watched = MemoryPrefix()
        self.regions = Regions(self.watched)
        self.served = ["n", "s"]
        self.routers = {name: Router(name, self.regions, lambda: self.served) for name in SERVICES}
        self.signer = Signer()
        self.earth = self.add(region())
        self.north = self.add(region(self.earth, "n"))
        self.south = self.add(region(self.earth, "s"))
        self.hidden = self.add(region("", "h", "internal"))
        self.own = self.add(region("", "o", "projects", (PROJECT,)))

    def add(self, record: RegionRecord) -> str:
        """A region that is there from now on; its id."""
        self.watched.put(record.id, record.to_json())
        return record.id

    def identity(self, *grants: Grant, project: str = PROJECT) -> Identity:
        """A token with these grants."""
        return Identity(self.signer.caller(*grants, project=project))

    def ask(self, identity: Identity, method: Method, region_id: str = "") -> Passage:
        """The passage of a request that names this region."""
        fields = {method.region_field: region_id} if method.region_field else {}
        return self.routers[method.service].passage(identity, method, method.request(**fields).SerializeToString())

    def refusal(self, identity: Identity, method: Method, region_id: str = "") -> tuple[type[MulliganError], str]:
        """Kind and reason of the refusal."""
        with pytest.raises(MulliganError) as refused:
            self.ask(identity, method, region_id)
        return type(refused.value), refused.value.reason


def test_a_region_leads_to_its_shard_and_the_service_sees_what_let_the_request_in() -> None:
    world = World()
    passage = world.ask(world.identity(MEMBER), CREATE, world.north)
    assert passage.shards == ("n",)
    assert (passage.caller.permission, passage.caller.system) == ("resource.claim.create", False)
    assert world.ask(world.identity(ADMIN, project=""), CREATE, world.north).caller.system


def test_a_region_above_leads_to_all_shards_below_it() -> None:
    world = World()
    assert sorted(world.ask(world.identity(MEMBER), CREATE, world.earth).shards) == ["default", "n", "s"]


def test_without_a_region_all_that_the_caller_may_see_is_asked() -> None:
    world = World()
    assert set(world.ask(world.identity(MEMBER), LIST).shards) == {"default", "n", "s", "o"}
    assert set(world.ask(world.identity(MEMBER, project=new_id()), LIST).shards) == {"default", "n", "s"}
    assert set(world.ask(world.identity(ADMIN), LIST).shards) == {"default", "n", "s", "h", "o"}


def test_a_method_for_one_shard_wants_it_named_and_the_refusal_tells_by_what() -> None:
    world = World()
    west = world.add(region(world.south))
    for method, region_id in ((SET_QUOTA, ""), (EXPLAIN, ""), (EXPLAIN, world.earth)):
        with pytest.raises(InvalidArgument) as refused:
            world.ask(world.identity(MEMBER, ADMIN, project=new_id()), method, region_id)
        assert refused.value.reason == "REGION_AMBIGUOUS"
        listed = set(refused.value.metadata["regions"].split(","))
        assert {world.north, world.south} <= listed
        assert not {west, world.earth} & listed
    assert world.ask(world.identity(MEMBER), EXPLAIN, world.south).shards == ("s",)


def test_a_refusal_names_no_region_that_the_caller_may_not_know_of() -> None:
    world = World()
    world.add(region("", "n", "internal"))
    with pytest.raises(InvalidArgument) as refused:
        world.ask(world.identity(MEMBER, project=new_id()), EXPLAIN)
    assert set(refused.value.metadata["regions"].split(",")) == {world.north, world.south}


def test_what_is_made_in_a_region_goes_to_its_own_shard_also_when_others_own_what_is_below() -> None:
    world = World()
    assert world.ask(world.identity(ADMIN), SET_QUOTA, world.earth).shards == ("default",)
    assert world.ask(world.identity(ADMIN), DEFINE, world.north).shards == ("n",)


@pytest.mark.parametrize("text", ["north", "0190b5a4-7c1e-7000-8000-0123456789a", "x" * 500, "{" + new_id()[:34] + "}"])
def test_a_region_that_is_no_uuid(text: str) -> None:
    world = World()
    assert world.refusal(world.identity(MEMBER), CREATE, text) == (InvalidArgument, "INVALID_UUID")


def test_a_region_in_capital_letters_is_the_same_region() -> None:
    world = World()
    assert world.ask(world.identity(MEMBER), CREATE, world.north.upper()).shards == ("n",)


def test_a_region_that_may_not_be_seen_is_told_like_one_that_is_not_there() -> None:
    world = World()
    stranger = world.identity(MEMBER, project=new_id())
    messages = []
    for region_id in (new_id(), world.hidden, world.own):
        with pytest.raises(NotFound) as refused:
            world.ask(stranger, CREATE, region_id)
        messages.append(refused.value.message.replace(region_id, "ID"))
    assert len(set(messages)) == 1
    assert world.ask(world.identity(MEMBER), CREATE, world.own).shards == ("o",)
    assert world.ask(world.identity(ADMIN), CREATE, world.hidden).shards == ("h",)


def test_who_may_not_do_it_anywhere_learns_nothing_of_regions() -> None:
    world = World()
    reader = world.identity(Grant("reader", False, ""))
    for region_id in ("", world.north, world.hidden, new_id(), "nonsense"):
        assert world.refusal(reader, CREATE, region_id) == (PermissionDenied, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    ("grant", "allowed"),
    [
        (Grant("admin", True, ""), True),
        (Grant("operator", True, ""), True),
        (Grant("member", True, ""), False),
        (Grant("admin", False, ""), False),
        (Grant("unknown", True, ""), False),
    ],
)
def test_a_system_permission_needs_a_system_assignment(grant: Grant, allowed: bool) -> None:
    world = World()
    if allowed:
        assert world.ask(world.identity(grant), SET_QUOTA, world.north).caller.system
    else:
        assert world.refusal(world.identity(grant), SET_QUOTA, world.north)[0] is PermissionDenied


def test_a_project_assignment_counts_only_in_a_project() -> None:
    world = World()
    assert world.refusal(world.identity(MEMBER, project=""), CREATE, world.north)[0] is PermissionDenied


def test_an_assignment_that_is_bound_to_a_region_counts_in_its_tree() -> None:
    world = World()
    bound = world.identity(Grant("member", False, world.north))
    assert world.ask(bound, CREATE, world.north).shards == ("n",)
    for region_id in (world.south, world.earth):
        assert world.refusal(bound, CREATE, region_id) == (PermissionDenied, "PERMISSION_DENIED")
    assert world.refusal(bound, CREATE) == (PermissionDenied, "PERMISSION_DENIED"), "it has to name a region"
    above = world.identity(Grant("member", False, world.earth))
    assert world.ask(above, CREATE, world.south).shards == ("s",)


def test_a_bound_assignment_of_the_system_shows_its_own_tree_alone() -> None:
    world = World()
    bound = world.identity(Grant("operator", True, world.hidden), project="")
    assert world.ask(bound, ADD, world.hidden).shards == ("h",)
    assert world.refusal(bound, ADD, world.north)[0] is PermissionDenied
    assert world.refusal(bound, ADD, world.own)[0] is NotFound
    for method in (DEFINE, SET_QUOTA):
        assert world.refusal(bound, method, world.hidden)[0] is PermissionDenied, "these are the whole shard's"


def test_services_that_are_not_partitioned_have_one_shard() -> None:
    world = World()
    assert world.ask(world.identity(MEMBER), METHODS["iam", "WhoAmI"]).shards == ("global",)
    bound = world.identity(Grant("member", False, world.north))
    assert world.ask(bound, METHODS["meta", "ListRegions"]).shards == ("global",)


def test_a_method_without_a_region_goes_to_any_shard_that_is_served() -> None:
    world = World()
    admin = world.identity(ADMIN)
    for served, expected in ((["n", "s"], "n"), (["default", "n"], "default"), ([], "default"), (["s"], "s")):
        world.served = served
        assert world.ask(admin, CONFIGURE).shards == (expected,)


def test_what_is_no_message_is_refused_before_anything_else_is_said_of_it() -> None:
    world = World()
    with pytest.raises(InvalidArgument) as refused:
        world.routers["resource"].passage(world.identity(MEMBER), CREATE, b"\xff\xff\xff")
    assert refused.value.reason == "MALFORMED_MESSAGE"


def test_decisions_are_remembered_until_the_regions_change() -> None:
    world = World()
    identity = world.identity(MEMBER)
    first = world.ask(identity, CREATE, world.earth)
    assert world.ask(identity, CREATE, world.earth) is first
    record = region(world.earth, "w")
    world.watched.put(record.id, record.to_json())
    assert sorted(world.ask(identity, CREATE, world.earth).shards) == ["default", "n", "s", "w"]
    world.watched.delete(world.north)
    assert world.refusal(identity, CREATE, world.north)[0] is NotFound


def test_a_caller_that_names_many_regions_does_not_fill_memory() -> None:
    world = World()
    identity = world.identity(MEMBER)
    writings: list[Callable[[str], str]] = [str.lower, str.upper]
    letters = [at for at, letter in enumerate(world.north) if letter.isalpha()][:9]
    for count in range(1, len(letters)):
        for some in itertools.combinations(letters, count):
            text = "".join(writings[at in some](letter) for at, letter in enumerate(world.north))
            world.ask(identity, CREATE, text)
            assert len(identity.passages) <= MAX_PASSAGES


def test_a_system_without_regions_lists_nothing_and_refuses_the_rest() -> None:
    regions = Regions(MemoryPrefix())
    router = Router("resource", regions, list)
    caller: Caller = Signer().caller(ADMIN)
    assert router.passage(Identity(caller), LIST, b"").shards == ()
    with pytest.raises(NotFound):
        router.passage(Identity(caller), CREATE, b"")
