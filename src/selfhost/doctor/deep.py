"""The deep checks: whether an engine's own Python computes on the GPUs, and whether two of them can add up. Pure."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from selfhost.doctor.container import on_host
from selfhost.doctor.cuda_errors import cuda_failure
from selfhost.doctor.facts import AllReduce, Deep, Facts, NotLooked
from selfhost.doctor.finding import Verdict, blocking, fine, warning
from selfhost.engines import failures
from selfhost.engines.gpu_answers import Outcome, PeerCopy, Trial
from selfhost.hardware.inventory import Host
from selfhost.planner.link_test import Settings

_DRIVER_LOG = "sudo dmesg | grep -e NVRM -e Xid"
_IOMMU = (
    "sudo dmesg | grep -i -e iommu -e DMAR  # then turn the IOMMU, or ACS, off in the firmware or the kernel's options"
)


class Proved(NamedTuple):
    """What the engine's Python computed, and where."""

    deep: Deep
    host: Host


class Copies(NamedTuple):
    """The copies between GPUs."""

    deep: Deep
    needed: bool  # a model of the plan is split over GPUs


class Added(NamedTuple):
    """The all-reduces."""

    found: AllReduce
    needed: bool  # likewise


def proved_of(facts: Facts) -> Proved | NotLooked | None:
    """What `engine_cuda` is about."""
    return Proved(facts.deep, facts.inventory.host) if isinstance(facts.deep, Deep) else facts.deep


def copies_of(facts: Facts) -> Copies | None:
    """What `peer_copies` is about."""
    return Copies(facts.deep, _split(facts)) if isinstance(facts.deep, Deep) and facts.deep.cuda.copies else None


def all_reduce_of(facts: Facts) -> Added | NotLooked | None:
    """What `all_reduce` is about."""
    found = facts.deep.all_reduce if isinstance(facts.deep, Deep) else None
    return Added(found, _split(facts)) if isinstance(found, AllReduce) else found


def engine_cuda(proved: Proved) -> Iterator[Verdict]:
    """CUDA in the engine's environment: NVML works where libcuda, or torch's build of CUDA, does not."""
    proof, count = proved.deep.cuda, len(proved.deep.gpus)
    built = f"PyTorch {proof.torch}" if proof.torch else "PyTorch"
    if proof.cut and proof.torch:
        yield warning(
            f"{built} has computed on {len(proof.computing)} of {count} GPUs and copied between {len(proof.copies)} "
            "pairs when the time was over: try again on a box that does less, with persistence mode",
            fix=on_host(proved.host, "sudo nvidia-smi -pm 1"),
        )
    elif proof.cut:
        yield warning(f"{built} was still being imported: the disk of the engine is slow, and so will its starts be")
    elif proof.hang:
        yield blocking(f"{built} hangs while {proof.hang}", fix=_DRIVER_LOG)
    elif proof.error:
        sentence, fix = _explain(proof.error, proved.host)
        # no word about CUDA: engines of ours, or somebody else, hold the memory
        say = warning if "out of memory" in proof.error else blocking
        yield say(f"{built} of the engine cannot use the GPUs: {sentence}", fix=fix)
    elif (proof.device_count or 0) < count:
        yield blocking(f"{built} of the engine sees {proof.device_count} of {count} GPUs", fix="nvidia-smi -L")
    else:
        yield fine(f"{built} of the engine computes on {count} GPU{'s' if count > 1 else ''} with CUDA {proof.cuda}")


def peer_copies(copies: Copies) -> Iterator[Verdict]:
    """Copies from each GPU into each other one."""
    deep = copies.deep
    labels = {gpu.uuid: gpu.label for gpu in deep.gpus}
    avoided = isinstance(deep.all_reduce, AllReduce) and deep.all_reduce.worked is not None
    for copy in deep.cuda.copies:
        if not copy.intact:
            yield (blocking if copies.needed and not avoided else warning)(
                f"what GPU {labels[copy.first]} copies to GPU {labels[copy.second]} arrives as something else: peer "
                "access between them is broken",
                fix=_IOMMU,
            )
    if deep.cuda.works and all(copy.intact for copy in deep.cuda.copies):
        yield fine(f"all {len(deep.cuda.copies)} copies between two GPUs arrive intact, {_directly(deep.cuda.copies)}")


def all_reduce(added: Added) -> Iterator[Verdict]:
    """Whether NCCL works between the two GPUs that are farthest apart, and how."""
    found = added.found
    first, second = (gpu.label for gpu in found.pair)
    failed = [trial for trial in found.trials if trial.outcome in {Outcome.ERROR, Outcome.HANG}]
    worked = found.worked
    where = f"an all-reduce between GPU {first} and GPU {second}"
    if worked is None and found.trials[-1].outcome is Outcome.CUT:
        ends = found.trials[-1].words if "out of memory" in found.trials[-1].words else "the time was over"
        yield warning(f"{where} could not be tried to its end ({ends}): try again on a box that does less")
    elif worked is None:
        ends = "; ".join(f"{_named(trial.settings)}: {_how(trial)}" for trial in failed)
        yield (blocking if added.needed else warning)(
            f"{where} does not work ({ends}). A model split over GPUs will not start; tensor_parallel_size: 1 will",
            fix=_IOMMU,
        )
    elif worked.settings:
        ends = _how(failed[0]) if failed else "would arrive as something else"
        yield warning(
            f"{where} {ends}; with {_named(worked.settings)} it works, at {_speed(worked)}: engines are started like "
            "that from now on",
            fix=_IOMMU,
        )
    else:
        yield fine(f"{where} works, at {_speed(worked)}")


def _split(facts: Facts) -> bool:
    return any(each.tensor_parallel_size > 1 for each in facts.deployments)


def _explain(error: str, host: Host) -> tuple[str, str | None]:
    """Torch's words, and the fix where the error is a known one."""
    if code := re.search(r"[Ee]rror (\d{1,3}):", error):
        known = cuda_failure(int(code[1]), host)
        return f"{known.sentence} ({error})", known.fix
    failure = failures.explain(error, exit_code=1)
    return error, failure.hint if failure.code != "unknown" else _DRIVER_LOG


def _directly(copies: tuple[PeerCopy, ...]) -> str:
    direct = sum(copy.access for copy in copies)
    return f"{direct} of them directly" if direct < len(copies) else "directly"


def _named(settings: Settings) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items()) or "with nothing set"


def _how(trial: Trial) -> str:
    ends = "hangs" if trial.outcome is Outcome.HANG else "fails"
    return f"{ends} ({trial.words})" if trial.words else ends


def _speed(trial: Trial) -> str:
    return f"{trial.gib_per_second or 0:.1f} GiB/s"
