"""What may be handed on, and what refresh tokens and delays are made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mulligan.caller import Grant
from mulligan.clock import SECOND
from mulligan.errors import MulliganError
from mulligan.iam import throttle
from mulligan.iam.model import condensed, narrowed, valid_password, valid_role
from mulligan.iam.policy import ROLES, SCOPE_PROJECT, permits
from mulligan.iam.sessions import RefreshToken
from mulligan.ids import new_id
from mulligan.meta.regions import RegionRecord, RegionTree

# root ── left ── leaf, right; and another root beside.
REGIONS = {"root": "", "left": "root", "leaf": "left", "right": "root", "other": ""}
TREE = RegionTree({name: RegionRecord(name, parent, "").to_json() for name, parent in REGIONS.items()})

GRANTS = st.lists(
    st.builds(Grant, st.sampled_from([*ROLES, "root"]), st.booleans(), st.sampled_from(["", *REGIONS, "gone"])),
    max_size=4,
)


def allowed(grants: list[Grant], permission: str, region: str) -> bool:
    """As a gateway judges a request about a region in a project."""
    return permits(grants, permission, SCOPE_PROJECT, "project", lambda bound: TREE.is_within(region, bound)).allowed


@given(GRANTS, GRANTS, st.sampled_from([*REGIONS]))
def test_what_is_handed_on_is_held_and_wanted(wanted: list[Grant], held: list[Grant], region: str) -> None:
    handed = list(narrowed(wanted, held, TREE))
    assert not any(grant.system for grant in handed)
    for permission in sorted(ROLES["admin"]):
        if allowed(handed, permission, region):
            assert allowed(held, permission, region)
            assert allowed(wanted, permission, region)


@given(GRANTS, GRANTS)
def test_handing_on_twice_yields_no_more(wanted: list[Grant], held: list[Grant]) -> None:
    once = narrowed(wanted, held, TREE)
    assert narrowed(once, held, TREE) == once


@given(GRANTS, GRANTS, st.sampled_from([*REGIONS]))
def test_fewer_grants_carry_the_same_rights(wanted: list[Grant], held: list[Grant], region: str) -> None:
    handed = narrowed(wanted, held, TREE)
    fewer = condensed(handed)
    assert len(fewer) <= len(handed)
    for permission in sorted(ROLES["admin"]):
        assert allowed(list(fewer), permission, region) == allowed(list(handed), permission, region)


@pytest.mark.parametrize(
    ("want", "have", "region"),
    [
        ("", "", ""),
        ("left", "", "left"),
        ("", "left", "left"),
        ("left", "root", "left"),
        ("root", "left", "left"),
        ("left", "right", None),
        ("other", "root", None),
        ("gone", "root", None),
    ],
)
def test_regions_that_both_reach(want: str, have: str, region: str | None) -> None:
    handed = narrowed([Grant("member", False, want)], [Grant("admin", True, have)], TREE)
    assert [grant.region for grant in handed] == ([] if region is None else [region])


def test_refresh_tokens_survive_the_way() -> None:
    session, key = new_id(), b"k" * 32
    token = RefreshToken.of(session, 7, key)
    assert RefreshToken.parse(str(token)) == token
    assert RefreshToken.of(session, 8, key).code != token.code
    assert RefreshToken.of(new_id(), 7, key).code != token.code
    assert RefreshToken.of(session, 7, b"l" * 32).code != token.code


def test_delays_double_up_to_a_minute() -> None:
    delays = [throttle._delay_us(failures) // SECOND for failures in range(1, 14)]
    assert delays == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert throttle._delay_us(1_000_000) == throttle.MAX_DELAY_US


def test_validation_names_the_field_and_keeps_the_secret() -> None:
    with pytest.raises(MulliganError) as caught:
        valid_role("root", "role")
    assert caught.value.field == "role"
    for password in ("short secret"[:11], "x" * 1025):
        with pytest.raises(MulliganError) as caught:
            valid_password(password, "password")
        assert caught.value.field == "password"
        assert password not in caught.value.message
