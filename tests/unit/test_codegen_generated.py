"""What is committed under mulligan/api is what the protos give, and it looks like code of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mulligan.codegen.generate import API, differences, generate

ROOT = Path(__file__).resolve().parents[2]


def test_the_committed_code_matches_the_protos(tmp_path: Path) -> None:
    generate(tmp_path / "api")
    assert differences(API, tmp_path / "api") == []


def test_only_services_have_grpc_stubs() -> None:
    assert {path.name for path in API.rglob("*_pb2_grpc.py")} == {
        f"{name}_service_pb2_grpc.py" for name in ("catalog", "control", "iam", "meta", "resource")
    }


def test_generated_clients_are_formatted_and_clean() -> None:
    clients = [str(path) for path in sorted(API.rglob("*_client.py"))]
    assert len(clients) == 5
    for command in (["format", "--check"], ["check"]):
        finished = subprocess.run(
            [str(Path(sys.executable).with_name("ruff")), *command, *clients],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
