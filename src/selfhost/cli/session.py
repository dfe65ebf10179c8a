"""One `up` from the applied plan to everything ready or given up, shown as it happens."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from selfhost.cli.follow import LineShow, Show
from selfhost.errors import ExitCode, TimedOutError
from selfhost.planner.actions import Step
from selfhost.planner.plan import Plan
from selfhost.planner.reconcile import GIVEN_UP
from selfhost.planner.routing import ReplicaState
from selfhost.runtime.control_client import ControlClient, EventFeed
from selfhost.runtime.events import Level
from selfhost.runtime.status import ManagerStatus, ReplicaStatus
from selfhost.units import format_duration

DONE = (ReplicaState.READY, *GIVEN_UP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an `up` went."""

    status: ManagerStatus

    @property
    def given_up(self) -> tuple[ReplicaStatus, ...]:
        """The replicas that failed."""
        return self.status.given_up

    @property
    def all_failed(self) -> bool:
        """Nothing answers, and nothing will."""
        return len(self.given_up) == len(self.status.replicas)

    @property
    def exit_code(self) -> ExitCode:
        """What the command ends with."""
        if not self.given_up:
            return ExitCode.OK
        return ExitCode(self.given_up[0].exit_code or ExitCode.FAILED)


class Session:
    """Applies a plan and follows what comes of it. `close` ends it, from any thread."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client
        self._feed: EventFeed = client.events()  # opened first: nothing that follows is missed

    def apply(self, plan: Plan, manifest_path: str) -> tuple[Step, ...]:
        """Have the manager begin."""
        return self._client.apply(plan, manifest_path)

    def settle(self, show: Show, timeout_seconds: float | None) -> Outcome:
        """Show what happens until every replica is ready or given up.

        Raises `TimedOutError` when that takes longer than `timeout_seconds`.
        """
        with self._deadline(timeout_seconds) as passed, show:
            status = self._client.status()
            if _is_settled(status):
                return Outcome(status=status)
            for event in self._feed:
                show.event(event)
                if event.level is not Level.PROGRESS and _is_settled(status := self._client.status()):
                    return Outcome(status=status)
        if passed.is_set():
            waited = format_duration(timeout_seconds or 0)
            states = ", ".join(f"{each.observed.replica.name} is {each.observed.state}" for each in status.replicas)
            raise TimedOutError(
                f"not everything is ready after {waited}: {states or 'nothing has begun'}",
                hint="selfhost ps and selfhost logs tell more; a longer --timeout waits on",
            )
        return Outcome(status=status)  # the manager was asked to end meanwhile

    def watch(self) -> None:
        """Say what changes, until the manager ends."""
        show = LineShow()
        for event in self._feed:
            show.event(event)

    def close(self) -> None:
        """End `settle` and `watch`."""
        self._feed.close()

    @contextlib.contextmanager
    def _deadline(self, seconds: float | None) -> Iterator[threading.Event]:
        passed = threading.Event()

        def end() -> None:
            passed.set()
            self._feed.close()

        timer = threading.Timer(seconds, end) if seconds is not None else None
        if timer:
            timer.start()
        try:
            yield passed
        finally:
            if timer:
                timer.cancel()


def _is_settled(status: ManagerStatus) -> bool:
    return (
        status.plan is not None
        and status.gateway is not None
        and status.gateway.state is ReplicaState.READY
        and not status.working
        and all(replica.observed.state in DONE for replica in status.replicas)
    )
