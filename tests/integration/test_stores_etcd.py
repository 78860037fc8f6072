"""Watched prefixes and announcements across kills, restarts and compactions of a real etcd."""

from __future__ import annotations

import asyncio
import pickle
import signal
import sys
from pathlib import Path

import grpc
import pytest
from etcd3aio import Etcd3Client

from cluster.embedded.etcd import EmbeddedEtcd
from mulligan.config import Settings
from mulligan.errors import Unavailable
from mulligan.ids import new_id
from mulligan.stores import etcd as etcd_store
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import Announcement, EtcdClient, WatchedPrefix
from tests.stores import RunningServer, running
from tests.waiting import eventually


def own_prefix() -> str:
    return f"/test/{new_id()}/"


def alone(state_dir: Path) -> Addresses:
    return Addresses.load(Settings(state_dir=state_dir, nats="unused:1", postgres="unused"))


async def test_client_certificate_is_required(addresses: Addresses) -> None:
    authority = (addresses.tls_dir / "ca.crt").read_bytes()
    async with Etcd3Client(list(addresses.etcd), rpc_max_attempts=1, ca_cert=authority) as stranger:
        assert stranger.kv is not None
        with pytest.raises((grpc.aio.AioRpcError, Exception), match="UNAVAILABLE"):
            await stranger.kv.get("x", timeout=2)


async def test_several_members_can_be_named(addresses: Addresses) -> None:
    host, _, port = addresses.etcd[0].rpartition(":")
    several = Addresses.load(Settings(state_dir=addresses.state_dir, etcd=f"localhost:{port}, {host}:{port}"))
    client = await etcd_store.connect(several)
    assert (await client.kv.get("/mulligan/", timeout=5)).header.revision
    await client.close()


async def test_watch_shows_what_was_there_and_what_changes(etcd: EtcdClient) -> None:
    prefix = own_prefix()
    await etcd.kv.put(f"{prefix}a", b"1")
    await etcd.kv.put(f"{prefix}deep/b", b"2")
    watched = WatchedPrefix(etcd, prefix)
    seen: list[tuple[str, bytes | None]] = []
    watched.on_change.append(lambda name, value: seen.append((name, value)))
    await watched.start()
    assert watched.items == {"a": b"1", "deep/b": b"2"}
    before = watched.revision
    assert not await watched.wait_changed(before, 0.05)
    await etcd.kv.put(f"{prefix}a", b"3")
    assert await watched.wait_changed(before, 5)
    await etcd.kv.delete(f"{prefix}deep/b")
    await eventually(lambda: watched.items == {"a": b"3"})
    assert seen == [("a", b"1"), ("deep/b", b"2"), ("a", b"3"), ("deep/b", None)]
    await watched.close()


async def test_watch_lists_more_keys_than_one_page(etcd: EtcdClient) -> None:
    prefix = own_prefix()
    for start in range(0, 1100, 100):
        puts = [etcd.kv.txn_op_put(f"{prefix}{number:05}", b"x") for number in range(start, start + 100)]
        await etcd.kv.txn([], puts)
    watched = WatchedPrefix(etcd, prefix)
    await watched.start()
    assert sorted(watched.items) == [f"{number:05}" for number in range(1100)]
    await watched.close()


async def test_failing_listener_does_not_stop_the_watch(etcd: EtcdClient) -> None:
    prefix = own_prefix()
    watched = WatchedPrefix(etcd, prefix)
    await watched.start()
    watched.on_change.append(lambda name, value: [][1])
    await etcd.kv.put(f"{prefix}a", b"1")
    await eventually(lambda: watched.items == {"a": b"1"})
    await etcd.kv.put(f"{prefix}b", b"1")
    await eventually(lambda: len(watched.items) == 2)
    await watched.close()


async def test_watch_survives_kill_restart_and_compaction(state_dir: Path) -> None:
    async with running(EmbeddedEtcd, state_dir) as server:
        client = await etcd_store.connect(alone(state_dir))
        prefix = own_prefix()
        await client.kv.put(f"{prefix}stays", b"1")
        await client.kv.put(f"{prefix}goes", b"1")
        watched = WatchedPrefix(client, prefix)
        await watched.start()
        deleted: list[str] = []
        watched.on_change.append(lambda name, value: deleted.append(name) if value is None else None)
        await restart_with_lost_history(server, state_dir, prefix)
        await eventually(lambda: watched.items == {"stays": b"1", "new": b"50"})
        assert deleted == ["goes"]
        await client.kv.put(f"{prefix}after", b"1")
        await eventually(lambda: watched.items.get("after"))
        await watched.close()
        await client.close()


