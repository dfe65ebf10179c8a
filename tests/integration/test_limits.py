"""Boxes with little: a small /dev/shm, full disks, read-only folders, few files: each with its sentence and code."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Box = Callable[..., tuple[int, dict[str, dict], str]]


@pytest.fixture
def within(box, monkeypatch: pytest.MonkeyPatch) -> Box:
    """`within("mount ...")`: what doctor finds, and what `up` says, after these commands in namespaces of their own."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(*commands: str) -> tuple[int, dict[str, dict], str]:
        if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
            pytest.skip("only root may unshare a namespace")
        argv = ["unshare", "--mount", "sh", "-ec", "; ".join([*commands, 'exec "$0" -m selfhost "$@"']), sys.executable]

        def ask(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run([*argv, *words], cwd=box.folder, capture_output=True, text=True, check=False)

        doctor = ask("doctor", "--json", "--timeout", "60")
        worst_last = json.loads(doctor.stdout)["findings"][::-1]
        found = {each["check"]: each for each in worst_last if each["severity"] != "ok"}
        blocked = doctor.returncode == 4
        refused = ask("up", "--detach") if blocked else None
        assert refused is None or refused.returncode == 4
        return doctor.returncode, found, refused.stderr if refused else ""

    return run


@pytest.fixture
def shm(machine) -> Path:
    """The /dev/shm of the machine of this test."""
    folder = machine.root / "dev/shm"
    folder.mkdir(parents=True)
    return folder


def test_dockers_small_shm_is_a_warning(within: Box, shm: Path) -> None:
    code, found, _ = within(f"mount -t tmpfs -o size=64m tmpfs {shm}")
    assert (code, found["shm-size"]["severity"]) == (0, "warning")
    assert "/dev/shm has 64 MiB" in found["shm-size"]["sentence"]
    assert "8g" in found["shm-size"]["fix"]


def test_a_full_shm_blocks(within: Box, shm: Path) -> None:
    code, found, refused = within(
        f"mount -t tmpfs -o size=64k tmpfs {shm}", f"cat /dev/zero 2>/dev/null > {shm}/x || true"
    )
    assert code == 4
    assert refused == f"error: {found['shm-size']['sentence']}\nhint: {found['shm-size']['fix']}\n"
    assert "/dev/shm is full (0 B of 64 KiB free)" in refused


@pytest.mark.parametrize("variable", ["SELFHOST_STATE", "SELFHOST_RUNTIME"])
def test_a_full_disk_blocks(within: Box, variable: str) -> None:
    folder = Path(os.environ[variable])
    folder.mkdir(parents=True, exist_ok=True)
    full = f"cat /dev/zero 2>/dev/null > {folder}/x || true"
    code, _, refused = within(f"mount -t tmpfs -o size=64k,mode=700 tmpfs {folder}", full)
    assert code == 4
    assert f"No space left on device for {variable.removeprefix('SELFHOST_').lower()}" in refused


def test_no_room_for_an_engine_blocks(within: Box) -> None:
    folder = os.environ["SELFHOST_HOME"]
    code, found, refused = within(f"mount -t tmpfs -o size=1m tmpfs {folder}")
    assert code == 4
    assert "2.3 GiB are needed" in refused
    assert "SELFHOST_HOME" in found["engine-needs"]["fix"]


def test_a_home_that_cannot_be_written_blocks(within: Box, isolated: Path) -> None:
    code, found, refused = within(f"mount --bind {isolated} {isolated}", f"mount -o remount,ro,bind {isolated}")
    assert code == 4
    assert found["disk-writable"]["fix"].startswith("export ")
    assert "cannot be written" in refused
    assert "Traceback" not in refused


@pytest.mark.parametrize("limit, severity", [(200, "blocking"), (2000, "warning")])
def test_few_open_files(within: Box, limit: int, severity: str) -> None:
    code, found, refused = within(f"ulimit -n {limit}")
    assert found["open-files"]["severity"] == severity
    assert code == (4 if severity == "blocking" else 0)
    assert f"a process may open {limit:,} files" in (refused or found["open-files"]["sentence"])


def test_an_old_c_library_blocks_before_anything_is_downloaded(within: Box, isolated: Path, monkeypatch) -> None:
    old = isolated / "old"
    old.mkdir()
    (old / "sitecustomize.py").write_text('import os\nos.confstr = lambda name: "glibc 2.28"\n')
    monkeypatch.setenv("PYTHONPATH", str(old))
    monkeypatch.setenv("SELFHOST_HOME", str(isolated / "empty"))
    code, found, refused = within()
    assert code == 4
    assert "its wheels need glibc 2.31 or newer, and this is glibc 2.28" in found["engine-needs"]["sentence"]
    assert found["engine-needs"]["sentence"] in refused
    assert not (isolated / "empty").exists()


def test_a_proxy_that_refuses_is_named_by_who_needs_it(isolated: Path, box) -> None:
    nobody = "http://me:secret@127.0.0.1:9"
    ran = subprocess.run(
        ["unshare", "--net", "sh", "-ec", 'ip link set lo up; exec "$0" -m selfhost engine install', sys.executable],
        cwd=box.folder,
        env={**os.environ, "SELFHOST_HOME": str(isolated / "empty"), "HTTPS_PROXY": nobody, "HTTP_PROXY": nobody},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "127.0.0.1:9" in ran.stderr
    assert "secret" not in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list((isolated / "empty/engines").glob("vllm-*"))


def test_without_root_everything_works(box) -> None:
    if subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine has no user namespaces")
    somebody = ["unshare", "--user", "--map-user=1000", "--map-group=1000", sys.executable, "-m", "selfhost"]

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*somebody, *words], cwd=box.folder, capture_output=True, text=True, check=False)

    assert "not root" in ask("gpus").stdout
    try:
        up = ask("up", "--wait")
        assert (up.returncode, ask("health").returncode) == (0, 0), up.stderr
    finally:
        down = ask("down")
    assert (down.returncode, box.leftovers()) == (0, [])
