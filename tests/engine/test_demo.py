"""The built-in models, as PyTorch computes them."""

import subprocess

import pytest

from fixtures.clone import ROOT


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_the_models_keep_their_promises(engine_environment) -> None:
    ran = subprocess.run(
        [engine_environment.python, ROOT / "scripts/train_demo_model.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
