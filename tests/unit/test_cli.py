"""Commands against a system in memory: what they send, print and answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from mulligan.api.catalog.v1.catalog_service_pb2 import ComponentStatus, GetStatusResponse
from mulligan.api.iam.v1.iam_pb2 import Assignment, Grant
from mulligan.api.iam.v1.request_response_pb2 import CreateAssignmentResponse, WhoAmIResponse
from mulligan.api.resource.v1.claim_pb2 import (
    Usage,
)
from mulligan.api.resource.v1.provider_pb2 import PROVIDER_STATE_ACTIVE, Provider, ProviderConfig
from mulligan.api.resource.v1.request_response_pb2 import (
    GetProviderResponse,
    GetUsageResponse,
    ListProvidersResponse,
)
from mulligan.cli.app import app
from mulligan.client import contexts
from mulligan.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InternalError,
    InvalidArgument,
    MulliganError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from tests.cli_world import ADA, LAB, NODE, SECRET, World
from tests.fake_system import EAST, Script

CLAIM = "00000000-0000-7000-8000-0000000000c1"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def provider() -> Provider:
    config = ProviderConfig(provider_type="compute")
    return Provider(id=NODE, region=EAST, config=config, used={"memory": 2**40}, state=PROVIDER_STATE_ACTIVE)


def commands(command: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with its words."""
    if not hasattr(command, "commands"):
        return [(path, command)]
    return [found for name, each in command.commands.items() for found in commands(each, (*path, name))]


ALL = commands(typer.main.get_command(app))


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_command_explains_itself_and_has_the_common_options(path: tuple[str, ...], command: Any) -> None:
    assert command.help
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--output", "--context", "--timeout"} <= options
    for parameter in command.params:
        assert parameter.help, f"{' '.join(path)}: {parameter.name} has no help"


UNKNOWN = [["--frobnicate"], ["region", "list", "--colour"], ["regions"], ["claim", "create"]]


@pytest.mark.parametrize("arguments", UNKNOWN)
def test_what_is_unknown_is_refused(home: Path, arguments: list[str]) -> None:
    result = World(home).run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_tables_show_names_and_programs_get_everything(home: Path) -> None:
    resource = Script(list_providers=[ListProvidersResponse(providers=[provider()])])
    world = World(home, resource=resource)
    table = world.run("provider", "list", "--region", "east")
    assert table.exit_code == 0, table.stderr
    assert table.stdout.splitlines()[0].split() == ["NAME", "ID", "REGION", "TYPE", "STATE", "IN", "USE", "REASON"]
    assert ["node1", NODE, "east", "compute", "active", f"memory={2**40}"] == table.stdout.splitlines()[2].split()
    assert resource.requests[0].region == EAST
    [row] = world.json("provider", "list")
    assert (row["id"], row["used"], row["state"]) == (NODE, {"memory": 2**40}, "active")
    assert yaml.safe_load(world.run("provider", "list", "-o", "yaml").stdout) == [row]


def test_a_narrow_terminal_cuts_no_uuid(home: Path) -> None:
    world = World(home, resource=Script(list_providers=[ListProvidersResponse(providers=[provider()])]))
    assert NODE in world.run("provider", "list", columns=60).stdout


@pytest.mark.parametrize("which", ["node1", NODE])
def test_names_and_uuids_are_both_understood(home: Path, which: str) -> None:
    resource = Script(get_provider=[GetProviderResponse(provider=provider())])
    world = World(home, resource=resource)
    assert world.json("provider", "show", which)["id"] == NODE
    assert (resource.requests[0].id, resource.requests[0].region) == (NODE, EAST)


def test_the_contexts_region_is_where_commands_look(home: Path) -> None:
    resource = Script(get_usage=[GetUsageResponse(usages=[Usage(resource_type="memory", capacity=4, used=1)])])
    world = World(home, resource=resource)
    assert world.run("context", "set", "local", "--region", "east").exit_code == 0
    result = world.run("usage")
    assert "25.0%" in result.stdout
    assert resource.requests[0].region == EAST
    world.run("context", "set", "local", "--region", "")
    world.run("usage")
    assert resource.requests[1].region == ""


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (InvalidArgument("mend it"), 2, "mend it"),
        (PermissionDenied("you lack resource.usage.get"), 4, "`mulligan whoami` shows your roles"),
        (NotFound("not there"), 5, "not there"),
        (AlreadyExists("taken"), 6, "taken"),
        (FailedPrecondition("in use"), 6, "in use"),
        (Aborted("somebody was first"), 6, "somebody was first"),
        (ResourceExhausted("nothing is left"), 7, "claim explain"),
        (DeadlineExceeded("too slow"), 8, "too slow"),
        (InternalError("broken"), 70, "broken"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, MulliganError) else "",
)
def test_errors_are_sentences_with_exit_codes(home: Path, error: MulliganError, code: int, told: str) -> None:
    result = World(home, resource=Script(get_usage=[error])).run("usage")
    assert result.exit_code == code
    assert result.stderr.startswith("mulligan: ")
    assert told in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


def test_a_fault_of_the_program_is_a_sentence_too(home: Path) -> None:
    result = World(home, resource=object()).run("provider", "show", "node1", "--region", "east", "--timeout", "1")
    assert result.exit_code == 70
    assert "Traceback" not in result.output


