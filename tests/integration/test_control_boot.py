"""The boot endpoint: who is served a script, and how often a token counts."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
from nats.aio.client import Client

from gateways.boot_http import MAX_BODY_BYTES, BootServer, BootSite, RateLimit
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.integration.control_bench import Bench, opened

MAC = "02:00:00:00:00:01"


@pytest.fixture
async def bench(fresh_addresses: Addresses, etcd: EtcdClient, nats: Client) -> AsyncIterator[Bench]:
    async with opened(fresh_addresses, etcd, nats) as (made, _):
        yield made


async def booting(bench: Bench) -> tuple[str, str]:
    """A machine about to be powered on, as the executor leaves it; its id and MAC address."""
    begun = await bench.provision(await bench.register_anything())
    await bench.pool.execute("UPDATE control.machines SET netboot_us = 1 WHERE id = $1", begun.machine.id)
    mac = await bench.pool.fetchval("SELECT boot_mac FROM control.bmcs WHERE provider = $1", begun.machine.provider)
    return begun.machine.id, mac


async def script_url(bench: Bench, mac: str) -> str:
    """The phone-home URL of a new script."""
    status, script = await bench.get(f"/boot/{mac}")
    assert status == 200
    assert script.startswith("#!ipxe\n")
    found = re.search(r"mulligan\.phone_home=(\S+)", script)
    assert found is not None
    return found.group(1)


async def test_a_token_counts_once(bench: Bench) -> None:
    machine, mac = await booting(bench)
    url = await script_url(bench, mac)
    assert url.startswith(bench.boot_url)
    assert await bench.post(url, '{"serial": "S1"}\n\x1b[31m') == 204
    assert await bench.post(url) == 410
    row = await bench.pool.fetchrow("SELECT * FROM control.machines WHERE id = $1", machine)
    assert row["phone_home_us"] > row["boot_script_us"] > 1
    assert row["evidence"].startswith('phoned home from 127.0.0.1: {"serial": "S1"}')
    assert row["evidence"].isprintable()


async def test_a_new_script_voids_the_token_before(bench: Bench) -> None:
    _, mac = await booting(bench)
    first, second = await script_url(bench, mac), await script_url(bench, mac.upper().replace(":", "-"))
    assert first != second
    assert await bench.post(first) == 410
    assert await bench.post(second) == 204


async def test_an_old_token_is_gone(bench: Bench) -> None:
    _, mac = await booting(bench)
    url = await script_url(bench, mac)
    await bench.pool.execute("UPDATE control.boot_tokens SET expire_us = issue_us")
    assert await bench.post(url) == 410


async def test_a_token_ends_with_its_operation(bench: Bench) -> None:
    machine, mac = await booting(bench)
    url = await script_url(bench, mac)
    await bench.pool.execute("UPDATE control.machines SET state_deadline_us = 1 WHERE id = $1", machine)
    await bench.decommission(machine)
    assert await bench.post(url) == 410
    assert (await bench.get(f"/boot/{mac}"))[0] == 404


async def test_an_unknown_token_is_not_found(bench: Bench) -> None:
    assert await bench.post(f"{bench.boot_url}/phone-home/{'x' * 43}") == 404


async def test_only_hashes_of_tokens_are_kept(bench: Bench) -> None:
    _, mac = await booting(bench)
    token = (await script_url(bench, mac)).rpartition("/")[2]
    stored = await bench.pool.fetch("SELECT row_to_json(t)::text AS text FROM control.boot_tokens t")
    assert len(stored) == 1
    assert token not in stored[0]["text"]
    assert token.encode().hex() not in stored[0]["text"]


async def test_machines_that_are_not_provisioned_get_no_script(bench: Bench) -> None:
    begun = await bench.provision(await bench.register_anything())
    mac = await bench.pool.fetchval("SELECT boot_mac FROM control.bmcs WHERE provider = $1", begun.machine.provider)
    # Before the executor powers it on, whatever asks is not the machine that is meant.
    for asked in (mac, MAC):
        status, text = await bench.get(f"/boot/{asked}")
        assert status == 404
        assert text.startswith("#!ipxe\n# no machine")
    assert await bench.pool.fetchval("SELECT count(*) FROM control.boot_tokens") == 0


async def test_paths_that_are_none_of_ours(bench: Bench) -> None:
    for path in ("/", "/boot/", "/boot/zz:zz", "/boot/files/", "/boot/files/../postgres", "/boot/files/.secret", "/x"):
        assert (await bench.get(path))[0] == 404
    assert await bench.post(f"{bench.boot_url}/phone-home/short") == 404
    assert await bench.post(f"{bench.boot_url}/boot/{MAC}") == 405
    async with aiohttp.ClientSession() as http, http.head(f"{bench.boot_url}/boot/{MAC}") as answer:
        assert answer.status == 405


async def test_default_files_are_served_from_the_boot_folder(bench: Bench) -> None:
    folder = bench.addresses.state_dir / "boot"
    assert (await bench.get("/boot/files/kernel"))[0] == 404
    folder.mkdir(exist_ok=True)
    (folder / "kernel").write_text("a kernel")
    assert await bench.get("/boot/files/kernel") == (200, "a kernel")


async def test_a_long_report_is_cut(bench: Bench) -> None:
    machine, mac = await booting(bench)
    assert await bench.post(await script_url(bench, mac), "x" * (MAX_BODY_BYTES - 1)) == 204
    assert len(await bench.pool.fetchval("SELECT evidence FROM control.machines WHERE id = $1", machine)) < 300


async def test_a_control_service_that_is_away_is_a_reason_to_come_again(bench: Bench) -> None:
    bench.pool.terminate()
    status, _ = await bench.get(f"/boot/{MAC}")
    assert status == 503


async def test_an_address_is_limited_and_recovers() -> None:
    now = 0.0
    limit = RateLimit(per_second=2, burst=3, most=2, now=lambda: now)
    assert [limit.allows("a") for _ in range(5)] == [True, True, True, False, False]
    assert limit.allows("b")
    now = 1.0
    assert [limit.allows("a") for _ in range(3)] == [True, True, False]
    limit.allows("c")  # b, the longest unseen, is forgotten and begins anew
    assert [limit.allows("b") for _ in range(4)] == [True, True, True, False]


async def test_too_many_requests_are_told_so(bench: Bench) -> None:
    site = BootSite(bench.boot, bench.addresses.state_dir, lambda: bench.boot_url, RateLimit(0.001, 1))
    server = BootServer(site)
    port = await server.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession() as http:
            statuses = []
            for _ in range(2):
                async with http.get(f"http://127.0.0.1:{port}/boot/{MAC}") as answer:
                    statuses.append((answer.status, answer.headers.get("Retry-After")))
        assert statuses == [(404, None), (429, "1")]
    finally:
        await server.close(5)
