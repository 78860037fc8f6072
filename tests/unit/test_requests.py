"""What request handlers share: ids, pages, masks."""

from __future__ import annotations

import base64
from uuid import UUID

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given
from hypothesis import strategies as st

from mulligan.api.common.v1.common_pb2 import ServiceSettings, Window
from mulligan.api.meta.v1.meta_pb2 import RegionConfig
from mulligan.api.meta.v1.request_response_pb2 import CreateRegionRequest
from mulligan.errors import InvalidArgument
from mulligan.ids import new_id
from mulligan.requests import (
    copy_fields,
    decode_page_token,
    derived_id,
    encode_page_token,
    masked_fields,
    page_size,
    request_digest,
    require_request_id,
)

V4 = "2f1d7a9e-5b0c-4f1e-9a53-0c7e8d9f0a1b"


def test_request_id_is_a_uuid_in_any_case() -> None:
    assert require_request_id(V4.upper()) == V4


@pytest.mark.parametrize("text", ["", "x", V4 + "0", "{" + V4[1:-1] + "}"])
def test_request_id_that_is_none_names_its_field(text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        require_request_id(text)
    assert (refused.value.field, refused.value.reason) == ("request_id", "INVALID_UUID")


def test_digest_tells_requests_apart_and_ignores_map_order() -> None:
    first, second = CreateRegionRequest(name="a"), CreateRegionRequest(name="a")
    for key in ("power", "network"):
        first.config.failures[key].expectation = key
    for key in ("network", "power"):
        second.config.failures[key].expectation = key
    assert request_digest(first) == request_digest(second)
    second.name = "b"
    assert request_digest(first) != request_digest(second)


def test_derived_ids_repeat_and_belong_to_one_account_project_and_index() -> None:
    request = new_id()
    ids = {derived_id(a, p, request, i) for a in ("a", "b") for p in ("p", "q") for i in range(3)}
    assert len(ids) == 12
    assert derived_id("a", "p", request) == derived_id("a", "p", request.upper())
    made = UUID(derived_id("a", "p", request))
    assert (made.version, made.int >> 80) == (7, UUID(request).int >> 80)
    assert UUID(derived_id("a", "p", V4)).version == 8


@pytest.mark.parametrize(("asked", "given_size"), [(0, 100), (1, 1), (1000, 1000), (5000, 1000)])
def test_page_size(asked: int, given_size: int) -> None:
    assert page_size(asked) == given_size


def test_page_size_below_zero_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="page_size"):
        page_size(-1)


@given(st.text(), st.integers(min_value=-(2**63), max_value=2**63))
def test_page_token_comes_back_as_it_went(after: str, count: int) -> None:
    token = encode_page_token({"after": after, "count": count})
    assert decode_page_token(token, {"after": str, "count": int}) == {"after": after, "count": count}


def test_no_page_token_is_the_start() -> None:
    assert decode_page_token("", {"after": str}) == {}


@given(st.text(min_size=1))
def test_any_other_page_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        decode_page_token(token, {"after": str})
    assert refused.value.reason == "INVALID_PAGE_TOKEN"


@pytest.mark.parametrize("text", ['{"after":1}', '{"other":"x"}', '["after"]', "[" * 3000, "7"])
def test_page_token_of_another_shape_is_refused(text: str) -> None:
    token = base64.urlsafe_b64encode(text.encode()).decode()
    with pytest.raises(InvalidArgument):
        decode_page_token(token, {"after": str})


def test_mask_names_each_field_once() -> None:
    kind = ServiceSettings
    assert masked_fields(FieldMask(paths=["log_level", "log_level"]), kind) == ["log_level"]
    assert len(masked_fields(FieldMask(paths=["*"]), kind)) == len(kind.DESCRIPTOR.fields)
    with pytest.raises(InvalidArgument, match="colour") as refused:
        masked_fields(FieldMask(paths=["colour"]), kind)
    assert refused.value.field == "update_mask"
    with pytest.raises(InvalidArgument):
        masked_fields(FieldMask(paths=["log_level"]), kind, changeable={"max_in_flight"})


def test_copy_replaces_maps_lists_and_clears_what_is_absent() -> None:
    target = RegionConfig(projects=["a", "b"], visibility=RegionConfig().visibility)
    target.failures["power"].expectation = "old"
    source = RegionConfig(projects=["c"])
    source.failures["network"].expectation = "new"
    copy_fields(source, target, ["projects", "failures"])
    assert list(target.projects) == ["c"]
    assert list(target.failures) == ["network"]
    window = Window()
    window.release.seconds = 7
    copy_fields(Window(), window, ["release"])
    assert not window.HasField("release")
