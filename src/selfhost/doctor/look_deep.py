"""Carries the deep checks out, and writes down what they say about the links between the GPUs."""

import time
from datetime import UTC, datetime
from pathlib import Path

from selfhost.doctor.facts import AllReduce, Deep, Facts, NotLooked, Planned
from selfhost.engines import environment, gpu_proof, link_tests
from selfhost.engines.gpu_answers import CudaProof, Outcome, Trial
from selfhost.hardware.inventory import Gpu, Inventory
from selfhost.planner.link_test import LinkTest, settings_to_try, worst_pair
from selfhost.planner.plan import Platform, Variant
from selfhost.progress import Progress, Report
from selfhost.runtime.observe import find_engine

DEEP_SECONDS = 52.0  # with what comes before less than a minute


def look(facts: Facts, report: Report) -> Deep | NotLooked | None:
    """Compute on every GPU and add up over two of them, in the Python of the engine that would run here.

    None where there is no GPU to compute on.
    """
    if not facts.inventory.gpus:
        return None
    python = _engine_python(facts)
    if isinstance(python, NotLooked):
        return python
    deadline = time.monotonic() + DEEP_SECONDS
    whole = tuple(gpu for gpu in facts.inventory.gpus if not gpu.mig)
    gpus = whole or facts.inventory.gpus[:1]  # of MIG devices a process sees one only
    report(Progress(phase="cuda", message=f"PyTorch computes on {len(gpus)} GPU{'s' if len(gpus) > 1 else ''}"))
    cuda = gpu_proof.check_cuda(python, gpus, deadline=deadline)
    return Deep(gpus=gpus, cuda=cuda, all_reduce=_all_reduce(facts.inventory, python, cuda, deadline, report))


def _engine_python(facts: Facts) -> Path | NotLooked:
    """The Python of the engine in the plan; without a plan, of the newest engine for GPUs that is installed."""
    planned = facts.planned
    if isinstance(planned, Planned) and planned.plan and planned.plan.engine.platform is Platform.CUDA:
        found = find_engine(planned.plan.engine)
        return found.python if found else NotLooked(cause="the engine is not installed yet (selfhost engine install)")
    installed = [each for each in environment.installed() if each.variant != Variant.CPU]
    if not installed:
        return NotLooked(cause="no engine for GPUs is installed yet (selfhost engine install)")
    return max(installed, key=lambda each: each.built or 0).python


def _all_reduce(
    inventory: Inventory, python: Path, cuda: CudaProof, deadline: float, report: Report
) -> AllReduce | NotLooked | None:
    pair = worst_pair(inventory.gpus, inventory.links)
    if pair is None:
        return None
    if not cuda.works:
        return NotLooked(cause="CUDA does not work")
    trials = _trials(pair, inventory, python, cuda, deadline, report)
    if not trials:
        return NotLooked(cause="the checks before it took too long")
    _write_down(inventory, pair, trials)
    return AllReduce(pair=pair, trials=trials)


def _trials(
    pair: tuple[Gpu, Gpu], inventory: Inventory, python: Path, cuda: CudaProof, deadline: float, report: Report
) -> tuple[Trial, ...]:
    """One all-reduce after another, until one works or the time is over."""
    broken = any(not copy.intact for copy in cuda.copies)
    trials: list[Trial] = []
    for settings in settings_to_try(inventory.links):
        if broken and not settings:
            continue  # it would go the way on which copies arrive as something else
        if time.monotonic() > deadline:
            break
        between = f"GPU {pair[0].label} and GPU {pair[1].label}"
        said = " ".join(f"{name}={value}" for name, value in settings.items())
        report(Progress(phase="all-reduce", message=f"{between} add up {said}".rstrip()))
        trials.append(gpu_proof.all_reduce(python, pair, settings, deadline=deadline))
        if trials[-1].outcome in {Outcome.OK, Outcome.CUT}:
            break
    return tuple(trials)


def _write_down(inventory: Inventory, pair: tuple[Gpu, Gpu], trials: tuple[Trial, ...]) -> None:
    worked = trials[-1]
    if worked.outcome is Outcome.CUT:
        return
    if worked.gib_per_second is None:
        link_tests.forget()
        return
    link_tests.write(
        LinkTest(
            gpu_uuids=tuple(gpu.uuid for gpu in inventory.gpus if not gpu.mig),
            driver_version=inventory.driver_version,
            pair=(pair[0].uuid, pair[1].uuid),
            settings=worked.settings,
            gib_per_second=worked.gib_per_second,
            tested=datetime.now(UTC).date().isoformat(),
        )
    )
