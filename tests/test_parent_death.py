"""Children that die with their parent, whoever kills it and however."""

import os
import select
import subprocess
import sys
import threading
from pathlib import Path

from selfhost import demo
from selfhost.engines import child
from selfhost.parent_death import dying_with_us

DEADLINE_SECONDS = 20

# Parents that tell the pid of their child and wait for it.
MANAGER = """
import subprocess, sys
from selfhost.catalog.model import CheckpointKind, CheckpointRef
from selfhost.weights import fetch_command
checkpoint = CheckpointRef(kind=CheckpointKind.HUB, location="acme/tiny", revision=sys.argv[1], total_bytes=1)
child = subprocess.Popen(fetch_command(checkpoint), stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
child.wait()
"""
BUILDER = """
import asyncio, os, sys
from pathlib import Path
from selfhost.engines import child
def run():
    script = f"echo $$ >&2; read on < {sys.argv[1]}"
    child.run(["sh", "-c", script], cwd=Path("/"), environ=dict(os.environ), heard=lambda pid: print(pid, flush=True))
asyncio.run(asyncio.to_thread(run))
"""


def start(code: str, *args: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code, *args], stdout=subprocess.PIPE, text=True)


def has_ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], DEADLINE_SECONDS)[0])


def test_a_download_does_not_outlive_a_killed_manager(hub) -> None:
    files = {file.name: file.read_bytes() for file in demo.path("demo-a").iterdir() if file.is_file()}
    commit = hub.add("acme/tiny", files).commit
    slow = hub.fault(path="/storage/", bytes_per_second=1000)
    with start(MANAGER, commit) as parent:
        download = os.pidfd_open(int(parent.stdout.readline()))
        while not slow.hits:  # it is on its way
            assert not select.select([download], [], [], 0.05)[0]
        parent.kill()
        assert has_ended(download)
        parent.communicate()


def test_a_program_that_is_not_ours_does_not_outlive_its_parent(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with start(BUILDER, str(gate)) as parent:
        shell = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        assert has_ended(shell)
        parent.communicate()


def test_nothing_is_run_for_a_parent_that_ended_before_it_could_be_watched() -> None:
    *launcher, _, echo, word = dying_with_us(["echo", "hello"])
    ran = subprocess.run([*launcher, "1", echo, word], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", "error: whoever started this has ended\n")


def test_it_becomes_the_program(tmp_path: Path) -> None:
    told: list[str] = []
    environ = {"PATH": os.environ["PATH"], "A": "b"}
    ended = child.run(["sh", "-c", "echo $A $PWD >&2; exit 3"], cwd=tmp_path, environ=environ, heard=told.append)
    assert (ended.code, told) == (3, [f"b {tmp_path}"])


def test_a_program_that_is_not_there_is_named() -> None:
    ended = child.run(["/no/such/program"], cwd=Path("/"), environ={})
    assert (ended.code, ended.lines) == (1, ("error: cannot run /no/such/program: No such file or directory",))


def test_children_can_be_started_from_many_threads_at_once() -> None:
    codes: list[int] = []

    def run() -> None:
        codes.append(child.run(["true"], cwd=Path("/"), environ={"PATH": os.environ["PATH"]}).code)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 8
