"""From started processes to a first real token: follows one start and tells its phases."""

import asyncio
import time
from collections.abc import Callable, Sequence

from selfhost.engines import failures, vllm
from selfhost.engines.failure_rule import Retry
from selfhost.engines.failures import Failure
from selfhost.errors import ExitCode
from selfhost.observe.health import EngineProbe, Health
from selfhost.planner.routing import ReplicaState
from selfhost.runtime.engine_process import EngineProcess
from selfhost.runtime.waiting import unless, wait
from selfhost.units import format_duration

POLL_SECONDS = 0.1
LOOK_AROUND_SECONDS = 1.0  # how often the processes of a starting engine are looked at
STALL_SECONDS = 600.0  # a start in which neither the log nor the processors moved for so long is given up
LAST_WORDS_SECONDS = 3.0  # an engine whose core died tells its clients, then ends by itself after 2.6 s (measured)

PHASES = (ReplicaState.STARTING, ReplicaState.LOADING, ReplicaState.WARMING)


async def bring_up(
    engine: EngineProcess,
    probe: EngineProbe,
    *,
    model: str,
    stop: asyncio.Event,
    enter: Callable[[ReplicaState], None],
) -> Failure | None:
    """Follow a start until a real token came back (None), it failed, or a stop was asked for (None).

    `enter` is told each phase once, in order.
    """
    phases = _Phases(enter)
    movement = _Movement(engine)
    while not stop.is_set():
        if engine.child.exited.is_set():
            return failures.explain(engine.log.tail(), engine.child.exit_code)
        lines = engine.log.new_lines()
        if any(failures.fatal_line(line) for line in lines):
            return await _last_words(engine)
        phases.follow(lines)
        if movement.stalled():
            return _stalled(engine)
        if await probe.health() is Health.OK:
            phases.reach(ReplicaState.WARMING)
            engine.note_members()
            return await _first_token(engine, probe, model, stop)
        await wait(stop, POLL_SECONDS)
    return None


class _Phases:
    """The phase of a start; it only moves forward."""

    def __init__(self, enter: Callable[[ReplicaState], None]) -> None:
        self._enter = enter
        self._at = 0

    def follow(self, lines: Sequence[str]) -> None:
        for line in lines:
            if phase := vllm.phase_of(line):
                self.reach(phase)

    def reach(self, phase: ReplicaState) -> None:
        if PHASES.index(phase) > self._at:
            self._at = PHASES.index(phase)
            self._enter(phase)


class _Movement:
    """Whether anything moves: the log, or the processors. Also keeps the engine's record up to date."""

    def __init__(self, engine: EngineProcess) -> None:
        self._engine = engine
        self._seen = (0, 0)
        self._moved_at = time.monotonic()
        self._looked_at = 0.0

    def stalled(self) -> bool:
        now = time.monotonic()
        if now - self._looked_at < LOOK_AROUND_SECONDS:
            return False
        self._looked_at = now
        self._engine.note_members()
        seen = (self._engine.log.size(), round(self._engine.cpu_seconds()))
        if seen != self._seen:
            self._seen, self._moved_at = seen, now
        return now - self._moved_at > STALL_SECONDS


async def _first_token(engine: EngineProcess, probe: EngineProbe, model: str, stop: asyncio.Event) -> Failure | None:
    """Ask for a token. An engine whose core dies of it answers with an error first and ends a little later."""
    problem = await unless((stop, engine.child.exited), probe.first_token(model))
    engine.note_members()
    if stop.is_set():
        return None
    if engine.child.exited.is_set():
        return await _last_words(engine)
    if problem is None:
        return None
    explained = await _last_words(engine)
    if engine.child.exited.is_set() or any(map(failures.fatal_line, engine.log.tail().splitlines())):
        return explained
    return Failure(
        code="no_first_token",
        retry=Retry.BACKOFF,
        cause=problem,
        hint="its log may tell why",
        exit_code=ExitCode.FAILED,
        lines=explained.lines,
    )


async def _last_words(engine: EngineProcess) -> Failure:
    """Why the engine ends, once it has had time to say so."""
    await wait(engine.child.exited, LAST_WORDS_SECONDS)
    return failures.explain(engine.log.tail(), engine.child.exit_code)


def _stalled(engine: EngineProcess) -> Failure:
    return Failure(
        code="stalled",
        retry=Retry.BACKOFF,
        cause=f"neither its log nor its processors moved for {format_duration(STALL_SECONDS)}",
        hint="the end of its log tells where it hangs",
        exit_code=ExitCode.TIMED_OUT,
        lines=tuple(engine.log.tail().splitlines()[-failures.TAIL_LINES :]),
    )
