"""Performs one action of a plan on the fleet; it decides nothing."""

import asyncio
import logging
import os

from selfhost import paths
from selfhost.engines.arguments import validate_argv
from selfhost.engines.command import Command
from selfhost.engines.environment import load_arguments
from selfhost.engines.vllm import Launch, serve_command
from selfhost.errors import SelfhostError
from selfhost.planner.actions import Action, FetchWeights, InstallEngine, ServeGateway, StartReplica, StopReplica
from selfhost.planner.routing import ReplicaState
from selfhost.progress import Progress
from selfhost.runtime import jobs
from selfhost.runtime.engine_process import replica_dir
from selfhost.runtime.events import Event, Level
from selfhost.runtime.fleet import Fleet
from selfhost.runtime.observe import find_engine
from selfhost.runtime.replica import DRAIN_SECONDS, ReplicaSupervisor
from selfhost.weights import check_disk, locate

log = logging.getLogger(__name__)

ENGINE = "engine"


async def perform(action: Action, fleet: Fleet) -> None:
    """Carry out `action`; raises `SelfhostError`, already told to everybody, when it fails."""
    try:
        match action:
            case InstallEngine(engine=engine, needs_compiler=compiler):
                await jobs.install(engine, lambda progress: _report(fleet, ENGINE, progress), needs_compiler=compiler)
                fleet.tell(Event(subject=ENGINE, state="installed", cause=action.resource))
            case FetchWeights():
                await _fetch(action, fleet)
            case StopReplica(replica=name, cause=cause):
                await fleet.replicas[name].stop(cause)
                fleet.forget(name)
                fleet.tell(Event(subject=name, state="stopped", cause=cause))
                if fleet.is_planned(name):
                    fleet.queue(name)
            case StartReplica(replica=name):
                await _start(fleet.replicas[name], fleet)
            case ServeGateway():
                fleet.publish()
    except SelfhostError as error:
        _tell_failure(action, fleet, error)
        raise
    except Exception as error:
        log.exception("%s %s ended by a defect", action.kind, action.resource)
        problem = SelfhostError(f"internal error: {type(error).__name__}: {error}")
        _tell_failure(action, fleet, problem)
        raise problem from error


def skip(action: Action, fleet: Fleet, problem: SelfhostError) -> None:
    """What becomes of an action whose turn never comes because of `problem`."""
    if isinstance(action, StartReplica):
        fleet.replicas[action.replica].fail(problem)


async def _fetch(action: FetchWeights, fleet: Fleet) -> None:
    checkpoint = action.checkpoint
    await asyncio.to_thread(check_disk, checkpoint)
    for replica in fleet.waiting_for(checkpoint.label):
        replica.to(ReplicaState.PULLING, action.cause)
    await jobs.fetch(checkpoint, lambda progress: _report(fleet, checkpoint.label, progress))
    fleet.tell(Event(subject=checkpoint.label, state="fetched", cause="all its files are here"))


async def _start(replica: ReplicaSupervisor, fleet: Fleet) -> None:
    """Start a replica and wait until it is ready or given up; the replica itself tells which."""
    try:
        command = await asyncio.to_thread(_command, replica, fleet)
    except SelfhostError as error:
        replica.fail(error)
        return
    replica.begin(command)
    await replica.settled()


def _command(replica: ReplicaSupervisor, fleet: Fleet) -> Command:
    environment = find_engine(replica.engine)
    if environment is None:
        raise SelfhostError("the engine's environment is gone", hint="selfhost engine install")
    launch = Launch(
        executable=str(environment.executable),
        model_path=str(locate(replica.deployment.checkpoint)),
        socket=replica.socket,
        temp_dir=str(replica_dir(fleet.name, replica.replica.name) / "t"),
        cache_dir=str(paths.home_dir() / "cache"),
        api_key=fleet.api_key,
        drain_seconds=DRAIN_SECONDS,
    )
    arguments = load_arguments(environment)
    command = serve_command(
        replica.deployment,
        replica.replica,
        replica.engine.platform,
        launch,
        arguments=arguments,
        inherited=os.environ,
    )
    if problems := validate_argv(arguments, command.argv[2:]):  # a typo would cost the engine half a minute
        raise SelfhostError(f"the engine would refuse its command line: {problems[0]}", hint="selfhost check")
    return command


def _report(fleet: Fleet, subject: str, progress: Progress) -> None:
    fleet.tell(
        Event(
            subject=subject,
            state=progress.phase,
            cause=progress.message,
            level=Level.PROGRESS,
            done_bytes=progress.done_bytes,
            total_bytes=progress.total_bytes,
        )
    )


def _tell_failure(action: Action, fleet: Fleet, error: SelfhostError) -> None:
    fleet.tell(
        Event(
            subject=ENGINE if isinstance(action, InstallEngine) else action.resource,
            state="failed",
            cause=error.message,
            hint=error.hint,
            level=Level.ERROR,
            exit_code=error.exit_code,
        )
    )
