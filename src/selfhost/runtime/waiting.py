"""Waiting for something to happen, with an end to it."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


async def wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait for `event`, but no longer than `seconds`; whether it happened."""
    return await wait_any((event,), seconds)


async def wait_any(events: Sequence[asyncio.Event], seconds: float | None = None) -> bool:
    """Wait for one of `events`, but no longer than `seconds` if that is given; whether one happened."""
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


async def unless(events: Sequence[asyncio.Event], work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` gives; None when one of `events` happened first, and then the work is cancelled."""
    working = asyncio.create_task(work)
    happening = asyncio.create_task(wait_any(events))
    try:
        await asyncio.wait((working, happening), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, happening):
            task.cancel()
        await asyncio.gather(working, happening, return_exceptions=True)
