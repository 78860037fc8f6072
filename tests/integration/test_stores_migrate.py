"""Schemas are brought up to date once, whoever starts first, and never taken back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from mulligan.errors import InvalidArgument
from mulligan.stores.addresses import Addresses
from mulligan.stores.migrate import migrate

REVISION = """
from alembic import op
import sqlalchemy as sa

revision = {revision!r}
down_revision = {before!r}


def upgrade() -> None:
    {body}
"""


def add_revision(location: Path, revision: str, before: str | None, body: str) -> None:
    versions = location / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    (versions / f"{revision}_step.py").write_text(REVISION.format(revision=revision, before=before, body=body))


@pytest.fixture
def location(tmp_path: Path) -> Path:
    folder = tmp_path / "100% ours" / "migrations"
    add_revision(folder, "0001", None, 'op.create_table("thing", sa.Column("id", sa.Integer), schema="widget")')
    add_revision(folder, "0002", "0001", 'op.execute("INSERT INTO thing VALUES (2)")')
    return folder


async def things(pool: asyncpg.Pool) -> list[int]:
    return [row["id"] for row in await pool.fetch("SELECT id FROM widget.thing ORDER BY id")]


async def version(pool: asyncpg.Pool) -> str:
    return str(await pool.fetchval("SELECT version_num FROM widget.schema_version"))


async def test_runs_each_revision_once(fresh_addresses: Addresses, postgres_pool: asyncpg.Pool, location: Path) -> None:
    await migrate(fresh_addresses, "widget", location)
    await migrate(fresh_addresses, "widget", location)
    assert (await things(postgres_pool), await version(postgres_pool)) == ([2], "0002")


async def test_many_at_once_do_it_once(fresh_addresses: Addresses, postgres_pool: asyncpg.Pool, location: Path) -> None:
    script = (
        "import asyncio, pickle, sys; from pathlib import Path; from mulligan.stores.migrate import migrate\n"
        "addresses = pickle.load(sys.stdin.buffer)\n"
        "asyncio.run(migrate(addresses, 'widget', Path(sys.argv[1])))\n"
    )
    await asyncio.gather(
        *(run_python(script, fresh_addresses, location) for _ in range(3)),
        *(migrate(fresh_addresses, "widget", location) for _ in range(3)),
    )
    assert await things(postgres_pool) == [2]


async def run_python(script: str, addresses: Addresses, location: Path) -> None:
    import pickle
    import sys

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(location), stdin=asyncio.subprocess.PIPE
    )
    await asyncio.wait_for(process.communicate(pickle.dumps(addresses)), 60)
    assert process.returncode == 0


async def test_adds_later_revisions(fresh_addresses: Addresses, postgres_pool: asyncpg.Pool, location: Path) -> None:
    await migrate(fresh_addresses, "widget", location)
    add_revision(location, "0003", "0002", 'op.execute("INSERT INTO thing VALUES (3)")')
    await migrate(fresh_addresses, "widget", location)
    assert (await things(postgres_pool), await version(postgres_pool)) == ([2, 3], "0003")


async def test_older_version_leaves_a_newer_schema_alone(
    fresh_addresses: Addresses, postgres_pool: asyncpg.Pool, location: Path, tmp_path: Path
) -> None:
    await migrate(fresh_addresses, "widget", location)
    older = tmp_path / "older"
    add_revision(older, "0001", None, 'op.execute("this would fail")')
    await migrate(fresh_addresses, "widget", older)
    assert await version(postgres_pool) == "0002"


async def test_failed_revision_leaves_nothing_behind(
    fresh_addresses: Addresses, postgres_pool: asyncpg.Pool, location: Path
) -> None:
    add_revision(location, "0003", "0002", 'op.execute("INSERT INTO nowhere VALUES (3)")')
    with pytest.raises(Exception, match="nowhere"):
        await migrate(fresh_addresses, "widget", location)
    assert await postgres_pool.fetchval("SELECT to_regclass('widget.thing')") is None


async def test_schema_name_is_checked(fresh_addresses: Addresses, location: Path) -> None:
    with pytest.raises(InvalidArgument):
        await migrate(fresh_addresses, "x; DROP SCHEMA iam", location)
