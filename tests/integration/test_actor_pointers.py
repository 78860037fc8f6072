"""The generation pointer in a real etcd: one of many moves it, whatever version wrote it."""

from __future__ import annotations

import asyncio
import json

from actors.names import Pointer
from actors.pointers import move_pointer, read_pointer
from mulligan.ids import new_id
from mulligan.stores import keys
from mulligan.stores.etcd import EtcdClient

FIRST, SECOND = Pointer(1, "1.0", "a"), Pointer(2, "1.0", "b")


async def test_one_of_many_moves_it(etcd: EtcdClient) -> None:
    shard = new_id()
    moves = [move_pointer(etcd, "iam", shard, Pointer(), Pointer(1, "1.0", host)) for host in "abcdef"]
    moved = await asyncio.gather(*moves)
    assert moved.count(True) == 1
    assert (await read_pointer(etcd, "iam", shard)).host == "abcdef"[moved.index(True)]
    assert not await move_pointer(etcd, "iam", shard, Pointer(), FIRST)
    assert not await move_pointer(etcd, "iam", shard, SECOND, Pointer(3, "1.0", "a"))


async def test_what_another_version_wrote_is_moved(etcd: EtcdClient) -> None:
    """It may have fields that this one does not know, or lack some."""
    for fields in (
        {"version": "1.0", "generation": 1, "host": "a", "later": True},
        {"generation": 1, "version": "1.0"},
    ):
        shard = new_id()
        await etcd.kv.put(keys.actor_generation("iam", shard), json.dumps(fields))
        assert await move_pointer(etcd, "iam", shard, await read_pointer(etcd, "iam", shard), SECOND)
        assert await read_pointer(etcd, "iam", shard) == SECOND
