"""The deep proof that this machine's GPUs compute: CUDA itself, and NCCL between two of them, in an engine's Python.

NVML answering proves neither: libcuda may be missing or of another driver, and GPUs may claim peer access that hangs.
Everything happens in child processes with deadlines.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfhost.engines import proof
from selfhost.engines.check_process import Check, Ending, listen
from selfhost.engines.gpu_answers import CudaProof, Outcome, PeerCopy, Trial
from selfhost.hardware.inventory import Gpu
from selfhost.planner.link_test import Settings

CUDA_SECONDS = 15.0  # to initialise CUDA, then to compute on each GPU, and to copy between every two
ALL_REDUCE_SECONDS = 12.0  # for each of two ranks to meet the other and to add up: seconds on a healthy box

_CUDA_CHECK = Path(__file__).with_name("cuda_check.py")
_ALL_REDUCE_CHECK = Path(__file__).with_name("all_reduce_check.py")


def check_cuda(python: Path, gpus: Sequence[Gpu], *, deadline: float) -> CudaProof:
    """Initialise CUDA with `python`, compute on each of `gpus`, copy between every two.

    `deadline` is on the monotonic clock. Of MIG devices a process sees one only, so give one.
    """
    uuids = [gpu.uuid for gpu in gpus]
    child = Check([python, "-P", _CUDA_CHECK], _environ(uuids))
    ending = listen([child], CUDA_SECONDS, deadline)
    answers = {name: value for answer in child.answers for name, value in answer.items()}
    computing = [uuids[answer["device"]] for answer in child.answers if "device" in answer]
    copies = [answer for answer in child.answers if "copy" in answer]
    return CudaProof(
        torch=answers.get("torch"),
        cuda=answers.get("cuda"),
        device_count=answers.get("devices"),
        computing=tuple(computing),
        copies=tuple(
            PeerCopy(
                first=uuids[copy["copy"][0]],
                second=uuids[copy["copy"][1]],
                access=copy["access"],
                intact=copy["intact"],
            )
            for copy in copies
        ),
        error=answers.get("error") or (child.died() if ending is Ending.DONE else None),
        hang=_next_question(gpus, answers, len(computing), len(copies)) if ending is Ending.HANG else None,
        cut=ending is Ending.CUT,
    )


def all_reduce(
    python: Path, pair: Sequence[Gpu], settings: Settings, *, deadline: float, backend: str = "nccl"
) -> Trial:
    """Add up over the two GPUs of `pair` with these settings of NCCL; `deadline` is on the monotonic clock."""
    environ = _environ([gpu.uuid for gpu in pair]) | {
        "NCCL_DEBUG": "WARN",  # its reasons; they arrive among the answers
        "NCCL_SOCKET_IFNAME": "lo",  # both ranks are here: nothing of this needs to listen publicly
        "GLOO_SOCKET_IFNAME": "lo",
        **settings,
    }
    with tempfile.TemporaryDirectory(prefix="selfhost-") as folder:
        argv: list[str | Path] = [python, "-P", _ALL_REDUCE_CHECK, backend]
        ranks = [Check([*argv, str(rank), Path(folder, "store")], environ) for rank in range(2)]
        ending = listen(ranks, ALL_REDUCE_SECONDS, deadline)
    answers = [answer for rank in ranks for answer in rank.answers]
    speeds = [answer["gib_per_second"] for answer in answers if "gib_per_second" in answer]
    errors = [answer["error"] for answer in answers if "error" in answer]
    words = [word for rank in ranks for word in rank.words]
    if len(speeds) == len(ranks):
        return Trial(settings=settings, outcome=Outcome.OK, gib_per_second=min(speeds))
    if ending is not Ending.DONE:
        outcome = Outcome.HANG if ending is Ending.HANG else Outcome.CUT
        return Trial(settings=settings, outcome=outcome, words=words[-1] if words else "")
    died = [word for rank in ranks if (word := rank.died())]
    said = (errors or died or words or ["no answer"])[0]
    full = "out of memory" in said  # engines hold it, and other settings of NCCL would not free any
    return Trial(settings=settings, outcome=Outcome.CUT if full else Outcome.ERROR, words=said)


def _next_question(gpus: Sequence[Gpu], answers: Mapping[str, Any], computing: int, copies: int) -> str:
    """What was asked when the answers ended; the order is that of cuda_check.py."""
    if "devices" not in answers:
        return "initialising CUDA"
    if computing < len(gpus):
        return f"computing on GPU {gpus[computing].label}"
    pairs = [(first, second) for first in gpus for second in gpus if first is not second]
    first, second = pairs[min(copies, len(pairs) - 1)]
    return f"copying from GPU {first.label} to GPU {second.label}"


def _environ(uuids: Sequence[str]) -> dict[str, str]:
    """What engines get too, as far as it decides which GPUs there are."""
    return proof.environ("cuda") | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(uuids)}
