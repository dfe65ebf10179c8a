"""The life of one replica: one task owns its state, starts its engine, proves it, watches it and starts it again."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from selfhost.engines import failures
from selfhost.engines.command import Command
from selfhost.engines.failure_rule import Retry
from selfhost.engines.failures import Failure
from selfhost.errors import ExitCode, SelfhostError
from selfhost.observe.health import EngineProbe, Health
from selfhost.planner.plan import Deployment, EngineBuild, Replica
from selfhost.planner.reconcile import ObservedReplica
from selfhost.planner.routing import ReplicaState
from selfhost.runtime.engine_process import EngineProcess, socket_path
from selfhost.runtime.events import Event, Level
from selfhost.runtime.restarts import Again, GiveUp, decide
from selfhost.runtime.startup import LAST_WORDS_SECONDS, bring_up
from selfhost.runtime.status import ReplicaStatus
from selfhost.runtime.waiting import wait, wait_any
from selfhost.units import format_duration

log = logging.getLogger(__name__)

PHASE_CAUSES = {
    ReplicaState.STARTING: "its processes start, and each imports vLLM",
    ReplicaState.LOADING: "loading weights",
    ReplicaState.WARMING: "preparing to answer",
}

DRAIN_SECONDS = 30  # running requests may go on for so long after a stop was asked for
ROUTES_SECONDS = 0.5  # the gateway looks for a new routing table four times a second; new requests go elsewhere first
TEARDOWN_SECONDS = 10  # the engine's own end takes 2.5 s after its last token (measured)
WATCH_SECONDS = 2.0
FORGIVEN_AFTER_SECONDS = 600.0  # of being ready, earlier starts no longer count


class DeviceLocks:
    """Engines that share a GPU start one after another: each measures what is free while it starts."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def hold(self, devices: Sequence[str]) -> AsyncIterator[None]:
        """Hold the devices, taken in one order by everybody."""
        async with AsyncExitStack() as stack:
            for device in sorted(devices):
                await stack.enter_async_context(self._locks.setdefault(device, asyncio.Lock()))
            yield


