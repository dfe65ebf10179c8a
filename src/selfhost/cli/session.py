"""One `up` from the applied plan to everything ready or given up, shown as it happens."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from selfhost.cli.follow import Show
from selfhost.errors import ExitCode, NotReadyError, TimedOutError
from selfhost.planner.actions import Step
from selfhost.planner.plan import Plan
from selfhost.planner.reconcile import GIVEN_UP
from selfhost.planner.routing import ReplicaState
from selfhost.runtime.control_client import ANSWER_SECONDS, ControlClient, EventFeed, NoManagerError
from selfhost.runtime.events import Level
from selfhost.runtime.status import ManagerStatus, ReplicaStatus
from selfhost.units import format_duration

DONE = (ReplicaState.READY, *GIVEN_UP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an `up` went: every replica is ready or given up."""

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
    """Applies a plan and follows what comes of it.

    A manager in this process is silent only when this process is (Ctrl-Z), and that must not end it.
    """

    def __init__(self, client: ControlClient, *, own_manager: bool = False) -> None:
        self._client = client
        silence_seconds = None if own_manager else ANSWER_SECONDS
        # opened first: nothing that follows is missed
        self._feed: EventFeed = client.events(silence_seconds=silence_seconds)

    def apply(self, plan: Plan, manifest_path: str) -> tuple[Step, ...]:
        """Have the manager begin."""
        return self._client.apply(plan, manifest_path)

    def settle(self, show: Show, timeout_seconds: float | None) -> Outcome:
        """Show what happens until every replica is ready or given up.

        What happened since the plan was applied is shown too: when a plan has been carried out, the manager says so.
        Raises `TimedOutError` when that takes longer than `timeout_seconds`, and `NotReadyError` when the manager ends
        before.
        """
        status: ManagerStatus | None = None
        with self._deadline(timeout_seconds) as passed, show, contextlib.suppress(NoManagerError):
            status = self._client.status()
            for event in self._feed:
                show.event(event)
                if event.level is not Level.PROGRESS and _is_settled(status := self._client.status()):
                    return Outcome(status=status)
        if passed.is_set():
            raise TimedOutError(
                f"not everything is ready after {format_duration(timeout_seconds or 0)}: {_states(status)}",
                hint="selfhost ps and selfhost logs tell more; a longer --timeout waits on",
            )
        raise NotReadyError(
            f"the manager ended before everything was ready: {_states(status)}",
            hint="selfhost logs manager may tell why; selfhost up starts again",
        )

    def watch(self, show: Show) -> None:
        """Show what changes, until the manager ends."""
        for event in self._feed:
            show.event(event)

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


def _states(status: ManagerStatus | None) -> str:
    replicas = status.replicas if status else ()
    return ", ".join(f"{each.observed.replica.name} is {each.observed.state}" for each in replicas) or "nothing began"


def _is_settled(status: ManagerStatus) -> bool:
    return (
        status.plan is not None
        and status.gateway is not None
        and status.gateway.state is ReplicaState.READY
        and not status.working
        and all(replica.observed.state in DONE for replica in status.replicas)
    )
