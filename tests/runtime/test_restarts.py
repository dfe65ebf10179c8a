import pytest

from selfhost.engines.failure_rule import Retry
from selfhost.planner.routing import ReplicaState
from selfhost.runtime.restarts import Again, GiveUp, decide


@pytest.mark.parametrize("starts, delay", [(1, 5), (2, 10), (3, 20), (4, 40), (8, 300), (40, 300)])
def test_delays_double_up_to_five_minutes(starts: int, delay: float) -> None:
    times = [number * 1000.0 for number in range(starts)]
    assert decide(Retry.BACKOFF, times, times[-1] + 950, random=0.0) == Again(delay_seconds=delay)


def test_jitter_keeps_engines_that_died_together_apart() -> None:
    assert decide(Retry.BACKOFF, [0.0], 1.0, random=0.5) == Again(delay_seconds=5.5)


def test_five_starts_within_a_quarter_of_an_hour_are_enough() -> None:
    times = [0.0, 60.0, 120.0, 180.0, 240.0]
    assert decide(Retry.BACKOFF, times, 300.0, random=0.0) == GiveUp(
        state=ReplicaState.FAILED, cause="5 starts within 15 min 0 s"
    )


def test_five_starts_over_a_longer_time_are_not() -> None:
    assert isinstance(decide(Retry.BACKOFF, [0.0, 500.0, 1000.0, 1500.0, 2000.0], 2100.0, random=0.0), Again)


@pytest.mark.parametrize("retry, state", [(Retry.NEVER, ReplicaState.FAILED), (Retry.HOST, ReplicaState.HOST_FAULT)])
def test_what_another_start_cannot_help_is_left(retry: Retry, state: ReplicaState) -> None:
    verdict = decide(retry, [0.0], 1.0, random=0.0)
    assert isinstance(verdict, GiveUp)
    assert verdict.state is state
