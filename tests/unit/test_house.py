"""The rules of this house that a machine can check: who imports whom, how long things are, what every RPC has."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from mulligan.config import Settings

ROOT = Path(__file__).resolve().parents[2]

# Each package may import itself and those before it.
LAYERS = ("mulligan", "actors", "gateways", "cluster", "tests")

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_PROTO_LINES = 500
MAX_SETTINGS = 12

# path -> why it may be longer. Empty is best.
LONG_FILES: dict[str, str] = {}
# path:function -> why it may be longer.
LONG_FUNCTIONS: dict[str, str] = {}

# What a client without the server's extras does not have.
SERVER_ONLY = ("ray", "etcd3aio", "asyncpg", "nats", "sqlalchemy", "alembic", "aiohttp", "jwt", "argon2", "pyghmi")


def sources(*folders: str) -> list[Path]:
    """Python files that people wrote, without what is generated."""
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in found if not path.is_relative_to(ROOT / "mulligan" / "api")]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports, wherever in it."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, each.name) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            yield node.lineno, node.module or ""


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("package", LAYERS)
def test_imports_point_one_way(package: str) -> None:
    above = LAYERS[LAYERS.index(package) + 1 :]
    wrong = [
        f"{shown(path)}:{line} imports {name}"
        for path in sources(package)
        for line, name in imports(path)
        if name.partition(".")[0] in above
    ]
    assert not wrong, "\n".join(wrong)


def test_gateways_know_actors_by_their_handles_only() -> None:
    allowed = re.compile(r"actors\.(handles|health|lifecycle|names|logs)\b|actors$")
    wrong = [
        f"{shown(path)}:{line} imports {name}"
        for path in sources("gateways")
        for line, name in imports(path)
        if name.partition(".")[0] == "actors" and not allowed.match(name)
    ]
    assert not wrong, "\n".join(wrong)


def test_domain_logic_knows_no_ray_and_starts_no_grpc_server() -> None:
    wrong = []
    for path in sources("mulligan"):
        wrong += [f"{shown(path)}:{line} imports {name}" for line, name in imports(path) if name.split(".")[0] == "ray"]
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Attribute) and re.search(
                r"\bgrpc(\.aio)?\.server$|^aio\.server$", ast.unparse(node)
            ):
                wrong.append(f"{shown(path)}:{node.lineno} starts a gRPC server")
    assert not wrong, "\n".join(wrong)


def test_the_client_needs_nothing_of_the_server() -> None:
    code = f"import sys, mulligan.client; print(*sorted(set({SERVER_ONLY!r}) & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []


def test_files_are_short() -> None:
    found = {shown(path): len(path.read_text().splitlines()) for path in sources(*LAYERS)}
    found |= {shown(path): len(path.read_text().splitlines()) for path in (ROOT / "cluster").rglob("*.sh")}
    long = {path: lines for path, lines in found.items() if lines > MAX_FILE_LINES}
    assert long.keys() <= LONG_FILES.keys(), f"is one of them two things? {long}"
    assert LONG_FILES.keys() <= long.keys(), "these need no exception any more"


def test_protos_are_short() -> None:
    lines = {shown(path): len(path.read_text().splitlines()) for path in (ROOT / "proto").rglob("*.proto")}
    assert not {path: count for path, count in lines.items() if count > MAX_PROTO_LINES}


def test_functions_are_short() -> None:
    long = {}
    for path in sources(*LAYERS):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long[f"{shown(path)}:{node.name}"] = lines
    assert long.keys() <= LONG_FUNCTIONS.keys(), f"which part of it has a name of its own? {long}"
    assert LONG_FUNCTIONS.keys() <= long.keys(), "these need no exception any more"


def test_nothing_is_left_for_later() -> None:
    marker = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error")) + r")\b")
    left = [
        f"{shown(path)}:{number}"
        for path in sources(*LAYERS)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if marker.search(line)
    ]
    assert not left


def test_settings_are_few_and_say_when_to_change_them() -> None:
    settings = dataclasses.fields(Settings)
    assert len(settings) <= MAX_SETTINGS
    for each in settings:
        assert len(each.metadata["help"]) >= 40, f"{each.name}: say what it is and when to change it"


COLUMN_OF_NAMES = re.compile(r"(^|_)(name|names|slug|slugs|tag|tags|label|labels|title)$")


# Columns that are called so and yet hold no name of an object.
CODES_CALLED_NAMES = {"control.steps.name": "the code of a step of an operation, such as power-on"}


def created_columns(sql: str) -> Iterator[str]:
    """`table.column` for the columns that a statement creates."""
    for table, column in re.findall(r"ALTER TABLE (\S+) ADD COLUMN (?:IF NOT EXISTS )?\"?(\w+)", sql, re.IGNORECASE):
        yield f"{table}.{column}"
    created = re.match(r"\s*CREATE TABLE (?:IF NOT EXISTS )?([\w.]+)\s*\((.*)\)", sql, re.IGNORECASE | re.DOTALL)
    if created:
        table, flat = created.groups()
        while re.search(r"\([^()]*\)", flat):
            flat = re.sub(r"\([^()]*\)", "", flat)
        parts = [part.split()[0].strip('"') for part in flat.split(",") if part.split()]
        yield from (f"{table}.{part}" for part in parts)


def statements(path: Path) -> Iterator[str]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_columns_are_found_in_sql() -> None:
    sql = "CREATE TABLE a.b (\n id uuid PRIMARY KEY, display_name text CHECK (length(x) > 1), PRIMARY KEY (id, y))"
    assert list(created_columns(sql)) == ["a.b.id", "a.b.display_name", "a.b.PRIMARY"]
    assert list(created_columns("ALTER TABLE a.x ADD COLUMN slug text")) == ["a.x.slug"]


def test_names_live_in_the_metadata_service_alone() -> None:
    migrations = [path for path in sources("mulligan") if "versions" in path.parts]
    columns = {column for path in migrations for sql in statements(path) for column in created_columns(sql)}
    assert len(columns) > 100, "the migrations are not where this test looks for them"
    assert {each for each in columns if COLUMN_OF_NAMES.search(each.rpartition(".")[2])} == set(CODES_CALLED_NAMES)
