"""Commands and managers that get into each other's way. Names are obligations."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil

from fixtures.waiting import wait_for


def _manager_pid(box) -> int:
    return wait_for(lambda: box.status() and box.status()["pid"])


def _managers() -> list[psutil.Process]:
    runtime = os.environ["SELFHOST_RUNTIME"]
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SELFHOST_RUNTIME") == runtime and "selfhost.runtime.serve" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_up_wait_does_not_say_ready_when_the_manager_dies_under_it(box, foreground) -> None:
    box.faults(chat={"startup_seconds": 20})
    up = foreground("up", "--wait")
    os.kill(_manager_pid(box), signal.SIGKILL)
    _, talk = up.communicate(timeout=20)
    assert up.returncode == 5, talk
    assert "error: the manager ended before everything was ready: " in talk
    assert "hint: selfhost logs manager" in talk


def test_up_wait_does_not_say_ready_when_everything_is_stopped_under_it(box, foreground) -> None:
    box.faults(chat={"startup_seconds": 20})
    up = foreground("up", "--wait")
    _manager_pid(box)
    assert box("down", "--now").code == 0
    _, talk = up.communicate(timeout=20)
    assert up.returncode == 5, talk
    assert "error: the manager ended before everything was ready: " in talk


def test_a_manager_that_hangs_is_told_of_and_down_now_ends_it(box) -> None:
    box.up()
    pid = box.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    ran = box("ps")
    assert (ran.code, "the manager of 'box' does not answer" in ran.stderr) == (6, True)
    ran = box("down", "--now")
    assert ran.code == 0, ran.stderr
    assert f"the manager (pid {pid}) does not end; killing it" in ran.stderr
    assert box.leftovers() == []


def test_a_refused_plan_leaves_no_manager(box) -> None:
    box.manifest(f"name: {'a' * 40}, source: demo-a")
    runtime = os.environ["SELFHOST_RUNTIME"] + "r" * 12
    ran = box("up", "--detach", SELFHOST_RUNTIME=runtime)
    assert (ran.code, "is too long for the unix sockets" in ran.stderr) == (1, True), ran.stderr
    assert _managers() == []
    assert not list(Path(runtime).iterdir())
    assert box.leftovers() == []


def test_an_address_that_is_taken_costs_no_manager(box) -> None:
    with socket.create_server(("127.0.0.1", box.port)):
        assert box("up", "--detach").code == 4
        assert _managers() == []
        assert box.leftovers() == []


def test_a_manager_that_nobody_gave_a_plan_is_not_in_the_way(box, foreground) -> None:
    orphan = subprocess.Popen([sys.executable, "-m", "selfhost.runtime.serve", "box"], stderr=subprocess.DEVNULL)
    wait_for((Path(os.environ["SELFHOST_RUNTIME"]) / "box/control.sock").exists)
    up = foreground("up")
    wait_for(box.ready)
    assert box.status()["pid"] == up.pid  # attached, as it was asked to be
    assert orphan.wait(timeout=10) == 0
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=20)
    assert up.returncode == 130


def test_down_leaves_a_manager_that_begins_its_folder(box) -> None:
    """A manager that has its lock and no socket yet: down waits for it, and ends it as any other."""
    code = (
        "import asyncio, sys, time; from selfhost.runtime import serve;"
        "real = serve.start_control_server;"
        "serve.start_control_server = lambda manager: (time.sleep(2), real(manager))[1];"
        "sys.argv = ['serve', 'box']; sys.exit(serve.main())"
    )
    beginning = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    wait_for((Path(os.environ["SELFHOST_RUNTIME"]) / "box/manager.lock").exists)
    ran = box("down")
    assert (ran.code, ran.stderr.splitlines()[-1]) == (0, "down: nothing is left")
    _, talk = beginning.communicate(timeout=10)
    assert beginning.returncode == 0, talk
    assert box.leftovers() == []


def test_attached_json_is_events_until_the_end_and_nothing_else(box, foreground) -> None:
    up = foreground("up", "--json")
    wait_for(box.ready)
    box.group()["server"].kill()
    wait_for(lambda: box.replica()["restarts"] == 1)
    up.send_signal(signal.SIGINT)
    lines, talk = up.communicate(timeout=30)
    events = [json.loads(line) for line in lines.splitlines()]
    assert {event["format_version"] for event in events} == {1}
    assert "backoff" in [event["state"] for event in events]
    assert events[-1]["cause"] == "everything is stopped"
    assert "chat/0:" not in talk


def test_a_reader_that_leaves_only_detaches(box, foreground) -> None:
    up = foreground("up", "--json")
    assert json.loads(up.stdout.readline())
    up.stdout.close()
    wait_for(box.ready)
    box.group()["server"].kill()  # and what happens now is nobody's to read
    wait_for(lambda: box.replica()["restarts"] == 1)
    wait_for(box.ready, seconds=30)
    assert box("down").code == 0
    assert up.wait(timeout=20) == 0
    assert "Traceback" not in up.stderr.read()


def test_a_defect_while_showing_ends_in_a_sentence(box) -> None:
    code = (
        "import sys; from selfhost.cli import main, up;"
        "up.say_next_steps = lambda plan: 1 / 0;"
        "sys.exit(main.run(['up']))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=box.folder, capture_output=True, text=True, timeout=40, check=False
    )
    assert ran.returncode == 1
    assert "error: internal error: ZeroDivisionError" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_lost_manifest_keeps_nothing_running(box) -> None:
    box.up()
    (box.folder / "models.yaml").unlink()
    assert box("health", "--name", "box").code == 0
    assert box("ps", "--name", "box").stdout
    assert "Application startup complete" in box("logs", "--name", "box").stdout
    ran = box("down", "--name", "box")
    assert (ran.code, box.leftovers()) == (0, [])
    box.manifest()
