"""Several manifests on one machine: what one has been promised, another one cannot have."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.ports import free_port
from fixtures.waiting import wait_for
from selfhost.engines import environment

MODEL = "name: chat, source: demo-a"


@pytest.fixture
def gpu_box(box, nvml):
    """The box with one L4, and the stand-in engine in the place of the one for GPUs."""
    nvml("l4")
    cpu, cuda = (environment.directory("0.32.0", variant) for variant in ("cpu", "cu129"))
    cuda.symlink_to(cpu)
    yield box
    for name in ("left", "right"):
        box("down", "--now", "--name", name)


def write(box, name: str, *, share: float | None = None) -> Path:
    path = box.folder / f"{name}.yaml"
    model = MODEL + (f", gpu_memory_utilization: {share}" if share else "")
    path.write_text(
        f"version: 1\nname: {name}\ngateway: {{listen: '127.0.0.1:{free_port()}'}}\nmodels:\n  - {{{model}}}\n"
    )
    return path


def claims(box) -> dict[str, dict]:
    found = json.loads(box("gpus", "--json").stdout)["claims"]
    return {each["manifest"]: each for each in found}


def test_two_manifests_started_at_the_same_moment_do_not_share_what_is_there_once(gpu_box) -> None:
    gpu_box.faults(chat={"startup_seconds": 5})
    started = {
        name: subprocess.Popen(
            [sys.executable, "-m", "selfhost", "up", "--detach", "-f", write(gpu_box, name)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("left", "right")
    }
    said = {name: process.communicate(timeout=50)[1] for name, process in started.items()}
    codes = {name: process.returncode for name, process in started.items()}
    assert sorted(codes.values()) == [0, 4], said
    winner, loser = sorted(codes, key=codes.__getitem__)
    assert f"'{winner}' (" in said[loser], said
    assert "of GPU 0" in said[loser]
    assert list(claims(gpu_box)) == [winner]
    assert "nothing runs" in gpu_box("ps", "--name", loser).stderr


def test_the_claim_of_an_engine_that_still_loads_is_left_to_it_until_down(gpu_box) -> None:
    gpu_box.faults(chat={"startup_seconds": 8})
    left, right = write(gpu_box, "left", share=0.6), write(gpu_box, "right", share=0.6)
    assert gpu_box("up", "--detach", "-f", left).code == 0
    (claim,) = claims(gpu_box).values()
    assert (claim["replica"], claim["held_bytes"]) == ("chat/0", 0)
    planned = gpu_box("plan", "-f", right)
    assert planned.code == 0, planned.stderr
    assert "less what 'left' (13.5 GiB) will take" in planned.stdout
    assert gpu_box("up", "--wait", "-f", left).code == 0
    (claim,) = claims(gpu_box).values()
    assert claim["held_bytes"] == claim["bytes"]
    shown = gpu_box("gpus").stdout
    assert (
        "DEVICE  MANIFEST  REPLICA  HOLDS     CLAIMS    STATE\n0       left      chat/0   13.5 GiB  13.5 GiB  ready"
        in shown
    )
    assert gpu_box("down", "--name", "left").code == 0
    assert claims(gpu_box) == {}


def test_two_halves_serve_side_by_side(gpu_box) -> None:
    for name in ("left", "right"):
        ran = gpu_box("up", "--wait", "-f", write(gpu_box, name, share=0.45))
        assert ran.code == 0, ran.stderr
    assert {name: each["state"] for name, each in claims(gpu_box).items()} == {"left": "ready", "right": "ready"}


def test_after_a_kill_of_the_manager_its_engine_keeps_its_claim_until_it_is_ended(gpu_box) -> None:
    left = write(gpu_box, "left", share=0.6)
    assert gpu_box("up", "--wait", "-f", left).code == 0
    manager = json.loads(gpu_box("ps", "--json", "--name", "left").stdout)["manager"]["pid"]
    os.kill(manager, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{manager}").exists())
    assert claims(gpu_box)["left"]["held_bytes"] > 0
    assert gpu_box("down", "--name", "left").code == 0
    assert claims(gpu_box) == {}


def test_claims_that_cannot_be_read_do_not_keep_others_from_starting(box) -> None:
    folder = Path(os.environ["SELFHOST_RUNTIME"]) / "left"
    folder.mkdir(mode=0o700, parents=True)
    folder.parent.chmod(0o700)
    (folder / "claims.json").write_text('{"format_version": 2}')
    ran = box("up", "--wait")
    assert ran.code == 0, ran.stderr
    assert "warning: cannot tell what manifest 'left' claims" in ran.stderr
    assert "it has format 2, and this selfhost knows 1" in ran.stderr
    assert box("down", "--name", "left").code == 0