class ReplicaSupervisor:
    """One replica. `begin` starts its life; `state`, `cause` and `since` tell about it; `stop` ends it."""

    def __init__(
        self,
        manifest: str,
        engine: EngineBuild,
        deployment: Deployment,
        replica: Replica,
        *,
        api_key: str,
        locks: DeviceLocks,
        tell: Callable[[Event], None],
    ) -> None:
        self.engine = engine
        self.deployment = deployment
        self.replica = replica
        self.socket = str(socket_path(manifest, replica.name))
        self.state = ReplicaState.QUEUED
        self.cause = "waiting for its turn"
        self.since = time.time()
        self.begun = False  # its life has started; until then it only waits for its turn
        self._restarts = 0
        self._told: Event | None = None  # the event that brought it into its state
        self._engine: EngineProcess | None = None
        self._manifest = manifest
        self._api_key = api_key
        self._locks = locks
        self._tell = tell
        self._stop_asked = asyncio.Event()
        self._drain = True
        self._settled = asyncio.Event()
        self._life: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._stuck: SelfhostError | None = None  # processes that cannot be killed: nothing may start in their place

    def begin(self, command: Command) -> None:
        """Start the engine by `command` and keep it running."""
        self.begun = True
        self._life = asyncio.create_task(self._live(command), name=f"replica {self.replica.name}")

    async def settled(self) -> ReplicaState:
        """Wait until it is ready or given up for the first time."""
        await self._settled.wait()
        return self.state

    def status(self) -> ReplicaStatus:
        """How it is, now."""
        return ReplicaStatus(
            observed=ObservedReplica(
                engine=self.engine, deployment=self.deployment, replica=self.replica, state=self.state
            ),
            cause=self.cause,
            since=self.since,
            restarts=self._restarts,
            hint=self._told.hint if self._told else None,
            exit_code=self._told.exit_code if self._told else None,
        )

    async def stop(self, cause: str, *, drain: bool = True) -> None:
        """End it: without new requests, running ones finish first, unless `drain` is false. Returns when it is gone.

        A stop that has begun runs to its end, even if nobody waits for it any more. Raises `SelfhostError` when
        something of it cannot be killed.
        """
        if not drain:
            self.hurry()
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(cause), name=f"stop {self.replica.name}")
        await asyncio.shield(self._stopping)
        if self._stuck:
            raise self._stuck

    async def _stop(self, cause: str) -> None:
        if self.state is ReplicaState.READY:
            self.to(ReplicaState.DRAINING, cause)
            await wait(self._stop_asked, ROUTES_SECONDS)
        self._stop_asked.set()
        if self._life is not None:
            await self._life
        self._settled.set()

    def hurry(self) -> None:
        """Do not wait for requests any longer: kill its processes."""
        self._drain = False
        self._stop_asked.set()
        if self._engine:
            self._engine.kill()

    def fail(self, problem: SelfhostError) -> None:
        """Give it up before it was started, because something it needs could not be had."""
        self.to(
            ReplicaState.FAILED,
            problem.message,
            level=Level.ERROR,
            hint=problem.hint,
            exit_code=problem.exit_code,
        )
        self._settled.set()

    def to(self, new: ReplicaState, cause: str, *, level: Level = Level.INFO, **details: Any) -> None:
        """Enter a state; everybody who follows is told."""
        self.state, self.cause, self.since = new, cause, time.time()
        self._told = Event(subject=self.replica.name, state=new, cause=cause, level=level, **details)
        self._tell(self._told)

    async def _live(self, command: Command) -> None:
        starts: list[float] = []
        try:
            while not self._stop_asked.is_set():
                starts.append(time.monotonic())
                failure, was_ready_seconds = await self._one_run(command)
                if failure is None:
                    return
                if was_ready_seconds > FORGIVEN_AFTER_SECONDS:
                    del starts[:-1]
                verdict = decide(failure.retry, starts, time.monotonic(), random=random.random())  # noqa: S311 (jitter)
                if isinstance(verdict, GiveUp):
                    self._give_up(verdict, failure)
                    return
                await self._back_off(verdict, failure)
        except SelfhostError as error:
            self.fail(error)
        except Exception as error:
            log.exception("the life of %s ended by a defect", self.replica.name)
            self.fail(SelfhostError(f"internal error: {type(error).__name__}: {error}"))

    async def _one_run(self, command: Command) -> tuple[Failure | None, float]:
        """Start the engine and watch it until it ends.

        Returns the failure (None: a stop was asked for) and for how many seconds the engine had been ready.
        """
        ready_at = None
        async with AsyncExitStack() as devices:
            await devices.enter_async_context(self._locks.hold(self.replica.gpu_uuids))
            self._enter_phase(ReplicaState.STARTING)
            try:
                engine = self._engine = EngineProcess(self._manifest, self.replica.name, command)
            except OSError as error:
                return _cannot_start(command, error), 0.0
            async with EngineProbe(self.socket, self._api_key) as probe:
                failure = None
                try:
                    failure = await bring_up(
                        engine, probe, model=self.deployment.name, stop=self._stop_asked, enter=self._enter_phase
                    )
                    if failure is None and not self._stop_asked.is_set():
                        await devices.aclose()
                        ready_at = time.monotonic()
                        self.to(ReplicaState.READY, "it answered with a real token")
                        self._settled.set()
                        failure = await self._watch(engine, probe)
                finally:
                    await self._end(engine, failed=failure is not None, was_ready=ready_at is not None)
        return failure, time.monotonic() - ready_at if ready_at else 0.0

    def _enter_phase(self, phase: ReplicaState) -> None:
        self.to(phase, PHASE_CAUSES[phase])

    async def _watch(self, engine: EngineProcess, probe: EngineProbe) -> Failure | None:
        """Watch a ready engine until it fails, or until a stop was asked for (None)."""
        while not await wait_any((self._stop_asked, engine.child.exited, engine.member_died), WATCH_SECONDS):
            engine.log.rotate()
            health = await probe.health()
            if health in {Health.DEAD, Health.REFUSED}:
                self._leave_ready(
                    "its server says that the engine is dead" if health is Health.DEAD else "nobody listens"
                )
                break
        if self._stop_asked.is_set():
            return None
        if engine.member_died.is_set():
            self._leave_ready(f"{engine.dead_member} died")
        elif engine.child.exited.is_set():
            self._leave_ready(f"its server ended with exit code {engine.child.exit_code}")
        await wait(engine.child.exited, LAST_WORDS_SECONDS)
        failure = failures.explain(engine.log.tail(), engine.child.exit_code)
        return failure if failure.retry is Retry.HOST else _died(failure, self.cause)

    def _leave_ready(self, cause: str) -> None:
        """Take it out of the routing at once, before anything is cleaned up."""
        self.to(ReplicaState.BACKOFF, cause, level=Level.ERROR)

    async def _end(self, engine: EngineProcess, *, failed: bool, was_ready: bool) -> None:
        """End the processes. A stop during a start is a kill: vLLM loses a SIGTERM then, and has nothing to finish."""
        drain = was_ready and not failed and self._drain
        try:
            await engine.end(grace_seconds=DRAIN_SECONDS + TEARDOWN_SECONDS if drain else 0, failed=failed)
        except SelfhostError as error:
            self._stuck = error
            raise

    async def _back_off(self, again: Again, failure: Failure) -> None:
        self._restarts += 1
        delay = format_duration(again.delay_seconds)
        self.to(
            ReplicaState.BACKOFF,
            f"{failure.cause}; starting again in {delay}",
            level=Level.ERROR,
            hint=failure.hint or None,
            code=failure.code,
            lines=failure.lines,
        )
        await wait(self._stop_asked, again.delay_seconds)

    def _give_up(self, verdict: GiveUp, failure: Failure) -> None:
        self.to(
            verdict.state,
            f"{failure.cause} ({verdict.cause})",
            level=Level.ERROR,
            hint=failure.hint or None,
            code=failure.code,
            exit_code=failure.exit_code,
            lines=failure.lines,
        )
        self._settled.set()


def _cannot_start(command: Command, error: OSError) -> Failure:
    return Failure(
        code="cannot_start",
        retry=Retry.HOST,
        cause=f"cannot start {command.argv[0]}: {error.strerror}"
        + (f" ({error.filename})" if error.filename not in {None, command.argv[0]} else ""),
        hint="is the disk full, or the engine's environment gone? selfhost gpus, selfhost engine list",
        exit_code=ExitCode.FAILED,
        lines=(),
    )


def _died(failure: Failure, cause: str) -> Failure:
    """A death while serving is worth another start, whatever words its log ends with: this very start had worked."""
    return Failure(
        code=failure.code,
        retry=Retry.BACKOFF,
        cause=cause,
        hint=failure.hint,
        exit_code=failure.exit_code,
        lines=failure.lines,
    )
