"""What every RPC declares, and that protos, generated code and the latest release fit together."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor

from mulligan.api.options.v1 import options_pb2

ROOT = Path(__file__).resolve().parents[2]
BUF = Path(sys.executable).with_name("buf")

SERVICES = ("catalog", "control", "iam", "meta", "resource")

READING = ("Get", "List", "Watch", "Resolve", "Lookup", "Explain")

# Methods that change nothing although their name does not begin as a reading one does.
READS_ALL_THE_SAME = {"WhoAmI": "tells who calls"}

# Methods that change something and yet have no request_id.
WITHOUT_REQUEST_ID = {
    "Login": "each makes a session of its own; one too many ends by itself",
    "Refresh": "the refresh token is used up by it, which tells a repetition from a theft",
}

# Those of them that a client may send again all the same.
REPEATED_WITHOUT_HARM = {"Login": WITHOUT_REQUEST_ID["Login"]}


def methods() -> list[MethodDescriptor]:
    files = [import_module(f"mulligan.api.{service}.v1.{service}_service_pb2") for service in SERVICES]
    return [
        method for file in files for service in file.DESCRIPTOR.services_by_name.values() for method in service.methods
    ]


def reads(method: MethodDescriptor) -> bool:
    return method.name.startswith(READING) or method.name in READS_ALL_THE_SAME


def test_every_service_is_looked_at() -> None:
    protos = {path.parent.parent.name for path in (ROOT / "proto").rglob("*_service.proto")}
    assert protos == set(SERVICES)
    assert len(methods()) >= 70


@pytest.mark.parametrize("method", methods(), ids=lambda each: each.full_name)
def test_every_rpc_says_who_may_call_it(method: MethodDescriptor) -> None:
    options: Any = method.GetOptions()
    assert options.HasExtension(options_pb2.authz)
    authz = options.Extensions[options_pb2.authz]
    open_to_all = (options_pb2.SCOPE_ANONYMOUS, options_pb2.SCOPE_AUTHENTICATED)
    assert authz.scope in (*open_to_all, options_pb2.SCOPE_PROJECT, options_pb2.SCOPE_SYSTEM)
    if authz.scope in open_to_all:
        assert not authz.permission
    else:
        service = method.containing_service.full_name.split(".")[1]
        assert re.fullmatch(rf"{service}\.[a-z]+\.[a-z]+", authz.permission)


@pytest.mark.parametrize("method", methods(), ids=lambda each: each.full_name)
def test_every_rpc_says_where_it_goes(method: MethodDescriptor) -> None:
    options: Any = method.GetOptions()
    assert options.HasExtension(options_pb2.route)
    route = options.Extensions[options_pb2.route]
    assert route.fan_out != options_pb2.FAN_OUT_UNSPECIFIED
    assert not route.region_field or route.region_field in method.input_type.fields_by_name
    if route.retry_safe and method.name not in REPEATED_WITHOUT_HARM:
        assert reads(method) or "request_id" in method.input_type.fields_by_name


@pytest.mark.parametrize("method", methods(), ids=lambda each: each.full_name)
def test_every_rpc_that_changes_something_can_be_repeated(method: MethodDescriptor) -> None:
    has_request_id = "request_id" in method.input_type.fields_by_name
    assert has_request_id == (not reads(method) and method.name not in WITHOUT_REQUEST_ID)


def run(*command: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_protos_are_lint_clean_and_formatted() -> None:
    for command in (("lint",), ("format", "--diff", "--exit-code")):
        done = run(BUF, *command, folder=ROOT / "proto")
        assert done.returncode == 0, done.stdout + done.stderr


def latest_release() -> str:
    done = run("git", "tag", "--list", "v*", "--sort=-v:refname")
    return done.stdout.partition("\n")[0] if done.returncode == 0 else ""


def test_protos_break_no_client_of_the_latest_release() -> None:
    release = latest_release()
    if not release:
        pytest.skip("there is no release tag yet, or this is no git checkout: nothing to compare with")
    done = run(BUF, "breaking", "--against", f"../.git#tag={release},subdir=proto", folder=ROOT / "proto")
    assert done.returncode == 0, done.stdout + done.stderr


def test_generated_code_matches_the_protos() -> None:
    done = run(sys.executable, "-m", "mulligan.codegen.generate", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
