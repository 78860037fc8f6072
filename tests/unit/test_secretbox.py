"""Sealed secrets open with the same key and context, and with nothing else."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mulligan.errors import FailedPrecondition
from mulligan.secretbox import SecretBox, ensure_master_key


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "secrets" / "master.key"
    ensure_master_key(path)
    return path


def test_opens_what_it_sealed(key_file: Path) -> None:
    box = SecretBox.from_file(key_file)
    sealed = box.seal(b"calvin", "provider/1")
    assert b"calvin" not in sealed
    assert SecretBox.from_file(key_file).open(sealed, "provider/1") == b"calvin"


def test_seals_the_same_secret_differently_each_time(key_file: Path) -> None:
    box = SecretBox.from_file(key_file)
    assert box.seal(b"calvin", "a") != box.seal(b"calvin", "a")


def test_derives_the_same_key_for_the_same_purpose_everywhere(key_file: Path, tmp_path: Path) -> None:
    box = SecretBox.from_file(key_file)
    ensure_master_key(tmp_path / "other.key")
    assert SecretBox.from_file(key_file).derive("a") == box.derive("a")
    assert len({box.derive("a"), box.derive("b"), SecretBox.from_file(tmp_path / "other.key").derive("a")}) == 3


def test_refuses_another_context_another_key_and_changed_bytes(key_file: Path, tmp_path: Path) -> None:
    box = SecretBox.from_file(key_file)
    sealed = box.seal(b"calvin", "provider/1")
    ensure_master_key(tmp_path / "other.key")
    with pytest.raises(FailedPrecondition):
        box.open(sealed, "provider/2")
    with pytest.raises(FailedPrecondition):
        SecretBox.from_file(tmp_path / "other.key").open(sealed, "provider/1")
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(FailedPrecondition):
            box.open(bytes(changed), "provider/1")
    with pytest.raises(FailedPrecondition):
        box.open(b"", "provider/1")


def test_master_key_is_private_and_made_once(key_file: Path) -> None:
    before = key_file.read_bytes()
    ensure_master_key(key_file)
    assert key_file.read_bytes() == before
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(key_file.parent.stat().st_mode) == 0o700


def test_says_where_a_key_is_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="no master key"):
        SecretBox.from_file(tmp_path / "none.key")
    (tmp_path / "short.key").write_text("c2hvcnQ=")
    with pytest.raises(FailedPrecondition, match="does not hold a master key"):
        SecretBox.from_file(tmp_path / "short.key")
