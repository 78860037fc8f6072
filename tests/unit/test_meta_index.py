"""The index of objects and the log of their changes, against plain models of both."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mulligan.caller import Caller, Grant
from mulligan.meta.index import Change, ChangeLog, ObjectIndex
from mulligan.meta.policy import Eyes, Facets
from mulligan.meta.regions import RegionRecord, RegionTree

TREE = RegionTree({"r": RegionRecord("r", "", "").to_json()})
ADMIN = Eyes(Caller("a", "", (Grant("admin", True, ""),), system=True), TREE)
TENANT = Eyes(Caller("account-1", "p1", (Grant("member", False, ""),)), TREE)

facets = st.builds(
    Facets,
    kind=st.sampled_from(["machine", "provider", "project", "account"]),
    project=st.sampled_from(["", "p1", "p2"]),
    region=st.sampled_from(["r", "gone"]),
    tags=st.sampled_from([(), ("a",), ("a", "b"), ("b",)]),
)
ids = st.sampled_from([f"id-{number:02}" for number in range(20)] + ["p1", "account-1"])
steps = st.lists(st.tuples(ids, st.none() | facets), max_size=60)


@given(steps, st.sampled_from(["", "machine", "account"]), st.sampled_from([(), ("a",), ("a", "b")]), ids)
def test_lists_are_what_filtering_everything_gives(
    done: list[tuple[str, Facets | None]], kind: str, tags: tuple[str, ...], after: str
) -> None:
    index, model = ObjectIndex(), dict[str, Facets]()
    for object_id, each in done:
        if each is None:
            assert index.remove(object_id) == model.pop(object_id, None)
        else:
            index.put(object_id, each)
            model[object_id] = each
    assert len(index) == len(model)
    for eyes in (ADMIN, TENANT):
        found = [(id, each) for id, each in index.candidates(eyes, kind, tags, after) if eyes.sees(id, each)]
        assert found == sorted(
            (id, each)
            for id, each in model.items()
            if id > after and kind in ("", each.kind) and set(tags) <= set(each.tags) and eyes.sees(id, each)
        )


def test_a_tenant_is_not_shown_through_what_others_own() -> None:
    index = ObjectIndex()
    for number in range(1000):
        index.put(f"m{number:04}", Facets("machine", "p2", "r"))
    index.put("mine", Facets("machine", "p1", "r"))
    index.put("p1", Facets("project", "", ""))
    assert [id for id, _ in index.candidates(TENANT, "", (), "")] == ["mine", "p1"]


@given(st.lists(st.tuples(st.integers(0, 3), ids, st.booleans()), max_size=80), st.integers(0, 60))
def test_the_log_knows_all_changes_since_its_base(done: list[tuple[int, str, bool]], since: int) -> None:
    log, revision, everything = ChangeLog(5, limit=10), 5, list[Change]()
    for step, object_id, deleted in done:
        revision = revision + step if everything else revision + step + 1
        everything.append(Change(revision, object_id, Facets("machine", "", "") if deleted else None))
        log.append(everything[-1])
        assert len(log._changes) <= 10
    since += log.base
    latest = {each.id: each for each in everything if each.revision > since}
    assert {each.id: each for each in log.since(since)} == latest
    told = [each.revision for each in log.since(since)]
    assert told == sorted(told)


def test_the_log_takes_in_what_was_before_it() -> None:
    log = ChangeLog(10)
    log.append(Change(11, "b"))
    log.prepend(4, [Change(10, "a"), Change(10, "b")])
    assert [(each.revision, each.id) for each in log.since(4)] == [(10, "a"), (11, "b")]
    assert [each.id for each in log.since(10)] == ["b"]
    log.prepend(7, [Change(10, "never")])
    assert log.base == 4
    assert "never" not in {each.id for each in log.since(4)}
