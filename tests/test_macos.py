"""macOS, as far as a Linux machine can show it: what reads and plans works, and the rest says why it does not."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

MACOS = Path(__file__).parent / "fakes/macos.py"
SOURCES = Path(__file__).parents[1] / "src"
MANIFEST = "version: 1\nname: box\nmodels: [{name: chat, source: demo-a}]\n"


@pytest.fixture
def mac(tmp_path: Path):
    (tmp_path / "models.yaml").write_text(MANIFEST)

    def run(*args: str) -> subprocess.CompletedProcess:
        argv = [sys.executable, MACOS, *args]
        env = {**os.environ, "SELFHOST_HOST_ROOT": str(tmp_path / "no-proc-no-sys"), "HF_HUB_OFFLINE": "1"}
        return subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=50, check=False)

    return run


def test_every_module_can_be_imported(mac) -> None:
    ran = mac()
    assert ran.returncode == 0, ran.stderr
    files = {path.relative_to(SOURCES).with_suffix("") for path in SOURCES.glob("selfhost/**/*.py")}
    modules = {".".join(path.parts).removesuffix(".__init__") for path in files} - {"selfhost"}
    assert set(ran.stdout.split()) == modules


@pytest.mark.parametrize(
    "args",
    [
        ["check"],
        ["check", "--json"],
        ["schema"],
        ["plan", "--on", "2xH100+1xL4"],
        ["plan", "--on", "cpu,32GiB", "--json"],
        ["ps"],
        ["down"],
        ["keys", "list"],
        ["engine", "list"],
    ],
)
def test_what_reads_and_plans_answers_as_on_linux(mac, program, args: list[str]) -> None:
    program.manifest(MANIFEST)
    ran, there = mac(*args), program(*args)
    assert (ran.returncode, ran.stdout, ran.stderr) == (there.code, there.stdout, there.stderr)
    assert ran.stdout + ran.stderr


def test_this_machine_is_shown_and_planned_for_as_one_without_a_gpu(mac) -> None:
    shown = mac("gpus", "--json")
    assert shown.returncode == 0, shown.stderr
    host = json.loads(shown.stdout)["host"]
    assert (host["architecture"], host["memory_total_bytes"] > 0, host["cpu_count"] > 0) == ("arm64", True, True)
    planned = mac("plan")
    assert planned.returncode == 0, planned.stderr
    assert "chat/0 on the CPU" in planned.stdout


@pytest.mark.parametrize("args", [["up"], ["up", "--detach"], ["engine", "install"]])
def test_what_runs_engines_refuses_in_a_sentence(mac, args: list[str]) -> None:
    ran = mac(*args)
    assert (ran.returncode, ran.stdout) == (4, "")
    assert re.fullmatch(
        r"error: engines run on Linux only, and this is macOS\nhint: here: selfhost check, .*\n", ran.stderr
    )


def test_doctor_says_that_no_engine_runs_there(mac) -> None:
    ran = mac("doctor", "--json", "--timeout", "60")
    findings = {finding["check"]: finding for finding in json.loads(ran.stdout)["findings"]}
    assert (ran.returncode, findings["engine-needs"]["severity"]) == (4, "blocking"), ran.stderr
    assert "there is no wheel for Darwin" in findings["engine-needs"]["sentence"]
    assert findings["plan"]["severity"] == "ok"
