"""The checks of the GPUs in the real engine's Python: here without a GPU, so what they say of that, and two ranks."""

import time

import pytest

from selfhost.engines.gpu_answers import Outcome
from selfhost.engines.gpu_proof import all_reduce, check_cuda

pytestmark = pytest.mark.engine


def test_a_torch_without_cuda_says_so(engine_environment) -> None:
    found = check_cuda(engine_environment.python, [], deadline=time.monotonic() + 120)
    assert not found.works
    assert (found.torch or "").startswith("2.")
    assert found.cuda is None
    assert "not compiled with CUDA" in (found.error or "")


def test_two_ranks_of_the_real_torch_add_up(engine_environment) -> None:
    trial = all_reduce(engine_environment.python, [], {}, deadline=time.monotonic() + 120, backend="gloo")
    assert (trial.outcome, trial.words) == (Outcome.OK, "")
    assert trial.gib_per_second
