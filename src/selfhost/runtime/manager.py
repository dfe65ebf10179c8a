"""The manager of one manifest: makes plans true, one after another, until it is asked to end."""

import asyncio
import logging
import os
import socket
import time

from selfhost import __version__, state
from selfhost.errors import ExitCode, SelfhostError
from selfhost.planner.actions import Action, StartReplica, Step, StopReplica
from selfhost.planner.plan import Plan
from selfhost.planner.reconcile import reconcile
from selfhost.runtime import manager_lock, steps
from selfhost.runtime.apply import carry_out
from selfhost.runtime.engine_process import replica_dir
from selfhost.runtime.events import Event, EventStream, Level
from selfhost.runtime.fleet import Fleet
from selfhost.runtime.gateway_process import listen
from selfhost.runtime.leftovers import end_leftovers
from selfhost.runtime.manager_lock import ManagerLock
from selfhost.runtime.observe import observe, refresh
from selfhost.runtime.status import ManagerStatus

log = logging.getLogger(__name__)

SETTLED = "settled"  # the state that tells followers to look once more


class Manager:
    """`begin` takes the manager's place, `apply` makes a plan true, `end` stops everything, `release` leaves."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.events = EventStream()
        self.ended = asyncio.Event()
        self._fleet = Fleet(name, self.events)
        self._manifest_path = ""
        self._started = time.time()
        self._working: set[str] = set()
        self._work: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()  # one plan at a time, or the end
        self._ending: asyncio.Task[None] | None = None
        self._lock: ManagerLock | None = None

    async def begin(self) -> None:
        """Become the only manager of this name, and clean up after one that was killed.

        Raises `SelfhostError` when another one runs.
        """
        async with self._changing:  # a signal may ask for the end already
            self._lock = await manager_lock.take(self.name)
            try:
                for name in await end_leftovers(self.name):
                    log.warning("%s of a manager that was killed still ran; ended it", name)
                self._fleet.open()
            except BaseException:
                self.release()
                raise

    def status(self) -> ManagerStatus:
        """How everything is, now."""
        return ManagerStatus(
            version=__version__,
            name=self.name,
            manifest=self._manifest_path,
            pid=os.getpid(),
            started=self._started,
            working=", ".join(sorted(self._working)),
            plan=self._fleet.plan,
            gateway=self._fleet.gateway_status(),
            replicas=tuple(replica.status() for replica in self._fleet.replicas.values()),
        )

    async def apply(self, plan: Plan, manifest_path: str) -> tuple[Step, ...]:
        """Begin to make `plan` true; returns the steps, which are carried out in the background.

        What an earlier plan had begun and this one does not want is dropped. Raises `SelfhostError`, and changes
        nothing, when it cannot begin.
        """
        for deployment in plan.deployments:
            for replica in deployment.replicas:
                replica_dir(self.name, replica.name)  # refuses a path that is too long for sockets
        async with self._changing:
            self._refuse_when_ending()
            observed = await asyncio.to_thread(observe, plan, self.status())
            self._refuse_when_ending()
            expected = [step.action for step in reconcile(plan, observed)]
            leaving = [action.replica for action in expected if isinstance(action, StopReplica)]
            listener = self._new_front_door(plan)
            try:
                await self._fleet.claims.accept(plan, self._fleet.observed(), leaving)
            except BaseException:
                if listener:
                    listener.close()
                raise
            await self._drop_work()
            todo = reconcile(plan, refresh(observed, self.status()))
            self._manifest_path = manifest_path
            self._fleet.adopt_plan(plan)
            if listener:
                self._fleet.open_gateway(listener)
            for step in todo:
                if isinstance(step.action, StartReplica) and step.action.replica not in self._fleet.replicas:
                    self._fleet.queue(step.action.replica)
            self._work = asyncio.create_task(self._carry_out(todo), name="apply")
        return todo

    def end(self, *, drain: bool) -> None:
        """Begin to stop everything; `ended` is set when nothing is left. Called again, it waits for no request."""
        hurry = not drain or self._ending is not None
        if self._ending is None:
            cause = "at once" if hurry else "running requests finish; asked once more, it stops at once"
            self._fleet.tell(Event(subject="manager", state="stopping", cause=cause))
            self._ending = asyncio.create_task(self._end(), name="end")
        if hurry:
            self._fleet.hurry()

    def release(self) -> None:
        """Give up the manager's place, last of all."""
        self._fleet.close()
        if self._lock:
            self._lock.release()

    async def _end(self) -> None:
        try:
            async with self._changing:
                await self._drop_work()
                await self._fleet.stop()
                self._fleet.close()
            self._fleet.tell(_farewell(self.name))
        except (OSError, SelfhostError):
            log.exception("not everything could be cleaned up")
        finally:  # whatever happened, a manager that was asked to end does end
            self.events.close()
            self.ended.set()

    def _refuse_when_ending(self) -> None:
        if self._ending:
            raise SelfhostError(f"'{self.name}' is being stopped", hint="wait until it has ended, then selfhost up")

    async def _drop_work(self) -> None:
        """Stop carrying out an earlier plan."""
        if self._work and not self._work.done():
            self._work.cancel()
            await asyncio.wait({self._work})
        self._fleet.forget_queued()

    async def _carry_out(self, todo: tuple[Step, ...]) -> None:
        await carry_out(todo, self._perform, lambda action, problem: steps.skip(action, self._fleet, problem))
        self._fleet.tell(Event(subject="manager", state=SETTLED, cause="nothing more to do"))

    async def _perform(self, action: Action) -> None:
        label = f"{action.kind} {action.resource}"
        self._working.add(label)
        try:
            await steps.perform(action, self._fleet)
        finally:
            self._working.discard(label)

    def _new_front_door(self, plan: Plan) -> socket.socket | None:
        """Bind the gateway's address before anything else is begun: one that is taken must not cost a start."""
        gateway = self._fleet.gateway
        if gateway and gateway.plan.address == plan.gateway.address:
            return None
        return listen(plan.gateway.host, plan.gateway.port)


def _farewell(name: str) -> Event:
    """The last event: that nothing is left, or what is."""
    left = [record.name for record in state.read_records(name)]
    if not left:
        return Event(subject="manager", state="ended", cause="everything is stopped")
    return Event(
        subject="manager",
        state="ended",
        cause=f"{', '.join(left)} could not be ended",
        level=Level.ERROR,
        hint=f"selfhost logs manager tells why; then selfhost down --name {name} once more",
        exit_code=ExitCode.FAILED,
    )
