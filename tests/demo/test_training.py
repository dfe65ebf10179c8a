import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_demo_model.py"


def test_without_torch_it_says_which_python_to_use() -> None:
    ran = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "error: this Python has no torch" in ran.stderr
    assert "selfhost engine list" in ran.stderr


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_the_models_keep_their_promises(engine_environment) -> None:
    ran = subprocess.run([engine_environment.python, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
