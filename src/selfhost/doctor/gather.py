"""All facts of one look at a box, gathered at once and in bounded time."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from selfhost import paths, versions
from selfhost.catalog.known import known_models
from selfhost.doctor import look_children, look_files, look_network
from selfhost.doctor.background import Background
from selfhost.doctor.facts import CudaAnswer, Facts, NotLooked, Planned, PortAnswer, Problem
from selfhost.engines import discover, environment, prerequisites
from selfhost.errors import BlockedError, SelfhostError
from selfhost.hardware import pci
from selfhost.hardware.detect import detect
from selfhost.hardware.inventory import Inventory
from selfhost.manifest.schema import Manifest
from selfhost.manifest.values import SourceKind
from selfhost.planner.engine_build import choose_build
from selfhost.planner.plan import Plan
from selfhost.planner.reclaim import without_ours
from selfhost.planner.source import AUTO, CATALOGUE
from selfhost.runtime.control_client import ControlClient
from selfhost.runtime.status import ManagerStatus
from selfhost.weights import missing_bytes

# Together with the start of Python less than 3 s, whatever hangs.
LOOK_SECONDS = 2.5
SLOW_DRIVER_SECONDS = 40.0  # one that wakes GPU after GPU does not hang (hardware/nvidia.py)
SHOW_SECONDS = 0.5  # of those for a child process to be started, heard and ended: the plan, the Hub
NEEDS_SECONDS = 0.3  # after the plan
CUDA_SECONDS = 2.1  # of `up`, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The manifest that a box is looked at for."""

    manifest: Manifest
    text: str  # as it was written
    plan_command: Sequence[str]  # what makes the plan, as JSON: a process that can be ended


def gather(
    environ: Mapping[str, str],
    asked: Asked | None = None,
    manifest_problem: Problem | None = None,
    seconds: float = LOOK_SECONDS,
) -> Facts:
    """Look at everything, for so long; never raises for what it finds."""
    until = time.monotonic() + seconds
    patience = seconds - SHOW_SECONDS
    nvidia = _nvidia_seen(environ)
    manifest = asked.manifest if asked else None
    inventory = Background(lambda: detect(environ=environ))
    statuses = Background(_statuses)
    recorded = Background(_recorded)
    planned = Background(lambda: look_children.plan(asked.plan_command, patience, environ)) if asked else None
    repositories = _repositories(manifest, nvidia=nvidia) if manifest else ()
    hub = Background(lambda: look_children.hub(repositories, patience, environ))
    cuda = begin_cuda(environ)
    files = Background(look_files.private_files)
    engines = Background(look_files.engines)
    leftovers = Background(look_files.leftovers)
    answered = statuses.result(until)
    running = {} if isinstance(answered, NotLooked) else answered
    found = recorded.result(until)
    ours = {status.pid for status in running.values()} | (set() if isinstance(found, NotLooked) else found)
    listeners = Background(lambda: look_network.listeners(ours))
    port = Background(lambda: _port(manifest, running)) if manifest else None
    machine = inventory.result(until + SLOW_DRIVER_SECONDS)  # it has deadlines of its own, and nothing goes without it
    if isinstance(machine, NotLooked):
        raise SelfhostError(f"this machine could not be looked at: {machine.cause}", hint="selfhost gpus")
    plan = planned.result(until) if planned else None
    needs = Background(lambda: _engine_problems(manifest, machine, plan, environ))
    return Facts(
        inventory=_of_others(machine, running, ours),
        environ=environ,
        manifest=manifest,
        manifest_problem=manifest_problem,
        secrets_in_manifest=look_files.lines_with_keys(asked.text) if asked else None,
        planned=plan,
        cuda=cuda.result(until) if cuda else None,
        engine_problems=needs.result(until + NEEDS_SECONDS),
        engines=engines.result(until),
        port=port.result(until) if port else None,
        listeners=listeners.result(until),
        hub=hub.result(until),
        private_files=files.result(until),
        leftovers=leftovers.result(until),
    )


def begin_cuda(environ: Mapping[str, str]) -> Background[CudaAnswer | NotLooked] | None:
    """Begin to start CUDA, beside whatever else may wait for a driver that hangs; None without an NVIDIA GPU."""
    return Background(lambda: look_children.cuda(CUDA_SECONDS, environ)) if _nvidia_seen(environ) else None


