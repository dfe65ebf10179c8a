"""The checks of the GPUs, run for real with a torch that is scripted: every way in which a box can be sick."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from selfhost.engines import gpu_proof
from selfhost.engines.check_process import Check, Ending, listen
from selfhost.engines.gpu_answers import Outcome, PeerCopy
from selfhost.engines.gpu_proof import all_reduce, check_cuda
from selfhost.hardware.inventory import Gpu

GPUS = [
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
]
COPIES = tuple(
    PeerCopy(first=first, second=second, access=True, intact=True)
    for first, second in (("GPU-0", "GPU-3"), ("GPU-3", "GPU-0"))
)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_proof, "CUDA_SECONDS", 0.5)
    monkeypatch.setattr(gpu_proof, "ALL_REDUCE_SECONDS", 0.5)


@pytest.fixture
def soon() -> float:
    return time.monotonic() + 60


def test_a_healthy_box_computes_and_copies_everywhere(torch_python: Callable[..., Path], soon: float) -> None:
    found = check_cuda(torch_python(), GPUS, deadline=soon)
    assert found.works
    assert (found.torch, found.cuda, found.device_count) == ("2.13.0+cu130", "13.0", 2)
    assert found.computing == ("GPU-0", "GPU-3")
    assert found.copies == COPIES


@pytest.mark.parametrize(
    "script, error",
    [
        ({"error": {"init": "The NVIDIA driver on your system is too old"}}, "RuntimeError: The NVIDIA driver on your"),
        (
            {"error": {"kernel": "CUDA error: no kernel image is available"}},
            "RuntimeError: CUDA error: no kernel image",
        ),
    ],
)
def test_what_torch_refuses_is_told_in_its_words(torch_python, soon: float, script: dict, error: str) -> None:
    found = check_cuda(torch_python(**script), GPUS, deadline=soon)
    assert not found.works
    assert (found.error or "").startswith(error)


@pytest.mark.parametrize(
    "question, told",
    [
        ("init", "initialising CUDA"),
        ("kernel", "computing on GPU 0"),
        ("copy", "copying from GPU 0 to GPU 3"),
    ],
)
def test_what_hangs_is_named_and_ended(torch_python, soon: float, question: str, told: str) -> None:
    found = check_cuda(torch_python(hang=question), GPUS, deadline=soon)
    assert (found.works, found.hang, found.error) == (False, told, None)
    assert not _left_over()


def test_many_answers_may_take_longer_than_one() -> None:
    program = "import time\nfor n in range(5): print('{}', flush=True); time.sleep(0.6)"
    child = Check([sys.executable, "-c", program], os.environ)
    assert listen([child], 2.0, time.monotonic() + 60) is Ending.DONE  # the whole takes 3 s
    assert len(child.answers) == 5


def test_a_torch_that_does_not_even_load_is_ended_at_the_deadline(torch_python) -> None:
    found = check_cuda(torch_python(hang="import"), GPUS, deadline=time.monotonic() + 0.5)
    assert (found.works, found.cut, found.hang) == (False, True, None)
    assert not _left_over()


def test_an_interpreter_without_torch_says_so(isolated: Path, soon: float) -> None:
    python = isolated / "python"
    python.write_text('#!/bin/sh\necho "no torch here" >&2\nexit 3\n')
    python.chmod(0o700)
    assert check_cuda(python, GPUS, deadline=soon).error == "no torch here"


def test_rubbish_that_arrives_from_a_peer_is_seen(torch_python, soon: float) -> None:
    found = check_cuda(torch_python(corrupt=True), GPUS, deadline=soon)
    assert [(copy.access, copy.intact) for copy in found.copies] == [(True, False)] * 2


def test_two_ranks_add_up(torch_python, soon: float) -> None:
    trial = all_reduce(torch_python(), GPUS, {}, deadline=soon)
    assert (trial.outcome, trial.settings) == (Outcome.OK, {})
    assert trial.gib_per_second
    assert trial.gib_per_second > 0


def test_an_all_reduce_that_hangs_without_a_setting_works_with_it(torch_python, soon: float) -> None:
    careful = {"NCCL_P2P_DISABLE": "1"}
    python = torch_python(nccl_needs=careful)
    hung = all_reduce(python, GPUS, {}, deadline=soon)
    assert (hung.outcome, hung.words) == (Outcome.HANG, "NCCL version 2.28.9+cuda13.0")
    assert not _left_over()
    assert all_reduce(python, GPUS, careful, deadline=soon).outcome is Outcome.OK


def test_an_all_reduce_that_had_too_little_time_proves_nothing(torch_python, monkeypatch) -> None:
    monkeypatch.setattr(gpu_proof, "ALL_REDUCE_SECONDS", 30)
    python = torch_python(nccl_needs={"NCCL_P2P_DISABLE": "1"})
    assert all_reduce(python, GPUS, {}, deadline=time.monotonic() + 1).outcome is Outcome.CUT
    assert not _left_over()


def test_an_error_of_nccl_is_told_in_its_words(torch_python, soon: float) -> None:
    trial = all_reduce(torch_python(error={"nccl": "NCCL error: unhandled system error"}), GPUS, {}, deadline=soon)
    assert (trial.outcome, trial.words) == (Outcome.ERROR, "RuntimeError: NCCL error: unhandled system error")


def test_gpus_that_engines_have_filled_say_nothing_about_their_links(torch_python, soon: float) -> None:
    trial = all_reduce(torch_python(error={"nccl": "CUDA error: out of memory"}), GPUS, {}, deadline=soon)
    assert (trial.outcome, trial.words) == (Outcome.CUT, "RuntimeError: CUDA error: out of memory")


def test_a_rank_that_dies_ends_the_other(torch_python, soon: float) -> None:
    trial = all_reduce(torch_python(nccl_crash=True), GPUS, {}, deadline=soon)
    assert trial.outcome is Outcome.ERROR
    assert not _left_over()


def _left_over() -> list[str]:
    """What the checks left running."""
    return [
        child.name()
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and "_check.py" in " ".join(child.cmdline())
    ]
