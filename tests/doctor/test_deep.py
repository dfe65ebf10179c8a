"""What the deep checks say, for every way in which a box can be sick: pure, and through the command line."""

from dataclasses import replace

import pytest

from selfhost.doctor.facts import AllReduce, Deep, Facts, NotLooked
from selfhost.doctor.registry import CHECKS, examine
from selfhost.engines.gpu_answers import CudaProof, Outcome, PeerCopy, Trial
from selfhost.hardware.inventory import Gpu, Host, Inventory

HOST = Host(architecture="x86_64", cpu_count=1, memory_total_bytes=1, memory_available_bytes=1)
GPUS = tuple(
    Gpu(
        index=index,
        uuid=f"GPU-{index}",
        name="NVIDIA H100 80GB HBM3",
        memory_total_bytes=85520809984,
        memory_free_bytes=85520809984,
        compute_capability=(9, 0),
        pci_bus_id=None,
    )
    for index in (0, 3)
)
COPIES = (
    PeerCopy(first="GPU-0", second="GPU-3", access=True, intact=True),
    PeerCopy(first="GPU-3", second="GPU-0", access=True, intact=True),
)
WORKS = CudaProof(torch="2.13.0+cu130", cuda="13.0", device_count=2, computing=("GPU-0", "GPU-3"), copies=COPIES)
OK = Trial(settings={}, outcome=Outcome.OK, gib_per_second=41.26)
HANG = Trial(settings={}, outcome=Outcome.HANG)
CAREFUL = Trial(settings={"NCCL_P2P_DISABLE": "1"}, outcome=Outcome.OK, gib_per_second=9.0)
RUBBISH = replace(WORKS, copies=(replace(COPIES[0], intact=False), COPIES[1]))


def deep(cuda: CudaProof = WORKS, *trials: Trial) -> Deep:
    return Deep(gpus=GPUS, cuda=cuda, all_reduce=AllReduce(pair=(GPUS[0], GPUS[1]), trials=trials or (OK,)))