async def restart_with_lost_history(server: RunningServer, state_dir: Path, prefix: str) -> None:
    """Changes the prefix while the watcher cannot see it, and compacts those changes away.

    The server comes back on another port first, so that the watcher meets it only when all that is done.
    """
    await server.kill()
    port = server.server.remembered()
    await server.prepare_and_start_elsewhere()
    other = await etcd_store.connect(alone(state_dir))
    await other.kv.delete(f"{prefix}goes")
    for number in range(51):
        written = await other.kv.put(f"{prefix}new", str(number))
    await other.kv.compact(written.header.revision, physical=True)
    await other.close()
    await server.kill()
    server.server.remember(**{key: value for key, value in port.items() if key != "host"})
    await server.start()


async def test_calls_fail_within_their_deadline_while_etcd_is_away(state_dir: Path) -> None:
    async with running(EmbeddedEtcd, state_dir) as server:
        client = await etcd_store.connect(alone(state_dir))
        await server.kill()
        with pytest.raises(Unavailable) as away:
            await client.kv.get("x", timeout=1)
        assert away.value.reason == "STORE_UNAVAILABLE"
        await server.start()
        await client.kv.put("x", b"1")
        await client.close()
        await server.stop()
        # etcd ends itself by the signal once it has shut down in order.
        assert server.return_code == -signal.SIGTERM


async def test_announcement_lives_with_its_owner(etcd: EtcdClient) -> None:
    key = f"{own_prefix()}me"
    announcement = Announcement(etcd, key, b"1", ttl_s=1)
    await announcement.start()
    first_lease = (await etcd.kv.get(key)).kvs[0].lease
    await announcement.update(b"2")
    assert (await etcd.kv.get(key)).kvs[0].value == b"2"
    await etcd.lease.revoke(first_lease)
    again = await eventually(lambda: value_of(etcd, key))
    assert again == b"2"
    await announcement.withdraw()
    assert await value_of(etcd, key) is None


OWNER = """
import asyncio, pickle, sys
from mulligan.stores.etcd import Announcement, connect

async def main():
    client = await connect(pickle.load(sys.stdin.buffer))
    await Announcement(client, sys.argv[1], b"1", ttl_s=2).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_announcement_ends_when_its_owner_dies(etcd: EtcdClient, addresses: Addresses) -> None:
    prefix = own_prefix()
    watched = WatchedPrefix(etcd, prefix)
    await watched.start()
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, f"{prefix}me", stdin=asyncio.subprocess.PIPE
    )
    assert owner.stdin
    owner.stdin.write(pickle.dumps(addresses))
    owner.stdin.close()
    assert await watched.wait_changed(watched.revision, 10)
    assert not await watched.wait_changed(watched.revision, 3), "it outlives its lease while the owner lives"
    owner.kill()
    await eventually(lambda: not watched.items)
    await owner.wait()
    await watched.close()


async def test_withdrawing_leaves_the_key_of_a_successor(etcd: EtcdClient) -> None:
    key = f"{own_prefix()}me"
    old, new = Announcement(etcd, key, b"old"), Announcement(etcd, key, b"new")
    await old.start()
    await new.start()
    await old.withdraw()
    assert await value_of(etcd, key) == b"new"
    await new.withdraw()


async def test_announcement_is_back_after_a_long_absence_of_etcd(state_dir: Path) -> None:
    async with running(EmbeddedEtcd, state_dir) as server:
        client = await etcd_store.connect(alone(state_dir))
        announcement = Announcement(client, "/test/me", b"1", ttl_s=1)
        await announcement.start()
        await server.kill()
        await server.start()
        first = (await client.kv.get("/test/me")).kvs
        await client.lease.revoke(first[0].lease) if first else None
        await eventually(lambda: value_of(client, "/test/me"))
        await announcement.withdraw()
        await client.close()


async def value_of(client: EtcdClient, key: str) -> bytes | None:
    found = (await client.kv.get(key)).kvs
    return found[0].value if found else None
