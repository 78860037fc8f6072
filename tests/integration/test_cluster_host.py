"""What a host makes for itself and what it must be given, by what the operator's own PostgreSQL holds."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from cluster.host import prepare_host
from cluster.places import Places
from cluster.ports import free_port
from mulligan.config import Settings
from mulligan.errors import FailedPrecondition, Unavailable
from mulligan.stores.addresses import Addresses
from mulligan.stores.postgres import Ownership, connect_pool

RAY = "10.1.2.3:6379"


async def test_the_first_host_makes_its_secrets_even_with_stores_and_a_ray_of_the_operator(
    state_dir: Path, fresh_addresses: Addresses
) -> None:
    places, settings = Places(state_dir), Settings(state_dir=state_dir, postgres=fresh_addresses.postgres, ray=RAY)
    with pytest.raises(FailedPrecondition, match=f"copy the token of the Ray cluster at {RAY} to .*ray.token"):
        await prepare_host(settings)
    places.ray_token.write_text("given by the operator")
    await prepare_host(settings)
    assert places.admin.exists()
    assert (places.secrets / "master.key").exists()
    assert (state_dir / "tls" / "ca.key").exists()
    assert places.ray_token.read_text() == "given by the operator"


@pytest.mark.parametrize("ray", ["", RAY])
async def test_a_later_host_is_given_the_secrets_of_the_first(
    state_dir: Path, fresh_addresses: Addresses, ray: str
) -> None:
    await _let_a_system_begin(fresh_addresses)
    places, settings = Places(state_dir), Settings(state_dir=state_dir, postgres=fresh_addresses.postgres, ray=ray)
    with pytest.raises(FailedPrecondition, match=r"copy these from the first host.*master\.key.*ca\.crt.*ca\.key"):
        await prepare_host(settings)
    assert not (places.secrets / "master.key").exists()
    first = Places(state_dir / "first")
    await prepare_host(Settings(state_dir=first.state_dir))
    for copied in ("secrets/master.key", "secrets/ray.token", "tls/ca.crt", "tls/ca.key"):
        (state_dir / copied).parent.mkdir(exist_ok=True)
        (first.state_dir / copied).rename(state_dir / copied)
    await prepare_host(settings)
    # A second secret would open nothing.
    assert not places.admin.exists()


async def test_a_postgres_that_does_not_answer_is_told_at_once(state_dir: Path) -> None:
    settings = Settings(state_dir=state_dir, postgres=f"postgresql://u:hush@127.0.0.1:{free_port()}/mulligan")
    with pytest.raises(Unavailable, match="PostgreSQL of the setting postgres cannot be used") as told:
        await prepare_host(settings)
    assert "hush" not in told.value.message
    assert not Places(state_dir).admin.exists()


async def _let_a_system_begin(addresses: Addresses) -> None:
    pool: asyncpg.Pool = await connect_pool(addresses, maximum=2)
    try:
        await Ownership.take(pool, "resource", "default")
    finally:
        await pool.close()
