"""A small proto, written out, against the model and the client that come of it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from mulligan.codegen.model import Authz, Field, Method, Paging, Resume, Route, TypeName, read_api
from mulligan.codegen.plugin import respond

PROTOS = Path(__file__).resolve().parents[2] / "proto"

SMALL = """
syntax = "proto3";
package mulligan.garden.v1;
import "google/protobuf/timestamp.proto";
import "mulligan/options/v1/options.proto";

// Plants and
// their beds.
service GardenService {
  // Puts a plant into a bed.
  rpc Plant(PlantRequest) returns (PlantResponse) {
    option (mulligan.options.v1.authz) = {permission: "garden.plant.create" scope: SCOPE_PROJECT};
    option (mulligan.options.v1.route) = {region_field: "region" fan_out: FAN_OUT_FIRST retry_safe: true};
  }
  // Plants of a bed.
  rpc ListPlants(ListPlantsRequest) returns (ListPlantsResponse) {
    option (mulligan.options.v1.authz) = {scope: SCOPE_AUTHENTICATED};
    option (mulligan.options.v1.route) = {fan_out: FAN_OUT_MERGE solo: true};
  }
  // What grows.
  rpc WatchPlants(WatchPlantsRequest) returns (stream WatchPlantsResponse) {
    option (mulligan.options.v1.authz) = {scope: SCOPE_ANONYMOUS};
    option (mulligan.options.v1.route) = {fan_out: FAN_OUT_NONE retry_safe: true};
  }
}
enum Sort { SORT_UNSPECIFIED = 0; SORT_ROSE = 1; }
message PlantRequest {
  string request_id = 1;
  string region = 2;
  // What it is.
  Sort sort = 3;
  map<string, int64> heights = 4;
  oneof when { google.protobuf.Timestamp at = 5; string moon = 6; }
}
message PlantResponse {}
message Item { string id = 1; }
message ListPlantsRequest { int32 page_size = 1; string page_token = 2; }
message ListPlantsResponse { repeated Item plants = 1; string next_page_token = 2; }
message WatchPlantsRequest { int64 after_revision = 1; }
message WatchPlantsResponse { int64 revision = 1; bool synced = 2; }
"""

NAME = "mulligan/garden/v1/garden_service.proto"


Compile = Callable[[str], CodeGeneratorRequest]


@pytest.fixture
def compile_proto(tmp_path: Path) -> Compile:
    def compile_it(text: str) -> CodeGeneratorRequest:
        (tmp_path / NAME).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / NAME).write_text(text)
        out = tmp_path / "set.bin"
        well_known = files("grpc_tools") / "_proto"
        arguments = ["protoc", f"-I{tmp_path}", f"-I{PROTOS}", f"-I{well_known}", f"-o{out}", "--include_imports"]
        assert protoc.main([*arguments, "--include_source_info", NAME]) == 0
        descriptors = FileDescriptorSet.FromString(out.read_bytes())
        return CodeGeneratorRequest(file_to_generate=[NAME], proto_file=descriptors.file)

    return compile_it


def named(name: str) -> TypeName:
    return TypeName(NAME, "mulligan.garden.v1", name)


def source(node: ast.expr | None) -> str:
    return ast.unparse(node) if node else ""


def test_the_model_holds_what_the_proto_says(compile_proto: Compile) -> None:
    (service,) = read_api(compile_proto(SMALL)).services
    assert (service.name, service.full_name) == ("garden", "mulligan.garden.v1.GardenService")
    assert service.comment == "Plants and their beds."
    plant, list_plants, watch = service.methods
    timestamp = TypeName("google/protobuf/timestamp.proto", "google.protobuf", "Timestamp")
    key = Field("key", "string", "")
    value = Field("value", "int64", "")
    assert plant == Method(
        name="Plant",
        comment="Puts a plant into a bed.",
        request=named("PlantRequest"),
        response=named("PlantResponse"),
        fields=(
            Field("request_id", "string", ""),
            Field("region", "string", ""),
            Field("sort", "enum", "What it is.", type=named("Sort")),
            Field("heights", "message", "", type=named("HeightsEntry"), map_key=key, map_value=value),
            Field("at", "message", "", type=timestamp, oneof="when"),
            Field("moon", "string", "", oneof="when"),
        ),
        streaming="none",
        route=Route("region", "first", retry_safe=True, solo=False),
        authz=Authz("garden.plant.create", "project"),
        request_id=True,
        paging=None,
        resume=None,
    )
    assert list_plants.paging == Paging("plants", named("Item"))
    assert (list_plants.route.fan_out, list_plants.route.retry_safe, list_plants.route.solo) == ("merge", False, True)
    assert list_plants.authz == Authz("", "authenticated")
    assert (watch.streaming, watch.resume) == ("server", Resume("after_revision", "revision", "synced"))
    assert watch.authz.scope == "anonymous"


def test_the_client_has_a_route_table_and_a_typed_method_for_each_rpc(compile_proto: Compile) -> None:
    (file,) = respond(compile_proto(SMALL)).file
    assert file.name == "mulligan/garden/v1/garden_client.py"
    module = ast.parse(file.content)
    tables = [ast.unparse(node.targets[0]) for node in module.body if isinstance(node, ast.Assign)]
    assert tables == ["PLANT", "LIST_PLANTS", "WATCH_PLANTS"]
    (client,) = [node for node in module.body if isinstance(node, ast.ClassDef)]
    functions = {node.name: node for node in client.body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)}
    plant = functions["plant"]
    parameters = {argument.arg: source(argument.annotation) for argument in plant.args.kwonlyargs}
    assert parameters == {
        "region": "str",
        "sort": "Sort | str | None",
        "heights": "Mapping[str, int] | None",
        "at": "Timestamp | datetime.datetime | None",
        "moon": "str | None",
        "request_id": "str",
        "timeout_s": "float | None",
    }
    assert source(plant.returns) == "PlantResponse"
    assert "What it is." in (ast.get_docstring(plant) or "")
    assert source(functions["list_plants"].returns) == "methods.Pager[ListPlantsRequest, ListPlantsResponse, Item]"
    assert source(functions["watch_plants"].returns) == "AsyncGenerator[WatchPlantsResponse, None]"


def test_the_same_protos_give_the_same_bytes(compile_proto: Compile) -> None:
    request = compile_proto(SMALL)
    assert respond(request).SerializeToString() == respond(request).SerializeToString()


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("    option (mulligan.options.v1.authz) = {scope: SCOPE_AUTHENTICATED};\n", "", "lacks option"),
        ('region_field: "region"', 'region_field: "place"', "region_field names place"),
        ("  // Plants of a bed.\n", "", "ListPlants has no comment"),
        ("string moon = 6;", "string from = 6;", "cannot be a parameter in Python"),
        ("repeated Item plants = 1;", "repeated Item plants = 1; repeated Item pots = 3;", "exactly one repeated"),
        ("package mulligan.garden.v1;", "package garden;", "package must be mulligan.<service>.v1"),
    ],
)
def test_a_proto_that_leaves_clients_in_the_dark_is_refused(
    compile_proto: Compile, old: str, new: str, complaint: str
) -> None:
    assert old in SMALL
    response = respond(compile_proto(SMALL.replace(old, new)))
    assert complaint in response.error
    assert not response.file


def test_the_generator_runs_without_what_it_makes() -> None:
    """So that it can mend what a merge left broken."""
    program = "import sys, mulligan.codegen.plugin; print([name for name in sys.modules if 'mulligan.api' in name])"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"
