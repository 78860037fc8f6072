"""Regions as trees."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mulligan.caller import Caller, Grant
from mulligan.errors import NotFound
from mulligan.meta.regions import INTERNAL, PROJECTS, RegionRecord, RegionTree

TENANT = Caller(account="a", project="p1", grants=(Grant("member", False, ""),))
OPERATOR = Caller(account="o", project="", grants=(Grant("operator", True, ""),))


def tree(*records: RegionRecord) -> RegionTree:
    return RegionTree({record.id: record.to_json() for record in records})


EARTH = tree(
    RegionRecord("eu", "", ""),
    RegionRecord("eu-de", "eu", "germany"),
    RegionRecord("eu-de-1", "eu-de", ""),
    RegionRecord("eu-fr", "eu", "", PROJECTS, ("p1",)),
    RegionRecord("us", "", "america", INTERNAL),
    RegionRecord("us-1", "us", ""),
)


def test_records_survive_storage_and_unknown_fields() -> None:
    record = RegionRecord("r", "p", "s", PROJECTS, ("p1",), {"power": ("two feeds", ("q",))}, 3, 99)
    stored = json.loads(record.to_json())
    assert RegionRecord.from_json(json.dumps({**stored, "newer": 1}).encode()) == record


def test_shards_are_inherited_from_the_nearest_region_that_names_one() -> None:
    assert {region: EARTH.shard_of(region) for region in EARTH} == {
        "eu": "default",
        "eu-de": "germany",
        "eu-de-1": "germany",
        "eu-fr": "default",
        "us": "america",
        "us-1": "america",
    }
    assert EARTH.shards == {"default", "germany", "america"}
    assert EARTH.regions_of("germany") == ["eu-de", "eu-de-1"]


def test_walking() -> None:
    assert EARTH.parent_of("eu-de-1") == "eu-de"
    assert EARTH.path("eu-de-1") == ["eu-de-1", "eu-de", "eu"]
    assert EARTH.children("") == ["eu", "us"]
    assert EARTH.descendants("eu") == ["eu", "eu-de", "eu-fr", "eu-de-1"]
    assert sorted(EARTH.descendants("")) == list(EARTH)
    assert EARTH.is_within("eu-de-1", "eu")
    assert not EARTH.is_within("eu", "eu-de-1")
    assert not EARTH.is_within("nowhere", "eu")
    with pytest.raises(NotFound, match="nowhere"):
        EARTH.shard_of("nowhere")


def test_who_sees_what() -> None:
    assert EARTH.visible(OPERATOR) == list(EARTH)
    assert EARTH.visible(TENANT) == ["eu", "eu-de", "eu-de-1", "eu-fr"]
    assert EARTH.visible(Caller("b", "p2", ())) == ["eu", "eu-de", "eu-de-1"]
    american = Caller("c", "", (Grant("operator", True, "us"),))
    assert EARTH.visible(american) == ["eu", "eu-de", "eu-de-1", "us", "us-1"]
    assert EARTH.visible(replace(american, system=True)) == EARTH.visible(american)
    assert EARTH.visible(Caller("", "", (), system=True)) == list(EARTH)
    assert not EARTH.is_visible("nowhere", OPERATOR)


def test_shards_to_ask_are_those_of_visible_regions() -> None:
    assert EARTH.shards_under("", TENANT) == ["default", "germany"]
    assert EARTH.shards_under("eu-de", TENANT) == ["germany"]
    assert EARTH.shards_under("us", TENANT) == []


def test_cycles_orphans_and_rubbish_are_left_out() -> None:
    records = [RegionRecord("a", "b", ""), RegionRecord("b", "a", ""), RegionRecord("c", "c", "")]
    items = {each.id: each.to_json() for each in [*records, RegionRecord("d", "gone", ""), RegionRecord("e", "", "")]}
    assert list(RegionTree({**items, "f": b"rubbish", "g": b"[]"})) == ["e"]


@given(st.lists(st.integers(min_value=-1, max_value=30), max_size=30))
def test_any_parents_make_trees_that_can_be_walked(parents: list[int]) -> None:
    records = [RegionRecord(str(i), str(p) if p >= 0 else "", "") for i, p in enumerate(parents)]
    made = tree(*records)
    for region in made:
        assert made.parent_of(made.path(region)[-1]) == ""
        assert made.is_within(region, made.path(region)[-1])
    assert sorted(made.descendants("")) == list(made)
