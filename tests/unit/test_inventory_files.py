"""Deployment and claim files: those that come along, and a table of wrong ones with what is told of each."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from mulligan.api.resource.v1.claim_pb2 import STRATEGY_SPREAD
from mulligan.clock import SECOND, to_timestamp
from mulligan.errors import InvalidArgument
from mulligan.ids import new_id
from mulligan.inventory import packaged_claim, packaged_deployment, parse_claim, parse_deployment, read_deployment
from mulligan.inventory.document import parse_document
from mulligan.inventory.expansion import Level, groups_of, nodes_of, position_of, provider_config, spans, vocabulary
from mulligan.inventory.times import parse_time

NOW = 1_800_000_000 * SECOND
DAY = 86_400 * SECOND

DEPLOYMENT = """\
distance_types:
  network: [local, site, remote]
profiles:
  small:
    provider_type: compute
    capabilities: [cpu.x86.avx2]
    inventory:
      cpu.shared: {total: 24, allocation_ratio: 16.0}
      memory: {total: 1024, reserved: 24, min_unit: 8, max_unit: 512, step_size: 8}
layout:
  sites: [east, west]
  rows_per_site: 2
  racks_per_row: 2
  nodes_per_rack: 3
default_profile: small
"""

CLAIM = """\
acquire: +1d
groups:
  - name: a
    resources:
      cpu.shared: {min: 1, max: 1}
  - name: b
    exclusive: true
    distance:
      - {from_group: a, type: failure, at_least: rack}
