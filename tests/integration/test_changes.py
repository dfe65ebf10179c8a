"""Changes of mind: plans, stops and kills that meet each other half-way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fixtures.ports import free_port
from fixtures.waiting import wait_for


def state(box, name: str = "chat/0") -> str:
    return box.replica(name)["observed"]["state"]


def gateway_state(box) -> str:
    return box.status()["gateway"]["state"]


def logs() -> Path:
    return Path(os.environ["SELFHOST_STATE"]) / "box/logs"


def test_a_change_that_is_taken_back_during_a_drain_ends_with_the_old_model(box) -> None:
    box.faults(chat={"tokens_per_second": 20})
    box.up()
    request = box.slow_request(tokens=160)
    box.manifest("name: chat, source: demo-a, max_model_len: 1024")
    assert box("up", "--detach").code == 0
    wait_for(lambda: state(box) == "draining")
    box.manifest()
    box.up()
    assert json.loads(request.communicate(timeout=20)[0])["usage"]["completion_tokens"] == 160
    assert box.chat()[0] == 200
    assert box.replica()["observed"]["deployment"]["max_model_len"] != 1024
    assert box("down").code == 0


def test_a_stop_during_a_drain_that_a_change_began_ends_everything(box) -> None:
    box.faults(chat={"tokens_per_second": 20})
    box.up()
    request = box.slow_request(tokens=160)
    box.manifest("name: chat, source: demo-a, max_model_len: 1024")
    assert box("up", "--detach").code == 0
    wait_for(lambda: state(box) == "draining")
    assert box("down").code == 0
    assert json.loads(request.communicate(timeout=20)[0])["usage"]["completion_tokens"] == 160
    assert box.leftovers() == []


def test_down_now_waits_for_no_request(box) -> None:
    box.faults(chat={"tokens_per_second": 1})
    box.up()
    request = box.slow_request(tokens=100)
    assert box("down", "--now", timeout=20).code == 0
    request.communicate(timeout=20)
    assert box.leftovers() == []


def test_down_now_overtakes_a_down_that_waits(box, foreground) -> None:
    box.faults(chat={"tokens_per_second": 1})
    box.up()
    request = box.slow_request(tokens=100)
    waiting = foreground("down")
    wait_for(lambda: gateway_state(box) == "draining")
    assert box("down", "--now", timeout=20).code == 0
    waiting.communicate(timeout=20)
    request.communicate(timeout=20)
    assert waiting.returncode == 0
    assert box.leftovers() == []


def test_a_new_address_is_served_while_the_old_one_finishes_its_requests(box) -> None:
    box.faults(chat={"tokens_per_second": 20})
    box.up()
    request = box.slow_request(tokens=60)
    box.port = free_port()
    box.manifest()
    box.up()
    assert box.ready()
    assert json.loads(request.communicate(timeout=20)[0])["usage"]["completion_tokens"] == 60
    wait_for(lambda: len(list(box.running().glob("gateway-*"))) == 1)  # the old one is gone
    os.kill(box.status()["pid"], signal.SIGKILL)
    assert box("down").code == 0
    assert box.leftovers() == []


def test_two_ups_at_once_start_every_model_once(box, foreground) -> None:
    box.up()
    box.manifest("name: chat, source: demo-a", "name: one, source: demo-a", "name: two, source: demo-b")
    ups = [foreground("up", "--wait") for _ in range(3)]
    for up in ups:
        _, talk = up.communicate(timeout=50)
        assert up.returncode == 0, talk
    replicas = box.status()["replicas"]
    assert [(each["observed"]["state"], each["restarts"]) for each in replicas] == [("ready", 0)] * 3
    assert len(box.shared_memory()) == 3


def test_up_and_down_at_once_leave_all_or_nothing(box, foreground) -> None:
    box.up()
    box.manifest("name: chat, source: demo-a, max_model_len: 1024")
    up, down = foreground("up", "--wait"), foreground("down", "--now")
    up.communicate(timeout=50)
    _, talk = down.communicate(timeout=50)
    assert down.returncode == 0, talk
    if up.returncode == 0:
        assert box.ready()
    else:
        assert up.returncode in {1, 5}
        assert box("down").code == 0
        assert box.leftovers() == []


def test_a_stop_does_not_wait_for_a_first_token(box) -> None:
    box.faults(chat={"tokens_per_second": 0.01})
    assert box("up", "--detach").code == 0
    wait_for(lambda: state(box) == "warming")
    assert box("down", timeout=20).code == 0
    assert box.leftovers() == []


def test_an_engine_that_dies_of_its_first_request_is_explained(box) -> None:
    words = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    box.faults(chat={"dies_of_request": words})
    assert box("up", "--detach").code == 0
    wait_for(lambda: state(box) in {"backoff", "failed"})
    assert "memory" in box.replica()["cause"]
    assert "its first request" not in box.replica()["cause"]


def test_a_gateway_that_cannot_be_started_is_tried_again(box) -> None:
    box.up()
    log = logs() / "gateway.log"
    log.rename(logs() / "gateway.log.away")
    log.mkdir()
    psutil.Process(box.gateway_record()["process"]["pid"]).kill()
    wait_for(lambda: gateway_state(box) == "backoff" and "cannot be started" in box.status()["gateway"]["cause"])
    shutil.rmtree(log)
    wait_for(lambda: gateway_state(box) == "ready", seconds=30)
    assert box.chat()[0] == 200


def test_a_gateway_that_cannot_be_started_hinders_no_down(box) -> None:
    box.up()
    log = logs() / "gateway.log"
    log.unlink()
    log.mkdir()
    psutil.Process(box.gateway_record()["process"]["pid"]).kill()
    wait_for(lambda: gateway_state(box) == "backoff" and "cannot be started" in box.status()["gateway"]["cause"])
    assert box("down", timeout=20).code == 0
    assert box.leftovers() == []


def test_startup_is_over_once_every_model_has_been_ready(box) -> None:
    box.manifest("name: chat, source: demo-a", "name: slow, source: demo-b")
    box.faults(slow={"startup_seconds": 600})
    assert box("up", "--detach").code == 0
    wait_for(lambda: box.ready("chat"))
    assert box.get("/startupz")[0] == 503
    box.faults(slow={}, chat={"startup_seconds": 600})
    box.group("chat-0")["server"].kill()
    wait_for(lambda: not box.ready("chat"))
    box.group("slow-0")["server"].kill()
    wait_for(lambda: box.ready("slow"), seconds=40)
    assert box.get("/readyz")[0] == 503
    assert box.get("/startupz")[0] == 200  # though never both at the same time


@pytest.mark.parametrize("seconds", [0.3, 0.5, 0.7, 0.9])
def test_a_ctrl_c_at_the_very_beginning_leaves_nothing(box, foreground, seconds: float) -> None:
    up = foreground("up")
    time.sleep(seconds)  # any moment will do: this one is as good as another
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=30)
    assert up.returncode in {130, -signal.SIGINT}
    assert box.leftovers() == []


def test_up_serves_although_nobody_can_hear_it(box) -> None:
    with Path("/dev/full").open("w") as full:
        up = subprocess.Popen(
            [sys.executable, "-m", "selfhost", "up"], cwd=box.folder, stdin=full, stdout=full, stderr=full
        )
    wait_for(box.ready)
    assert box("down").code == 0
    assert up.wait(timeout=20) == 0


def test_up_serves_without_standard_files(box) -> None:
    command = f"exec {sys.executable} -m selfhost up <&- >&- 2>&-"
    up = subprocess.Popen(["/bin/sh", "-c", command], cwd=box.folder)
    wait_for(box.ready)
    assert box("down").code == 0
    assert up.wait(timeout=20) == 0
