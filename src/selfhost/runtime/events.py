"""What happens, as values: one stream that the terminal, `--json`, followers and the event log all read."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum

FOLLOWER_BACKLOG = 10_000  # events a follower may lag behind before it is cut off


class Level(StrEnum):
    """How much an event matters to a person."""

    PROGRESS = "progress"  # replaced by the next one
    INFO = "info"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened to one subject."""

    subject: str  # "chat/0", "engine", "gateway", "manager"
    state: str  # a ReplicaState, or the phase of a step
    cause: str
    level: Level = Level.INFO
    hint: str | None = None
    code: str | None = None  # of a failure, for programs
    exit_code: int | None = None  # what a command that waits for this should end with
    lines: tuple[str, ...] = ()  # the engine's own words about a failure
    done_bytes: int | None = None
    total_bytes: int | None = None
    time: float = field(default_factory=time.time)  # seconds since the epoch


class EventStream:
    """Hands every event to everybody who follows."""

    def __init__(self) -> None:
        self._followers: set[asyncio.Queue[Event | None]] = set()

    def emit(self, event: Event) -> None:
        """Tell all followers; one that does not read is cut off rather than waited for."""
        for queue in list(self._followers):
            if queue.qsize() >= FOLLOWER_BACKLOG:
                self._followers.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    def follow(self) -> "Following":
        """Everything emitted from now on."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._followers.add(queue)
        return Following(self, queue)

    def forget(self, queue: asyncio.Queue[Event | None]) -> None:
        """Stop telling this follower."""
        self._followers.discard(queue)

    def close(self) -> None:
        """End the stream of every follower."""
        for queue in self._followers:
            queue.put_nowait(None)
        self._followers.clear()


class Following:
    """The events since `follow` was called, until the stream is closed."""

    def __init__(self, stream: EventStream, queue: asyncio.Queue[Event | None]) -> None:
        self._stream = stream
        self._queue = queue

    async def __aiter__(self) -> AsyncIterator[Event]:
        try:
            while (event := await self._queue.get()) is not None:
                yield event
        finally:
            self._stream.forget(self._queue)
