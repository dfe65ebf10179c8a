"""Waiting for something to happen, with an end to it."""

import asyncio
from collections.abc import Sequence


async def wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait for `event`, but no longer than `seconds`; whether it happened."""
    return await wait_any((event,), seconds)


async def wait_any(events: Sequence[asyncio.Event], seconds: float) -> bool:
    """Wait for one of `events`, but no longer than `seconds`; whether one happened."""
    if any(event.is_set() for event in events):
        return True
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