def for_gate(
    manifest: Manifest,
    inventory: Inventory,
    plan: Plan,
    status: ManagerStatus | None,
    cuda: Background[CudaAnswer | NotLooked] | None,
    environ: Mapping[str, str],
) -> Facts:
    """What the checks of `up` need: nothing of the network, and nothing that takes long."""
    checkpoints = {each.checkpoint.label: each.checkpoint for each in plan.deployments}
    missing = {label: missing_bytes(checkpoint) for label, checkpoint in checkpoints.items()}
    planned = Planned(plan=plan, missing_weights=missing)
    return Facts(
        inventory=inventory,
        environ=environ,
        manifest=manifest,
        planned=planned,
        engine_problems=_engine_problems(manifest, inventory, planned, environ),
        cuda=cuda.result(time.monotonic() + CUDA_SECONDS) if cuda and inventory.gpus else None,
        port=_port(manifest, {manifest.name: status} if status else {}),
    )


def _of_others(inventory: Inventory, running: Mapping[str, ManagerStatus], ours: Collection[int]) -> Inventory:
    """`inventory` with neither the memory nor the processes of our own engines."""
    left = without_ours(inventory, [each.observed for status in running.values() for each in status.replicas])
    return replace(
        left,
        gpus=tuple(
            replace(gpu, processes=tuple(each for each in gpu.processes if each.pid not in ours))
            if gpu.processes
            else gpu
            for gpu in left.gpus
        ),
    )


def _port(manifest: Manifest, running: Mapping[str, ManagerStatus]) -> PortAnswer:
    status = running.get(manifest.name)
    return look_network.port(manifest.gateway.listen, manifest.name, status.pid if status else None)


def _nvidia_seen(environ: Mapping[str, str]) -> bool:
    root = Path(environ.get("SELFHOST_HOST_ROOT") or "/")
    return pci.nvidia_device_nodes(root) or any(found.vendor == "NVIDIA" for found in pci.read_accelerators(root))


def _repositories(manifest: Manifest, *, nvidia: bool) -> tuple[str, ...]:
    """What comes from the Hub, as `REPO@REVISION`, told before any plan is made."""
    found = []
    for model in manifest.models:
        source = CATALOGUE if model.source == AUTO and nvidia else model.source
        known = known_models().get(source)
        repo = source if SourceKind.of(source) is SourceKind.HUB else known and known.repo
        if repo:
            found.append(f"{repo}@{model.revision}")
    return tuple(dict.fromkeys(found))


def _recorded() -> set[int]:
    """The processes that selfhost started for this user and that still run."""
    return {pid for name in paths.manifests() for pid in look_network.pids_of(name)}


def _statuses() -> dict[str, ManagerStatus]:
    """The managers of this user that answer; one of another version is a stranger to us."""
    found = {}
    for name in paths.manifests():
        try:
            status = ControlClient(name).status_if_running()
        except SelfhostError:
            continue
        if status:
            found[name] = status
    return found


def _engine_problems(
    manifest: Manifest | None,
    inventory: Inventory,
    planned: Planned | NotLooked | None,
    environ: Mapping[str, str],
) -> tuple[Problem, ...] | None:
    """What is missing for the build of vLLM that this box can run; None where none is to be installed."""
    version = manifest.engine.vllm if manifest else versions.DEFAULT
    if manifest and manifest.engine.python:
        return None
    try:
        variant = choose_build(version, inventory).variant
    except BlockedError:  # the check of the driver says why
        return None
    if variant is None or discover.find(version, variant):
        return None
    deployments = planned.deployments if isinstance(planned, Planned) else ()
    needs_compiler = any(each.engine_args.get("enforce-eager") is not True for each in deployments)
    places = prerequisites.rooms(environment.directory(version, variant), environment.download_cache(), variant)
    found = prerequisites.find_problems(prerequisites.look(environ), places, variant, needs_compiler=needs_compiler)
    return tuple(
        Problem(
            message=f"vLLM {version} ({variant}) cannot be installed: {problem.sentence}",
            hint=f"sudo apt-get install {problem.package}" if problem.package else problem.advice,
        )
        for problem in found
    )
