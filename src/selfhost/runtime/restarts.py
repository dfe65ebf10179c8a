"""When an engine that ended is started again. Pure: times are given, nothing is waited for here."""

from collections.abc import Sequence
from dataclasses import dataclass

from selfhost.engines.failure_rule import Retry
from selfhost.planner.routing import ReplicaState
from selfhost.units import format_duration

FIRST_DELAY_SECONDS = 5.0
LONGEST_DELAY_SECONDS = 300.0
JITTER = 0.2  # share of the delay, so that engines that died together do not start together
STARTS_ALLOWED = 5
STARTS_WINDOW_SECONDS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Start again after this delay."""

    delay_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Leave it, in this state."""

    state: ReplicaState
    cause: str


def decide(retry: Retry, starts: Sequence[float], now: float, *, random: float) -> Again | GiveUp:
    """What to do about an engine that ended at `now`.

    `starts` are the times of its starts since it was last forgiven (oldest first, all clocks monotonic, in seconds);
    `random` is in [0, 1).
    """
    if retry is Retry.NEVER:
        return GiveUp(state=ReplicaState.FAILED, cause="the same start would fail again")
    if retry is Retry.HOST:
        return GiveUp(state=ReplicaState.HOST_FAULT, cause="the machine needs a person first")
    recent = [start for start in starts if now - start < STARTS_WINDOW_SECONDS]
    if len(recent) >= STARTS_ALLOWED:
        window = format_duration(STARTS_WINDOW_SECONDS)
        return GiveUp(state=ReplicaState.FAILED, cause=f"{len(recent)} starts within {window}")
    delay = min(FIRST_DELAY_SECONDS * 2 ** (len(starts) - 1), LONGEST_DELAY_SECONDS)
    return Again(delay_seconds=delay * (1 + JITTER * random))