"""


@pytest.mark.parametrize(("name", "nodes"), [("100-shared", 100), ("2k-shared", 2000), ("10k-shared", 10_000)])
def test_the_deployments_that_come_along_say_how_large_they_are(name: str, nodes: int) -> None:
    deployment = packaged_deployment(name)
    assert deployment.layout.nodes == nodes
    assert sum(1 for site in deployment.layout.sites for _ in nodes_of(deployment, site)) == nodes


def test_a_machine_belongs_to_its_three_groups_and_has_its_profile() -> None:
    deployment = packaged_deployment("2k-mixed")
    nodes = {node.name: node for node in nodes_of(deployment, "east")}
    assert nodes["east-row1-rack2-node20"].groups == ("east", "east-row1", "east-row1-rack2")
    assert nodes["east-row1-rack2-node20"].profile == "dedicated-12cpu-64g-4t-ssd"
    assert nodes["east-row1-rack3-node1"].profile == deployment.default_profile
    names = [group.name for group in groups_of(deployment, "east")]
    assert len(names) == len(set(names)) == 1 + 2 + 2 * 25
    ids = {name: new_id() for name in names}
    config = provider_config(deployment.profiles["dedicated-12cpu-64g-4t-ssd"], ("east", "east-row1"), ids)
    assert list(config.groups) == [ids["east"], ids["east-row1"]]
    assert {each.resource_type: each.total for each in config.inventories} == {
        "cpu.shared": 12,
        "memory": 68_719_476_736,
        "storage.block": 4_000_000_000_000,
    }


def test_distances_of_racks_rows_and_sites() -> None:
    deployment = packaged_deployment("10k-shared")
    seen = {level: {span.distance_type: span.position for span in spans(deployment, level)} for level in Level}
    assert seen == {
        Level.RACK: {"network": "local", "failure": "local"},
        Level.ROW: {"network": "site", "failure": "rack"},
        Level.SITE: {"network": "site", "failure": "row"},
    }
    assert [position_of(("near", "far"), level) for level in Level] == ["near", "near", "near"]


def test_the_vocabulary_is_everything_that_profiles_use() -> None:
    words = vocabulary(packaged_deployment("2k-mixed"))
    assert list(words.capabilities) == ["cpu.x86.avx2", "cpu.x86.vmx", "storage.disk.hdd", "storage.disk.ssd"]
    assert {each.code: each.unit for each in words.resource_types} == {
        "cpu.shared": "cores",
        "memory": "bytes",
        "storage.block": "bytes",
    }
    assert {each.code: list(each.positions) for each in words.distance_types} == {
        "failure": ["local", "rack", "row", "site"],
        "network": ["local", "site", "remote"],
    }


def test_optional_keys() -> None:
    text = DEPLOYMENT + "version: 1\nroot: mars\nunits: {cpu.shared: threads}\ngroup_profiles: {east-row2: small}\n"
    deployment = parse_deployment(text, "a.yaml")
    assert deployment.root == "mars"
    assert {each.code: each.unit for each in vocabulary(deployment).resource_types}["cpu.shared"] == "threads"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("layout:", "layuot:", r"unknown key 'layuot'; known are default_profile, distance_types"),
        ("  nodes_per_rack: 3\n", "", r"line 10: layout: nodes_per_rack is missing; add it"),
        ("nodes_per_rack: 3", "nodes_per_rack: 0", r"line 14: layout.nodes_per_rack: this must be at least 1, not 0"),
        ("nodes_per_rack: 3", "nodes_per_rack: 3.0", r"line 14: layout.nodes_per_rack: .* a whole number, not 3.0"),
        ("{total: 24,", "{total: 24.0,", r"total: this must be a whole number, not 24.0"),
        ("cpu.x86.avx2", "c" * 65, r"capabilities\[0\]: this takes at most 64 characters, not 65"),
        ("default_profile: small", f"default_profile: small\nunits: {{memory: {'b' * 33}}}", r"at most 32 characters"),
        ("nodes_per_rack: 3", "nodes_per_rack: many", r"must be a whole number, not \"many\""),
        (
            "nodes_per_rack: 3",
            "nodes_per_rack: 3\n  nodes_per_rack: 4",
            r"line 15: layout.nodes_per_rack is given twice",
        ),
        ("[east, west]", "[east, east]", r"layout.sites: \"east\" is given twice"),
        ("[east, west]", "[east, no]", r"layout.sites\[1\]: this must be text .*quotes.*, not false"),
        ("[east, west]", "[]", r"layout.sites: this needs at least 1 items"),
        ("[east, west]", "[earth]", r"layout.sites\[0\]: 'earth' is the root region's name too"),
        ("[east, west]", "[east, east-row1]", r"layout.sites: a site is named like a row or rack of another one"),
        ("[east, west]", '[" east"]', r"layout.sites\[0\]: .*space"),
        ("default_profile: small", "default_profile: large", r"there is no profile 'large'; there are small"),
        (
            "default_profile: small",
            "default_profile: small\ngroup_profiles: {east-row9: small}",
            r"no such site, row or rack",
        ),
        ("default_profile: small", "default_profile: small\ngroup_profiles: {east-row1: tiny}", r"no profile 'tiny'"),
        ("default_profile: small", "default_profile: small\nunits: {gpu: cards}", r"units.gpu: no profile has this"),
        ("default_profile: small", "default_profile: small\nversion: 2", r"version: this must be 1, not 2"),
        ("{total: 24,", "{", r"line 8: profiles.small.inventory\[cpu.shared\]: total is missing"),
        ("reserved: 24", "reserved: 4096", r"profiles.small.inventory.memory: reserved 4096 is more than total 1024"),
        ("reserved: 24", "reserved: 1024", r"the capacity 0 is less than min_unit 8"),
        ("reserved: 24", "reserved: -1", r"reserved: this must be at least 0, not -1"),
        ("max_unit: 512", "max_unit: 4", r"min_unit 8 is more than max_unit 4"),
        ("step_size: 8", "step_size: 1000", r"no multiple of step_size 1000"),
        ("step_size: 8", "stepsize: 8", r"unknown key 'stepsize'; known are allocation_ratio"),
        ("16.0", "0", r"allocation_ratio: this must be more than 0"),
        ("16.0", ".inf", r"allocation_ratio"),
        ("cpu.x86.avx2", "CPU AVX2", r"capabilities\[0\]: \"CPU AVX2\" must be lower-case words joined by dots"),
        ("      memory:", "      Memory:", r"lower-case words"),
        ("[local, site, remote]", "[local]", r"distance_types.network: this needs at least 2 items"),
        ("[local, site, remote]", "[a, b, c, d, e]", r"distance_types.network: this takes at most 4 items"),
        ("[local, site, remote]", "[local, local]", r"\"local\" is given twice"),
        (
            "rows_per_site: 2",
            "rows_per_site: 10000",
            r"rows_per_site: this must be|makes .* machines|more than 1000000",
        ),
        ("layout:", "layout: &a [*a]\nx:", r"given twice|nests too deeply|unknown key|not valid YAML"),
        ("layout:", "1: 2\nlayout:", r"the key 1 is not text"),
        ("layout:\n", "layout: {\n", r"line \d+: this is not valid YAML"),
    ],
)
def test_a_wrong_deployment_is_refused_with_its_place(old: str, new: str, complaint: str) -> None:
    assert old in DEPLOYMENT
    text = DEPLOYMENT.replace(old, new, 1).replace("racks_per_row: 2", "racks_per_row: 2")
    if "rows_per_site: 10000" in text:
        text = text.replace("nodes_per_rack: 3", "nodes_per_rack: 10000")
    with pytest.raises(InvalidArgument, match=complaint) as caught:
        parse_deployment(text, "dc.yaml")
    assert caught.value.message.startswith("dc.yaml")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["", "[]", "a", "null"])
def test_a_file_that_is_no_mapping(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"dc\.yaml, line 1: this must be a mapping"):
        parse_deployment(text, "dc.yaml")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"cannot read .*No such file"):
        read_deployment(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidArgument, match="not UTF-8"):
        read_deployment(tmp_path / "binary.yaml")


@pytest.mark.parametrize("value", ["!!int abc", "!!int ''", "!!bool maybe", "!!float x", "!!timestamp x", "9" * 5000])
def test_a_value_that_is_not_what_its_tag_says_is_refused_with_its_line(value: str) -> None:
    with pytest.raises(InvalidArgument, match=r"c\.yaml, line 2: .*; write it plainly"):
        parse_document(f"version: 1\ngroups: {value}", "c.yaml", "claim")
    with pytest.raises(InvalidArgument, match=r"c\.yaml, line 2: "):
        parse_document(f"version: 1\n? {value}\n: 1", "c.yaml", "claim")


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_a_file_may_not_nest_without_end(opening: str) -> None:
    with pytest.raises(InvalidArgument, match=r"c\.yaml, line [23]: .*nests too deeply"):
        parse_document("version: 1\ngroups: " + "\n" * (opening == "- ") + opening * 3000, "c.yaml", "claim")


def test_aliases_may_not_explode() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for before, name in zip("abcdefg", "bcdefgh", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    with pytest.raises(InvalidArgument, match="repeats itself by aliases"):
        parse_document(bomb, "bomb.yaml", "claim")


def test_the_claims_that_come_along() -> None:
    spec = packaged_claim("two-groups-apart").spec(NOW, {})
    assert [(group.name, len(group.resources)) for group in spec.groups] == [("a", 3), ("b", 3)]
    assert [(each.distance_type, each.at_least, each.at_most) for each in spec.groups[1].distances] == [
        ("failure", "rack", ""),
        ("network", "", "site"),
    ]
    later = packaged_claim("reservation-next-week").spec(NOW, {})
    assert (later.acquire, later.release) == (to_timestamp(NOW + 7 * DAY), to_timestamp(NOW + 9 * DAY))
    assert later.groups[0].exclusive
    assert later.groups[0].resources[0].max == 0
    vector = packaged_claim("1cpu-64m-10g-resource-capability").spec(NOW, {})
    assert list(vector.groups[0].resources[0].capabilities.require) == ["cpu.x86.avx2"]
    assert not packaged_claim("1cpu-64m-10g").spec(NOW, {}).HasField("acquire")


def test_every_key_of_a_claim() -> None:
    consumer, rack, other, project = new_id(), new_id(), new_id(), new_id()
    text = f"""
