"""Brings the schema of a service up to date when its actor starts: Alembic as a library, under an advisory lock."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from mulligan.errors import InvalidArgument
from mulligan.stores.addresses import Addresses
from mulligan.stores.postgres import sqlalchemy_engine, translate_errors

log = logging.getLogger(__name__)

VERSION_TABLE = "schema_version"

_SCRIPTS = Path(__file__).parent / "alembic"

# Alembic keeps the running migration in a global of its `op` module, so a process can do one at a time.
_one_at_a_time = threading.Lock()


async def migrate(addresses: Addresses, service: str, script_location: Path) -> None:
    """Runs the revisions in `script_location`/versions that schema `service` lacks, all or none of them.

    Any number of processes may call it at once. A schema that is newer than these revisions is left alone:
    revisions only add, so the older version runs on it. Raises Unavailable when Postgres does not answer.
    """
    if not re.fullmatch(r"[a-z][a-z_]*", service):
        raise InvalidArgument(f"{service!r} cannot name a schema; use lower-case letters", field="service")
    with translate_errors():
        await asyncio.to_thread(_migrate_in_thread, addresses, service, script_location)


def _migrate_in_thread(addresses: Addresses, service: str, script_location: Path) -> None:
    with _one_at_a_time:
        asyncio.run(_migrate(addresses, service, script_location))


async def _migrate(addresses: Addresses, service: str, script_location: Path) -> None:
    engine = sqlalchemy_engine(addresses, pool_size=1)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_upgrade, service, script_location)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, schema: str, script_location: Path) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"migrate {schema}"})
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
    connection.execute(text(f"SET LOCAL search_path TO {schema}, public"))
    config = _config(script_location)
    config.attributes["connection"] = connection
    config.attributes["schema"] = schema
    unknown = _applied(connection, schema) - _known(config)
    if unknown:
        log.info("schema=%s is newer than this version: it has %s", schema, ", ".join(sorted(unknown)))
        return
    command.upgrade(config, "head")


def _config(script_location: Path) -> Config:
    config = Config()
    # Percent signs are interpolation in Alembic's options.
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(script_location / "versions").replace("%", "%%"))
    return config


def _applied(connection: Connection, schema: str) -> set[str]:
    table = f"{schema}.{VERSION_TABLE}"
    if connection.execute(text("SELECT to_regclass(:table)"), {"table": table}).scalar() is None:
        return set()
    return set(connection.execute(text(f"SELECT version_num FROM {table}")).scalars())


def _known(config: Config) -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
