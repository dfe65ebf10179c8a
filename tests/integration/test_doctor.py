"""`selfhost doctor` beside a running box, and what `up` refuses before it starts anything."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def findings(box) -> dict[str, dict]:
    """What is not fine, by check."""
    ran = box("doctor", "--json", "--timeout", "60")
    return {each["check"]: each for each in json.loads(ran.stdout)["findings"] if each["severity"] != "ok"}


def test_what_we_run_ourselves_is_no_problem(box) -> None:
    box.up()
    found = findings(box)
    assert not found.keys() & {"gateway-port", "crashed-runs", "public-listeners", "host-memory", "plan"}
    assert "warning: " not in box.up().stderr
    os.kill(box.status()["pid"], signal.SIGKILL)
    crashed = findings(box)["crashed-runs"]
    assert crashed["sentence"].startswith("'box' has no manager, and chat/0 (pid ")
    ran = box(*crashed["fix"].split()[1:])
    assert (ran.code, "crashed-runs" in findings(box)) == (0, False)


def test_up_refuses_in_the_words_of_doctor_and_starts_nothing(box) -> None:
    with socket.create_server(("127.0.0.1", box.port)):
        said = findings(box)["gateway-port"]
        ran = box("up", "--detach")
    assert ran.code == 4
    assert ran.stderr == f"error: {said['sentence']}\nhint: {said['fix']}\n"
    assert box("doctor", "--quiet").code == 0
    assert not (Path(os.environ["SELFHOST_STATE"]) / "box/logs").exists()


def test_on_a_box_without_a_flaw_up_says_nothing_about_it(box) -> None:
    assert "doctor" not in box.up().stderr
