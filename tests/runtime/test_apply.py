import asyncio

import pytest

from selfhost.errors import SelfhostError
from selfhost.planner.actions import ServeGateway, StartReplica, Step, StopReplica
from selfhost.runtime.apply import carry_out


def step(number: int, *after: int) -> Step:
    return Step(number=number, action=StartReplica(replica=f"r/{number}", cause=""), after=after)


class Recorder:
    def __init__(self, *failing: int) -> None:
        self.began: list[str] = []
        self.ended: list[str] = []
        self.skipped: list[tuple[str, str]] = []
        self._failing = {f"r/{number}" for number in failing}

    async def perform(self, action: StartReplica) -> None:
        self.began.append(action.replica)
        await asyncio.sleep(0)
        if action.replica in self._failing:
            raise SelfhostError(f"{action.replica} failed")
        self.ended.append(action.replica)

    def skip(self, action: StartReplica, problem: SelfhostError) -> None:
        self.skipped.append((action.replica, problem.message))


async def test_steps_begin_when_what_they_come_after_has_ended() -> None:
    recorder = Recorder()
    await carry_out([step(1), step(2, 1), step(3), step(4, 2, 3)], recorder.perform, recorder.skip)
    assert recorder.began == ["r/1", "r/3", "r/2", "r/4"]
    assert recorder.ended == ["r/1", "r/3", "r/2", "r/4"]


async def test_a_failure_ends_what_comes_after_it_and_nothing_else() -> None:
    recorder = Recorder(1)
    await carry_out([step(1), step(2, 1), step(3, 2), step(4)], recorder.perform, recorder.skip)
    assert recorder.ended == ["r/4"]
    assert recorder.skipped == [("r/2", "r/1 failed"), ("r/3", "r/1 failed")]


async def test_when_it_is_cancelled_no_step_goes_on() -> None:
    waiting, cancelled = asyncio.Event(), asyncio.Event()

    async def perform(action: object) -> None:
        del action
        waiting.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    work = asyncio.create_task(carry_out([step(1), step(2, 1)], perform, lambda *_: None))
    await waiting.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await asyncio.wait_for(cancelled.wait(), 5)


def test_actions_say_what_they_act_on() -> None:
    assert StopReplica(replica="chat/0", cause="x").resource == "chat/0"
    assert ServeGateway(address="127.0.0.1:8000", cause="x").resource == "gateway 127.0.0.1:8000"
