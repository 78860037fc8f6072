"""Names, slugs and records."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mulligan.errors import InvalidArgument
from mulligan.meta.model import NamedObject, check_name, check_tag, is_slug, slug_base, slug_candidates


@pytest.mark.parametrize("name", ["a", "x" * 255, "Zürich / Halle 3", "東京", "O'Neil & Söhne: 100 %"])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 256,
        " a",
        "a ",
        "a\nb",
        "tab\there",
        "zero\u200bwidth",
        "right\u202eleft",
        "no\u00a0break",
        "0190b5a4-7c1e-7000-8000-0123456789AB",
    ],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_name(name, "display")
    assert refused.value.field == "display"


def test_names_that_look_the_same_are_the_same() -> None:
    assert check_name("Zu\u0308rich") == "Zürich"


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Rack 7 / Höhe 1", "rack-7-hohe-1"),
        ("Straße", "strasse"),
        ("--x--", "x"),
        ("東京", "provider-group"),
        ("a" * 80, "a" * 50),
        ("0190B5A4 7C1E 7000 8000 0123456789AB", "provider-group-0190b5a4-7c1e-7000-8000-0123456789ab"),
    ],
)
def test_slugs(name: str, slug: str) -> None:
    assert slug_base(name, "provider_group") == slug


@given(st.text(min_size=1, max_size=255))
def test_every_name_has_url_clean_slugs_to_try(name: str) -> None:
    candidates = list(slug_candidates(name, "machine", "an id"))
    assert all(is_slug(each) for each in candidates)
    assert len(set(candidates)) == len(candidates) == 12


@pytest.mark.parametrize("text", ["", "A", "a--b", "-a", "a-", "a b", "x" * 64, "é"])
def test_what_is_no_slug(text: str) -> None:
    assert not is_slug(text)


@pytest.mark.parametrize("tag", ["", "-x", "a b", "x" * 64, "a\n"])
def test_bad_tags(tag: str) -> None:
    with pytest.raises(InvalidArgument):
        check_tag(tag, "add")


def test_records_survive_storage_and_unknown_fields() -> None:
    record = NamedObject("machine", "p", "Web 1", "m", "p", "r", "web-1", ("a", "b"))
    stored = json.loads(record.to_json())
    assert NamedObject.from_json(json.dumps({**stored, "newer": 1}).encode()) == record
    assert record.to_message().tags == ["a", "b"]
