"""What the documents promise to be complete about is complete, and what they point at is there."""

from __future__ import annotations

import re
from itertools import dropwhile, takewhile
from pathlib import Path

from google.rpc.code_pb2 import Code

from mulligan.api.common.v1.error_reason_pb2 import ErrorReason
from mulligan.errors import MulliganError

ROOT = Path(__file__).resolve().parents[2]


def in_table(line: str) -> bool:
    return line.startswith("|")


def rows() -> dict[str, list[str]]:
    """The first table of docs/errors.md: reason -> cells."""
    lines = iter((ROOT / "docs" / "errors.md").read_text().splitlines())
    lines = takewhile(in_table, dropwhile(lambda line: not in_table(line), lines))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    table = cells[2:]
    assert len({row[1] for row in table}) == len(table), "a reason stands twice in docs/errors.md"
    return {row[1]: row for row in table}


def codes() -> dict[str, str]:
    """Reason -> the code that its group in the proto stands under."""
    found, code = {}, ""
    for line in (ROOT / "proto/mulligan/common/v1/error_reason.proto").read_text().splitlines():
        if group := re.fullmatch(r"\s*// (?:([A-Z_]+)|Reasons that an operation fails with.*)", line):
            code = group[1] or "Operation.error"
        elif value := re.fullmatch(r"\s*ERROR_REASON_(\w+) = \d+;", line):
            found[value[1]] = code
    return found


def test_every_reason_is_explained_under_its_code() -> None:
    reasons = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
    assert rows().keys() == reasons
    assert {reason: row[0] for reason, row in rows().items()} == {
        reason: code for reason, code in codes().items() if reason != "UNSPECIFIED"
    }


def test_every_reason_says_what_each_of_the_three_does() -> None:
    for row in rows().values():
        assert len(row) == 5
        assert all(row), row


def test_default_reasons_stand_under_the_code_of_their_class() -> None:
    for kind in MulliganError.__subclasses__():
        assert codes()[kind.default_reason] == Code.Name(kind.code)


def test_documents_point_at_what_is_there() -> None:
    documents = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    missing = []
    for document in documents:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            if not (document.parent / target).exists():
                missing.append(f"{document.name}: {target}")
        for path in re.findall(
            r"`((?:mulligan|tests|proto|docs|actors|gateways|cluster)/[\w/.]+\.\w+)`", document.read_text()
        ):
            if not (ROOT / path).exists():
                missing.append(f"{document.name}: {path}")
    assert not missing
