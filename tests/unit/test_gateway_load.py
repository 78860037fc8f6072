"""How the messages of a client stream gather into chunks."""

from __future__ import annotations

import asyncio

import pytest

from gateways.load import MAX_CHUNK_BYTES, MAX_CHUNK_MESSAGES, Chunk, Inbox
from gateways.routing import Passage
from mulligan.caller import ANONYMOUS
from mulligan.errors import NotFound

NORTH, SOUTH = Passage(ANONYMOUS, ("n",)), Passage(ANONYMOUS, ("s",))


async def taken(inbox: Inbox) -> list[Chunk]:
    """All chunks up to the end."""
    chunks = []
    while (chunk := await inbox.take()) is not None:
        chunks.append(chunk)
    return chunks


async def test_messages_gather_while_nobody_takes_them() -> None:
    inbox = Inbox()
    for number in range(10):
        await inbox.put(NORTH, str(number).encode())
    await inbox.close()
    (chunk,) = await taken(inbox)
    assert chunk.requests == [str(number).encode() for number in range(10)]


async def test_chunks_are_bounded_in_number_and_in_bytes_and_the_reader_waits() -> None:
    inbox = Inbox()

    async def read() -> None:
        for _ in range(3 * MAX_CHUNK_MESSAGES):
            await inbox.put(NORTH, b"")
        await inbox.put(NORTH, b"x" * MAX_CHUNK_BYTES)
        await inbox.put(NORTH, b"x")
        await inbox.close()

    reader = asyncio.create_task(read())
    for _ in range(2 * MAX_CHUNK_MESSAGES + 50):
        await asyncio.sleep(0)
    assert not reader.done(), "two chunks are waiting, so it has to wait too"
    chunks = await taken(inbox)
    await reader
    assert [len(chunk.requests) for chunk in chunks] == [256, 256, 256, 1, 1]


async def test_a_chunk_goes_to_one_shard_and_order_is_kept() -> None:
    inbox = Inbox()

    async def read() -> None:
        for passage, text in ((NORTH, b"1"), (NORTH, b"2"), (SOUTH, b"3"), (NORTH, b"4")):
            await inbox.put(passage, text)
        await inbox.close()

    reader = asyncio.create_task(read())
    chunks = await taken(inbox)
    await reader
    assert [(chunk.passage.shards[0], chunk.requests) for chunk in chunks] == [
        ("n", [b"1", b"2"]),
        ("s", [b"3"]),
        ("n", [b"4"]),
    ]


async def test_a_failure_comes_after_what_was_read_before_it() -> None:
    inbox = Inbox()
    await inbox.put(NORTH, b"1")
    await inbox.close(NotFound("no such region"))
    chunk = await inbox.take()
    assert chunk is not None
    assert chunk.requests == [b"1"]
    with pytest.raises(NotFound):
        await inbox.take()
