"""Who may see and change which object: every kind against every sort of caller."""

from __future__ import annotations

import pytest

from mulligan.caller import Caller, Grant
from mulligan.errors import NotFound, PermissionDenied
from mulligan.meta.model import NamedObject
from mulligan.meta.policy import Eyes, Facets
from mulligan.meta.regions import INTERNAL, RegionRecord, RegionTree

TREE = RegionTree(
    {
        each.id: each.to_json()
        for each in (
            RegionRecord("open", "", ""),
            RegionRecord("hidden", "", "", INTERNAL),
            RegionRecord("hidden-1", "hidden", ""),
        )
    }
)

CHANGE = "meta.name.update"
CALLERS = {
    "admin": Caller("a", "", (Grant("admin", True, ""),), permission=CHANGE, system=True),
    "ours": Caller("", "", (), system=True),
    "operator of hidden": Caller("o", "", (Grant("operator", True, "hidden"),), permission=CHANGE, system=True),
    "the same, no permission told": Caller("o", "", (Grant("operator", True, "hidden"),), system=True),
    "member": Caller("m", "p", (Grant("member", False, ""),), permission=CHANGE),
    "other": Caller("x", "q", (Grant("member", False, ""),), permission=CHANGE),
    "nowhere": Caller("n", "", (), permission=CHANGE),
}
OBJECTS = {
    "region": NamedObject("region", "", "open", "open"),
    "hidden region": NamedObject("region", "", "hidden-1", "hidden-1", region="hidden"),
    "provider": NamedObject("provider", "open", "n", "n", region="open"),
    "hidden group": NamedObject("provider_group", "hidden-1", "g", "g", region="hidden-1"),
    "stray provider": NamedObject("provider", "gone", "s", "s", region="gone"),
    "machine": NamedObject("machine", "p", "m1", "m1", "p", "open"),
    "hidden machine": NamedObject("machine", "p", "m2", "m2", "p", "hidden-1"),
    "project": NamedObject("project", "", "p", "p"),
    "account": NamedObject("account", "", "m", "m"),
    "credential": NamedObject("account", "", "c", "c", "p"),
}

# S: sees, C: sees and changes, -: neither. One letter for each of OBJECTS, in order.
TABLE = {
    "admin": "CCCCCCCCCC",
    "ours": "CCCCCCCCCC",
    "operator of hidden": "SSSC--C---",
    "the same, no permission told": "SSSC--C---",
    "member": "S-S--CCSSS",
    "other": "S-S-------",
    "nowhere": "S-S-------",
}


def test_the_table_is_complete() -> None:
    assert TABLE.keys() == CALLERS.keys()
    assert {len(row) for row in TABLE.values()} == {len(OBJECTS)}


@pytest.mark.parametrize("caller", CALLERS)
def test_table(caller: str) -> None:
    eyes = Eyes(CALLERS[caller], TREE)
    assert "".join(judged(eyes, each) for each in OBJECTS.values()) == TABLE[caller]


def judged(eyes: Eyes, each: NamedObject) -> str:
    seen = eyes.sees(each.id, Facets.of(each))
    try:
        eyes.check_change(each)
    except NotFound:
        assert not seen
        return "-"
    except PermissionDenied:
        assert seen
        return "S"
    assert seen
    return "C"
