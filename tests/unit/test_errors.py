"""Errors over the wire: what a service raised is what a client catches."""

from __future__ import annotations

import subprocess
import sys

from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo, QuotaFailure
from google.rpc.status_pb2 import Status

from mulligan.api.resource.v1.request_response_pb2 import ExplainClaimResponse
from mulligan.errors import InvalidArgument, ResourceExhausted, from_status, to_status


def test_an_error_comes_back_as_it_was() -> None:
    quota = QuotaFailure(violations=[QuotaFailure.Violation(subject="project:p", quota_metric="cpu")])
    explanation = ExplainClaimResponse(summary="a quota of the project is exceeded")
    sent = ResourceExhausted(
        "no", reason="QUOTA_EXCEEDED", metadata={"project": "p"}, retry_after_s=1.5, details=[quota, explanation]
    )
    told = from_status(to_status(sent))
    assert type(told) is ResourceExhausted
    assert (told.message, told.reason, told.metadata, told.retry_after_s) == ("no", sent.reason, {"project": "p"}, 1.5)
    assert told.details == (quota, explanation)
    assert to_status(told) == to_status(sent)
    wrong = from_status(to_status(InvalidArgument("no", field="region")))
    assert (wrong.field, wrong.details) == ("region", ())


def test_details_that_say_nothing_to_this_program_are_left_out() -> None:
    status = to_status(ResourceExhausted("no", metadata={"first": "1"}))
    status.details.append(Any(type_url="type.googleapis.com/somebody.elses.Detail", value=b"\x0a\x01x"))
    status.details.append(Any(type_url="type.googleapis.com/google.rpc.QuotaFailure", value=b"\xff\xff"))
    status.details.append(Any(type_url="", value=b""))
    status.details.add().Pack(ErrorInfo(reason="FENCED", domain="elsewhere"))
    told = from_status(Status.FromString(status.SerializeToString()))
    assert (told.reason, told.metadata) == ("NO_CAPACITY", {"first": "1"})
    assert told.details == (ErrorInfo(reason="FENCED", domain="elsewhere"),)


def test_errors_load_no_service() -> None:
    program = "import sys, mulligan.errors; print([name for name in sys.modules if 'mulligan.api.resource' in name])"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"