CASES = {
    "healthy": (
        deep(),
        [
            ("cuda-engine", "ok", "PyTorch 2.13.0+cu130 of the engine computes on 2 GPUs with CUDA 13.0"),
            ("peer-copies", "ok", "all 2 copies between two GPUs arrive intact, directly"),
            ("all-reduce", "ok", "an all-reduce between GPU 0 and GPU 3 works, at 41.3 GiB/s"),
        ],
    ),
    "the driver is too old for torch": (
        replace(
            deep(
                CudaProof(
                    torch="2.13.0+cu130", cuda="13.0", error="RuntimeError: The NVIDIA driver on your system is too old"
                )
            ),
            all_reduce=NotLooked(cause="CUDA does not work"),
        ),
        [
            (
                "cuda-engine",
                "blocking",
                "PyTorch 2.13.0+cu130 of the engine cannot use the GPUs: RuntimeError: The NVIDIA driver on your",
            ),
            ("all-reduce", "info", "an all-reduce over two GPUs (--deep) could not be looked at: CUDA does not work"),
        ],
    ),
    "the fabric manager does not run": (
        replace(
            deep(CudaProof(torch="2.13.0", error="RuntimeError: Error 802: system not yet initialized")),
            all_reduce=None,
        ),
        [
            (
                "cuda-engine",
                "blocking",
                "PyTorch 2.13.0 of the engine cannot use the GPUs: the system is not yet initialised",
            )
        ],
    ),
    "CUDA hangs": (
        replace(deep(CudaProof(torch="2.13.0", hang="initialising CUDA")), all_reduce=None),
        [("cuda-engine", "blocking", "PyTorch 2.13.0 hangs while initialising CUDA")],
    ),
    "engines of ours hold the memory": (
        replace(deep(CudaProof(torch="2.13.0", error="OutOfMemoryError: CUDA out of memory.")), all_reduce=None),
        [("cuda-engine", "warning", "PyTorch 2.13.0 of the engine cannot use the GPUs: ")],
    ),
    "a disk so slow that torch was never imported": (
        replace(deep(CudaProof(cut=True)), all_reduce=None),
        [("cuda-engine", "warning", "PyTorch was still being imported")],
    ),
    "eight GPUs that wake up slowly": (
        replace(deep(replace(WORKS, computing=("GPU-0",), copies=(), cut=True)), all_reduce=None),
        [("cuda-engine", "warning", "PyTorch 2.13.0+cu130 has computed on 1 of 2 GPUs and copied between 0 pairs")],
    ),
    "one GPU is missing": (
        replace(deep(replace(WORKS, device_count=1, copies=())), all_reduce=None),
        [("cuda-engine", "blocking", "PyTorch 2.13.0+cu130 of the engine sees 1 of 2 GPUs")],
    ),
    "NCCL hangs, and works without peer access": (
        deep(WORKS, HANG, CAREFUL),
        [
            ("cuda-engine", "ok", ""),
            ("peer-copies", "ok", ""),
            (
                "all-reduce",
                "warning",
                "an all-reduce between GPU 0 and GPU 3 hangs; with NCCL_P2P_DISABLE=1 it works, at 9.0 GiB/s: engines",
            ),
        ],
    ),
    "copies arrive as something else, and NCCL works without them": (
        deep(RUBBISH, CAREFUL),
        [
            ("cuda-engine", "ok", ""),
            ("peer-copies", "warning", "what GPU 0 copies to GPU 3 arrives as something else"),
            (
                "all-reduce",
                "warning",
                "an all-reduce between GPU 0 and GPU 3 would arrive as something else; with NCCL_P",
            ),
        ],
    ),
    "nothing works between the GPUs": (
        deep(
            RUBBISH,
            HANG,
            replace(CAREFUL, outcome=Outcome.ERROR, words="RuntimeError: NCCL error", gib_per_second=None),
        ),
        [
            ("cuda-engine", "ok", ""),
            ("peer-copies", "warning", "what GPU 0 copies to GPU 3"),
            (
                "all-reduce",
                "warning",
                "an all-reduce between GPU 0 and GPU 3 does not work (with nothing set: hangs; NCCL_P2P",
            ),
        ],
    ),
    "the time was over": (
        deep(WORKS, replace(HANG, outcome=Outcome.CUT)),
        [
            ("cuda-engine", "ok", ""),
            ("peer-copies", "ok", ""),
            ("all-reduce", "warning", "an all-reduce between GPU 0"),
        ],
    ),
    "engines hold the memory": (
        deep(WORKS, replace(HANG, outcome=Outcome.CUT, words="RuntimeError: CUDA error: out of memory")),
        [
            ("cuda-engine", "ok", ""),
            ("peer-copies", "ok", ""),
            (
                "all-reduce",
                "warning",
                "an all-reduce between GPU 0 and GPU 3 could not be tried to its end (RuntimeError",
            ),
        ],
    ),
    "no engine": (
        NotLooked(cause="no engine for GPUs is installed yet"),
        [("cuda-engine", "info", "CUDA in the engine's Python (--deep) could not be looked at: no engine for GPUs is")],
    ),
    "not asked for": (None, []),
}
DEEP = [check for check in CHECKS if check.id in {"cuda-engine", "peer-copies", "all-reduce"}]


@pytest.mark.parametrize("case", CASES)
def test_what_the_deep_checks_say(case: str) -> None:
    found, expected = CASES[case]
    findings = examine(Facts(inventory=Inventory(host=HOST, gpus=GPUS), deep=found), DEEP)
    assert [(finding.check, finding.severity) for finding in findings] == [each[:2] for each in expected]
    for finding, (_, _, sentence) in zip(findings, expected, strict=True):
        assert finding.sentence.startswith(sentence)
