"""`scripts/preflight.py` on machines that lack something. It must even run where Python is too old."""

import ast
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts/preflight.py"
OLD = (
    f"import runpy, sys; sys.version_info, sys.version = (3, 10, 13), '3.10.13 (main)';runpy.run_path({str(SCRIPT)!r})"
)


def test_it_is_written_for_older_pythons_than_ours() -> None:
    ast.parse(SCRIPT.read_text(), feature_version=(3, 7))


def test_a_python_that_is_too_old_is_named_with_what_to_install() -> None:
    ran = subprocess.run([sys.executable, "-c", OLD], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "error: python3.11 is missing, needed for selfhost (this is Python 3.10.13)" in ran.stderr
    assert "sudo apt-get install python3.11 python3.11-venv" in ran.stderr
    assert "make PYTHON=python3.11 up" in ran.stderr


def test_what_the_tests_need_is_asked_for_only_when_they_run(tmp_path: Path) -> None:
    (tmp_path / "g++").symlink_to("/bin/true")
    env = {**os.environ, "PATH": str(tmp_path)}

    def missing(*args: str) -> str:
        argv = [sys.executable, SCRIPT, *args]
        return subprocess.run(argv, env=env, capture_output=True, text=True, check=False).stderr

    assert "git" not in missing()
    assert "error: git is missing, needed for the tests" in missing("--test")
    assert "error: curl is missing, needed for the tests" in missing("--test")


def test_make_asks_for_everything_before_it_downloads_anything() -> None:
    for target, asked in ((".venv/installed", "preflight.py"), (".venv/installed-dev", "preflight.py --test")):
        argv = ["make", "--always-make", "--dry-run", target]
        commands = subprocess.run(argv, cwd=SCRIPT.parents[1], capture_output=True, text=True, check=True).stdout
        assert asked in commands.partition("pip")[0], target
