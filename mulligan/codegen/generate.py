"""Regenerates `mulligan/api` from `proto/`: messages, type stubs, gRPC stubs and smart clients.

Run from the root of a checkout: `python -m mulligan.codegen.generate`. With `--check` it changes nothing and
fails when what is committed differs from what it would write.
"""

from __future__ import annotations

import argparse
import filecmp
import re
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
API = ROOT / "mulligan" / "api"

# The proto package mulligan.iam.v1 lives in the Python package mulligan.api.iam.v1.
_IMPORT = re.compile(r"^(from|import) mulligan\.(?!api\b)(\w+)\.v1\b", re.MULTILINE)


def generate(target: Path) -> None:
    """Writes the whole package below `target`; raises RuntimeError when protoc refuses the protos."""
    with tempfile.TemporaryDirectory() as scratch:
        _run_protoc(Path(scratch))
        for source in sorted(Path(scratch).rglob("*.py*")):
            destination = target / source.relative_to(Path(scratch) / "mulligan")
            destination.parent.mkdir(parents=True, exist_ok=True)
            destination.write_text(_IMPORT.sub(r"\1 mulligan.api.\2.v1", source.read_text()))
    (target / "__init__.py").write_text('"""Generated from proto/: do not edit."""\n')
    for folder in {path.parent for path in target.rglob("*.py*")} | {
        path.parent.parent for path in target.rglob("v1/*")
    }:
        (folder / "__init__.py").touch()


def _run_protoc(scratch: Path) -> None:
    """Messages from every proto; stubs and smart clients from those that define a service."""
    sources = [str(path.relative_to(PROTO)) for path in sorted(PROTO.rglob("*.proto"))]
    services = [source for source in sources if source.endswith("_service.proto")]
    plugin = Path(sys.executable).with_name("protoc-gen-mulligan")
    _protoc([f"--python_out={scratch}", f"--pyi_out={scratch}", *sources])
    _protoc([f"--grpc_python_out={scratch}", *services])
    _protoc([f"--plugin=protoc-gen-mulligan={plugin}", f"--mulligan_out={scratch}", *services])


def _protoc(arguments: list[str]) -> None:
    well_known = files("grpc_tools") / "_proto"
    if protoc.main(["protoc", f"-I{PROTO}", f"-I{well_known}", *arguments]) != 0:
        raise RuntimeError("protoc refused the files under proto/: see its messages above")


def differences(committed: Path, fresh: Path) -> list[str]:
    """Names of generated files that are missing, extra or different in `committed`."""

    def listing(root: Path) -> set[Path]:
        return {path.relative_to(root) for path in root.rglob("*.py*") if "__pycache__" not in path.parts}

    ours, theirs = listing(committed), listing(fresh)
    changed = {name for name in ours & theirs if not filecmp.cmp(committed / name, fresh / name, shallow=False)}
    return sorted(str(name) for name in (ours ^ theirs) | changed)


def main() -> int:
    """Regenerates, or checks with `--check`; returns a process exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "api"
        generate(fresh)
        stale = differences(API, fresh)
        if check and stale:
            print("mulligan/api does not match proto/; run `make proto` and commit:", *stale, sep="\n  ")
            return 1
        if not check:
            shutil.rmtree(API, ignore_errors=True)
            shutil.copytree(fresh, API)
    return 0


if __name__ == "__main__":
    sys.exit(main())