def test_a_system_that_does_not_answer(home: Path) -> None:
    world = World(home)
    world.up = False
    result = world.run("status")
    assert result.exit_code == 8
    assert "no answer from gateway:1" in result.stderr
    assert "mulligan bootstrap" in result.stderr


def test_without_any_context_the_user_is_told_how_to_get_one(home: Path) -> None:
    world = World(home)
    assert world.run("context", "delete", "local").exit_code == 0
    result = world.run("status")
    assert result.exit_code == 5
    assert "mulligan bootstrap" in result.stderr


def test_status_lists_what_is_ill(home: Path) -> None:
    parts = [
        ComponentStatus(kind="dependency", name="etcd", healthy=True, latency_ms=0.8),
        ComponentStatus(kind="service", name="resource/default#3", healthy=False, detail="no answer within 2 s"),
    ]
    catalog = Script(get_status=[GetStatusResponse(healthy=False, components=parts)])
    world = World(home, catalog=catalog)
    result = world.run("status")
    assert result.exit_code == 1, result.stderr
    assert "not healthy: resource/default#3" in result.stdout
    assert "no answer within 2 s" in result.stdout
    assert json.loads(world.run("status", "-o", "json").stdout)["components"][0]["name"] == "etcd"


def test_login_keeps_the_session_and_no_secret(home: Path) -> None:
    world = World(home)
    result = world.run("login", "ada", "--project", "lab", "--secret-stdin", stdin=f"{SECRET}\n")
    assert result.exit_code == 0, result.stderr
    assert "logged in to local as ada" in result.stdout
    local = contexts.load().get("local")
    assert (local.account, local.project, local.credential_file) == ("ada", "lab", "")
    tokens = home / "cache" / "mulligan" / "tokens" / "local.json"
    assert tokens.stat().st_mode & 0o777 == 0o600
    kept = [path.read_text() for path in home.rglob("*") if path.is_file() and path.name != "admin.json"]
    assert not any(SECRET in text for text in kept)
    before = world.iam.logins
    assert world.run("context", "list").exit_code == 0
    world.services["resource"] = Script(get_usage=[GetUsageResponse()])
    assert world.run("usage").exit_code == 0
    assert world.iam.logins == before


def test_a_refused_login_changes_nothing(home: Path) -> None:
    world = World(home)
    before = contexts.load()
    result = world.run("login", "ada", "--secret-stdin", stdin="wrong\n")
    assert result.exit_code == 3
    assert "account or secret is wrong" in result.stderr
    assert contexts.load() == before


def test_login_without_a_terminal_says_how_to_give_the_secret(home: Path) -> None:
    result = World(home).run("login", "ada")
    assert result.exit_code == 2
    assert "--secret-stdin" in result.stderr


def test_logout_revokes_and_the_next_command_asks_for_a_login(home: Path) -> None:
    world = World(home, resource=Script(get_usage=[GetUsageResponse()]))
    world.run("login", "ada", "--secret-stdin", stdin=f"{SECRET}\n")
    assert world.run("logout").exit_code == 0
    assert len(world.iam.revoked) == 1
    result = world.run("usage")
    assert result.exit_code == 3
    assert "mulligan login" in result.stderr


def test_a_credential_file_logs_in_by_itself(home: Path) -> None:
    world = World(home)
    world.run("login", "ada", "--secret-stdin", stdin=f"{SECRET}\n")
    result = world.run("login", "--credential-file", str(home / "admin.json"))
    assert result.exit_code == 0, result.stderr
    assert contexts.load().get().account == "admin"
    assert contexts.load().get().credential_file == str(home / "admin.json")


def test_contexts_are_listed_chosen_and_changed(home: Path) -> None:
    world = World(home)
    assert world.run("context", "set", "lab").exit_code == 2
    world.run("context", "set", "lab", "--address", "10.0.0.5:7400", "--address", "10.0.0.6:7400")
    world.run("context", "use", "lab")
    rows = world.json("context", "list")
    assert [(row["name"], row["current"], row["addresses"]) for row in rows] == [
        ("local", "", ["gateway:1"]),
        ("lab", "*", ["10.0.0.5:7400", "10.0.0.6:7400"]),
    ]
    assert world.run("context", "use", "none").exit_code == 5


def test_whoami(home: Path) -> None:
    world = World(home)
    answer = WhoAmIResponse(account=ADA, project=LAB, grants=[Grant(role="member")])
    world.iam.who_am_i = Script(who_am_i=[answer]).who_am_i  # type: ignore[attr-defined]
    result = world.run("whoami")
    assert f"{ADA} (ada)" in result.stdout
    assert f"{LAB} (lab)" in result.stdout


def test_roles_are_given_by_name(home: Path) -> None:
    world = World(home)
    answer = CreateAssignmentResponse(assignment=Assignment(id=CLAIM))
    world.iam.create_assignment = Script(create_assignment=[answer]).create_assignment  # type: ignore[attr-defined]
    assert world.run("role", "assign", "ada", "member", "--project", "lab", "--region", "east").exit_code == 0
    request = world.received("CreateAssignment")
    assert (request.account, request.role, request.project, request.region) == (ADA, "member", LAB, EAST)
