"""What actors that take messages share: a loop that runs until the actor leaves and gives back what is not done."""

from __future__ import annotations

import asyncio
from typing import Final

from actors.lifecycle import ActorBase
from mulligan.stores.nats import PullLoop

# What is not done after this time is given back: another actor goes on with it at once.
GRACE_S: Final = 5.0


async def pull_until_left(actor: ActorBase, loop: PullLoop) -> None:
    """Runs the loop; drains it when the actor leaves, which waits for that."""
    actor.enter(1)
    running = asyncio.create_task(loop.run(), name="pull loop")
    left = asyncio.create_task(actor.leaving.wait(), name="pull loop leaves")
    try:
        await asyncio.wait((running, left), return_when=asyncio.FIRST_COMPLETED)
        if left.done():
            await loop.drain(GRACE_S)
        await running
    finally:
        left.cancel()
        running.cancel()
        await asyncio.gather(running, left, return_exceptions=True)
        actor.leave(1)