version: 1
consumer: {consumer}
project: lab
acquire: 2027-03-01T08:00:00+01:00
release: 2027-03-02T08:00:00Z
strategy: spread
groups:
  - resources: {{cpu.shared: {{min: 2}}}}
    capabilities: [{{require: [a]}}, {{forbid: [b], any: [c, d]}}]
    provider_groups: {{any: [rack1, {other}], forbid: [rack1]}}
"""
    claim = parse_claim(text, "c.yaml")
    assert claim.project == "lab"
    assert sorted(claim.provider_groups()) == sorted(["rack1", other])
    spec = claim.spec(NOW, {"rack1": rack, other: other}, project)
    assert (spec.consumer, spec.project, spec.strategy) == (consumer, project, STRATEGY_SPREAD)
    assert spec.acquire.ToJsonString() == "2027-03-01T07:00:00Z"
    [group] = spec.groups
    assert list(group.provider_groups.any) == [rack, other]
    assert list(group.provider_groups.forbid) == [rack]
    assert [list(each.any) for each in group.capabilities] == [[], ["c", "d"]]
    single = parse_claim("groups: [{exclusive: true, capabilities: {require: [a]}}]", "c.yaml").spec(NOW, {})
    assert list(single.groups[0].capabilities[0].require) == ["a"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("groups:", "group:", "unknown key 'group'"),
        ("max: 1", "max: 0", "must be at least 1"),
        ("max: 1", "max: 2", r"groups\[0\].resources\[cpu.shared\].max: more than min is given only with exclusive"),
        ("min: 1", "min: 5", "max 1 is less than min 5"),
        ("min: 1", "min: 1.5", "must be a whole number, not 1.5"),
        ("min: 1", "min: 1.0", "must be a whole number, not 1.0"),
        ("min: 1,", "", "min is missing"),
        ("name: b", "name: a", "two groups are named 'a'"),
        ("from_group: a", "from_group: b", "no group 'b' stands before this one; there are a"),
        (", at_least: rack", "", "it bounds nothing"),
        ("exclusive: true", "exclusive: false", "it asks for nothing"),
        ("exclusive: true", "exclusive: 1", "must be true or false, not 1"),
        ("acquire: +1d", "acquire: 1", "acquire: this must be text"),
        ("acquire: +1d", "acquire: +1d\nstrategy: fill", 'must be one of pack, spread, random, not "fill"'),
        ("acquire: +1d", "acquire: +1d\nrelease: +1h", "release: this is not after acquire"),
        ("acquire: +1d", "acquire: tomorrow", "acquire: 'tomorrow' is no time; a time is now"),
        ("acquire: +1d", "acquire: 2027-01-01", "has no time zone; write 2027-01-01T00:00:00Z for UTC"),
        ("acquire: +1d", "acquire: 2027-01-01T08:00", "write 2027-01-01T08:00Z for UTC"),
    ],
)
def test_a_wrong_claim_is_refused_with_its_place(old: str, new: str, complaint: str) -> None:
    assert old in CLAIM
    with pytest.raises(InvalidArgument) as caught:
        parse_claim(CLAIM.replace(old, new, 1), "c.yaml").spec(NOW, {})
    assert complaint.replace("\\", "") in caught.value.message
    assert caught.value.message.startswith("c.yaml, line ")


@pytest.mark.parametrize(
    ("text", "offset_s"),
    [("now", 0), ("+7d", 7 * 86_400), ("+2h30m", 9_000), ("+90s", 90), ("+1w2d", 9 * 86_400), ("+0s", 0)],
)
def test_times_from_now(text: str, offset_s: int) -> None:
    assert parse_time(text, NOW) == NOW + offset_s * SECOND


@pytest.mark.parametrize(
    "text", ["", "+", "7d", "+7", "-7d", "+7d7d", "+1h1d", "2027-13-01T00:00Z", "+999999d9999999h"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|years"):
        parse_time(text, 253_000_000_000 * SECOND)


def test_the_schemas_are_documented_and_their_defaults_are_true() -> None:
    for name in ("deployment", "claim"):
        schema = yaml.safe_load((files("mulligan.inventory") / f"{name}.schema.json").read_text())
        assert schema["properties"]["version"]["const"] == 1
        assert schema["description"]
