import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_demo_model.py"


def test_without_torch_it_says_which_python_to_use() -> None:
    ran = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "error: this Python has no torch" in ran.stderr
    assert "selfhost engine list" in ran.stderr
