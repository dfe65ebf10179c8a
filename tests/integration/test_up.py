"""The whole pipe with the stand-in engine. Names are obligations."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import psutil
import pytest

from fixtures.waiting import wait_for
from selfhost.runtime.own_logs import LARGEST_BYTES, OWN, own_log


def test_up_serves_and_down_leaves_nothing(box) -> None:
    ran = box.up()
    assert f"ready: chat at {box.url}/v1" in ran.stderr
    assert "curl" in ran.stderr
    assert "ssh -L" in ran.stderr
    assert "selfhost keys create" in ran.stderr
    status, answer = box.chat()
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "I am chat.")
    assert box.replica()["observed"]["state"] == "ready"
    assert box("health").code == 0
    assert box.shared_memory()  # which down has to find and remove
    assert box.get("/livez")[0] == box.get("/startupz")[0] == 200
    down = box("down")
    assert (down.code, down.stderr.splitlines()[-1]) == (0, "down: nothing is left")
    assert box.leftovers() == box.shared_memory() == []
    assert box("health").code == 5
    assert box("ps").stderr == "nothing runs for 'box'; next: selfhost up\n"


def test_a_second_up_with_nothing_changed_does_nothing_and_says_so(box) -> None:
    box.up()
    before = box.record()
    assert "nothing to do: everything is as planned" in box.up().stderr
    assert "nothing to do" in box("plan").stdout
    assert box("plan", "--exit-code").code == 0
    assert box.record() == before


def test_what_changed_is_applied_and_what_did_not_goes_on(box) -> None:
    box.manifest("name: chat, source: demo-a", "name: other, source: demo-b")
    box.up()
    chat, other = box.record("chat-0"), box.record("other-0")
    box.manifest("name: chat, source: demo-a, aliases: [default]", "name: other, source: demo-b, max_model_len: 512")
    assert box("plan", "--exit-code").code == 3
    ran = box.up()
    assert "max_model_len 2,048 → 512" in ran.stderr
    assert "aliases of chat changed" in ran.stderr
    assert box.record("chat-0") == chat
    assert box.record("other-0")["process"] != other["process"]
    assert wait_for(lambda: box.chat("default")[0] == 200)
    box.manifest("name: chat, source: demo-a")
    assert "other/0" in box.up().stderr
    assert wait_for(lambda: box.chat("other")[0] == 404)


def test_each_of_two_models_answers_as_itself(box) -> None:
    box.manifest("name: chat, source: demo-a", "name: other, source: demo-b, aliases: [second]")
    box.up()
    for asked, name in (("chat", "chat"), ("other", "other"), ("second", "other")):
        status, answer = box.chat(asked)
        assert (status, answer["model"], answer["choices"][0]["message"]["content"]) == (200, name, f"I am {name}.")


def test_replicas_share_the_work(box) -> None:
    box.manifest("name: chat, source: demo-a, replicas: 2")
    box.up()
    assert {each["observed"]["replica"]["name"] for each in box.status()["replicas"]} == {"chat/0", "chat/1"}
    box.group("chat-0")["VLLM::EngineCor"].kill()
    wait_for(lambda: box.replica("chat/0")["observed"]["state"] != "ready")
    assert [box.chat()[0] for _ in range(5)] == [200] * 5


def test_detached_up_returns_when_the_plan_is_accepted(box) -> None:
    box.faults(chat={"startup_seconds": 5})
    ran = box("up", "--detach")
    assert (ran.code, ran.stderr.splitlines()[-1]) == (0, "accepted; next: selfhost ps")
    assert box.replica()["observed"]["state"] != "ready"
    health = box("health")
    assert (health.code, "chat/0 is" in health.stderr) == (5, True)
    wait_for(box.ready)


def test_json_is_one_event_per_line(box) -> None:
    ran = box.up("--json")
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    states = [event["state"] for event in events if event["subject"] == "chat/0"]
    assert states == ["starting", "loading", "warming", "ready"]


@pytest.mark.parametrize("victim", ["server", "VLLM::EngineCor", "VLLM::Worker"])
def test_a_killed_process_is_noticed_at_once_and_the_engine_comes_back(box, victim: str) -> None:
    box.up()
    old = box.group()
    old[victim].kill()
    wait_for(lambda: not box.ready(), seconds=2, what="/readyz to tell the truth")
    status, answer = box.chat()
    assert status == 503
    assert answer["error"]["code"]
    wait_for(box.ready, seconds=30)
    assert not [process for process in old.values() if process.is_running() and process.status() != "zombie"]
    assert box.replica()["restarts"] == 1
    assert box.chat()[0] == 200


def test_a_stopped_core_does_not_hide_behind_health(box) -> None:
    """A hang is not found yet (issue 6); what must hold today: stopping it still ends every process."""
    box.up()
    box.group()["VLLM::EngineCor"].send_signal(signal.SIGSTOP)
    assert box("down", "--now").code == 0
    assert box.leftovers() == []


def test_an_engine_that_keeps_dying_is_given_up_while_the_others_serve(box) -> None:
    box.faults(chat={"log": "ValueError: No available memory for the cache blocks. Try increasing", "exit_code": 1})
    box.manifest("name: chat, source: demo-a", "name: other, source: demo-b")
    ran = box("up", "--wait")
    assert ran.code == 4
    assert "chat/0: the weights leave no memory for the KV cache" in ran.stderr
    assert box.chat("other")[0] == 200
    assert box.chat("chat")[0] == 503
    assert (box.ready("other"), box.ready("chat"), box.ready()) == (True, False, False)
    box.faults()
    again = box.up()
    assert "it is failed" in again.stderr
    assert box.ready()


FAILURES = {
    "kv_too_small": ("fail-kv-too-small", 1, 4, "one request of 2048 tokens needs"),
    "usage": ("fail-bad-flag", 2, 1, "the engine refuses its command line: unrecognized arguments"),
    "bad_option": ("fail-bad-tool-parser", 1, 1, "the engine refuses an option: tool call parser: nope"),
    "hub_gated": ("fail-hub-gated-401", 1, 4, "the repository is gated"),
    "max_len_over_model": ("fail-maxlen-over-derived", 1, 4, "max_model_len 999999 is more than the model's own 2048"),
    "config_missing": ("fail-missing-config", 1, 1, "the model folder has no config.json"),
    "address_in_use": ("fail-port-in-use", 1, 1, "its address is already in use"),
    "tp_divides": ("fail-tp-does-not-divide", 1, 4, "does not divide the model's 4 attention heads"),
    "weights_corrupt": ("fail-truncated-safetensors", 1, 1, "a weights file is damaged"),
}
TEXTS = {
    "weights_missing": ("RuntimeError: Cannot find any model weights with `/m`", 1, "there are no weights in /m"),
    "arch_unsupported": (
        "Value error, Model architectures ['FooForCausalLM'] are not supported for now.",
        4,
        "does not know the model's architecture ('FooForCausalLM')",
    ),
    "disk_full": ("OSError: [Errno 28] No space left on device", 4, "the disk is full"),
    "quant_mismatch": ("Value error, Unknown quantization method: foo4. Must be", 1, "is not quantized the way"),
}
LOGS = Path(__file__).parents[1] / "data/engine_logs"


@pytest.mark.parametrize("code", [*FAILURES, *TEXTS])
def test_a_start_that_fails_says_why_and_what_to_do(box, code: str) -> None:
    if code in FAILURES:
        name, exit_code, ends_with, words = FAILURES[code]
        box.faults(chat={"log": (LOGS / f"{name}.log").read_text(), "exit_code": exit_code})
    else:
        text, ends_with, words = TEXTS[code]
        box.faults(chat={"log": text, "exit_code": 1})
    ran = box("up", "--wait")
    assert ran.code == ends_with, ran.stderr
    assert "error: chat/0: " in ran.stderr
    assert words in ran.stderr
    assert "hint: " in ran.stderr
    assert len(ran.stderr.splitlines()) < 40, "a traceback is not an explanation"
    assert box("logs", "chat").code == 0


def test_an_engine_that_gave_up_but_lingers_is_not_waited_for(box) -> None:
    box.faults(chat={"log": (LOGS / "fail-kv-too-small.log").read_text(), "linger": True})
    began = time.monotonic()
    assert box("up", "--wait").code == 4
    assert time.monotonic() - began < 20


def test_a_start_that_is_killed_is_tried_again(box) -> None:
    box.faults(chat={"exit_code": -9})
    box("up", "--detach")
    wait_for(lambda: box.replica()["restarts"] >= 1)
    assert "OOM killer" in box.replica()["cause"]
    box.faults()
    wait_for(box.ready, seconds=30)


def test_waiting_has_an_end(box) -> None:
    box.faults(chat={"startup_seconds": 60})
    ran = box("up", "--wait", "--timeout", "2")
    assert ran.code == 6
    assert "chat/0 is loading" in ran.stderr


def test_a_stop_during_a_start_does_not_wait_for_it(box) -> None:
    box.faults(chat={"startup_seconds": 60, "lose_sigterm": True})
    box("up", "--detach")
    wait_for(lambda: box.replica()["observed"]["state"] == "loading")
    began = time.monotonic()
    assert box("down").code == 0
    assert time.monotonic() - began < 10


def test_running_requests_finish_before_an_engine_is_stopped(box) -> None:
    box.faults(chat={"tokens_per_second": 20})
    box.up()
    request = box.slow_request(tokens=60)
    assert box("down").code == 0
    answer = json.loads(request.communicate(timeout=20)[0])
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 60)


def test_ctrl_c_stops_everything_and_says_130(box, foreground) -> None:
    up = foreground("up")
    wait_for(box.ready)
    up.send_signal(signal.SIGINT)
    _, talk = up.communicate(timeout=30)
    assert up.returncode == 130, talk
    assert box.leftovers() == []


def test_sigterm_is_a_clean_stop(box, foreground) -> None:
    up = foreground("up")
    wait_for(box.ready)
    up.terminate()
    up.communicate(timeout=30)
    assert up.returncode == 0
    assert box.leftovers() == []


def test_a_second_ctrl_c_does_not_wait_for_requests(box, foreground) -> None:
    box.faults(chat={"tokens_per_second": 1})
    up = foreground("up")
    wait_for(box.ready)
    request = box.slow_request(tokens=100)
    up.send_signal(signal.SIGINT)
    wait_for(lambda: not box.ready())
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=20)
    request.communicate(timeout=20)
    assert up.returncode == 130
    assert box.leftovers() == []


def test_a_lost_terminal_only_detaches(box, foreground) -> None:
    up = foreground("up")
    wait_for(box.ready)
    up.send_signal(signal.SIGHUP)
    assert box.chat()[0] == 200
    assert box("ps").code == 0
    box.group()["VLLM::EngineCor"].kill()  # it must also go on looking after its engines
    wait_for(lambda: box.replica()["restarts"] == 1)
    wait_for(box.ready, seconds=30)
    assert box("down").code == 0
    up.communicate(timeout=20)


def test_a_failed_start_in_the_foreground_ends_the_command(box, foreground) -> None:
    box.faults(chat={"log": "ValueError: No available memory for the cache blocks", "exit_code": 1})
    up = foreground("up")
    _, talk = up.communicate(timeout=30)
    assert up.returncode == 4
    assert "the weights leave no memory" in talk
    assert box.leftovers() == []


def test_on_a_terminal_every_subject_has_a_line(box) -> None:
    screen = pexpect.spawn(
        sys.executable,
        ["-m", "selfhost", "up"],
        cwd=str(box.folder),
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"},
        encoding="utf-8",
        timeout=30,
        dimensions=(40, 120),
    )
    screen.expect("starting")
    screen.expect("ready: chat at")
    screen.expect("curl")
    screen.sendintr()
    screen.expect("everything is stopped")
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 130


def test_an_address_that_is_taken_costs_no_start(box) -> None:
    with socket.create_server(("127.0.0.1", box.port)):
        ran = box("up", "--wait")
    assert ran.code == 4
    who = f"python (pid {os.getpid()})"
    assert f"cannot listen on 127.0.0.1:{box.port}: Address already in use, by {who}" in ran.stderr
    assert "gateway.listen" in ran.stderr
    assert not (Path(os.environ["SELFHOST_STATE"]) / "box/logs/chat-0").exists()


def test_a_public_address_without_keys_is_refused(box) -> None:
    box.manifest(listen=f"0.0.0.0:{box.port}")
    for verb in ("plan", "up"):
        ran = box(verb)
        assert ran.code == 4
        assert "there is no API key" in ran.stderr
    key = box("keys", "create", "ci").stdout.strip()
    ran = box.up()
    assert "$SELFHOST_KEY" in ran.stderr
    assert box.get("/v1/models")[0] == 401
    status, answer = box.get("/v1/models", Authorization=f"Bearer {key}")
    assert (status, [model["id"] for model in answer["data"]]) == (200, ["chat"])
    assert box("keys", "revoke", "ci").code == 0
    assert box.get("/v1/models", Authorization=f"Bearer {key}")[0] == 401


def test_secrets_stay_where_they_belong(box) -> None:
    token = "hf_canary_0123456789"
    key = box("keys", "create", "ci").stdout.strip()
    assert box("up", "--wait", HF_TOKEN=token).code == 0
    box._ask(
        "POST", "/v1/completions", {"model": "chat", "prompt": "canary-prompt"}, {"Authorization": f"Bearer {key}"}
    )
    engine_key = (Path(os.environ["SELFHOST_RUNTIME"]) / "box/engine.key").read_text()
    for process in box.group().values():
        assert token not in " ".join(process.cmdline()) + str(process.environ())
        assert engine_key not in " ".join(process.cmdline())
    said = "".join(box(verb).stdout + box(verb).stderr for verb in ("ps", "plan", "logs")) + box("ps", "--json").stdout
    files = [path for path in box.home.rglob("*") if path.is_file() and path.name != "engine.key"]
    written = "".join(path.read_text(errors="replace") for path in files if path.stat().st_size < 1 << 20)
    for secret in (token, key, engine_key, "canary-prompt"):
        assert secret not in said
        assert secret not in written
    loose = [path for path in (box.home / "state/box").rglob("*") if path.stat().st_mode & 0o077]
    assert loose == []


def test_the_gateway_comes_back_without_losing_its_address(box) -> None:
    box.up()
    psutil.Process(box.gateway_record()["process"]["pid"]).kill()

    def answers() -> bool:
        with socket.create_connection(("127.0.0.1", box.port)):  # raises when refused: the manager holds the socket
            return box.chat()[0] == 200

    assert wait_for(answers, seconds=5)
    assert box.replica()["restarts"] == 0


def test_after_the_manager_was_killed_up_starts_clean(box) -> None:
    box.up()
    group = box.group()
    os.kill(box.status()["pid"], signal.SIGKILL)
    ran = box.up()
    assert ran.code == 0
    assert not [process for process in group.values() if process.is_running() and process.status() != "zombie"]
    assert box.chat()[0] == 200


def test_after_the_manager_was_killed_down_leaves_nothing(box) -> None:
    box.up()
    os.kill(box.status()["pid"], signal.SIGKILL)
    ran = box("down")
    assert ran.code == 0
    assert "chat/0: ended; a manager that was killed had left it behind" in ran.stderr
    assert box.leftovers() == []


def test_a_reused_pid_is_never_killed(box) -> None:
    box.up()
    path = Path(os.environ["SELFHOST_STATE"]) / "box/running/chat-0.json"
    text = path.read_text()
    box("down")
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    record = json.loads(text)
    record["process"]["pid"] = stranger.pid  # the number is the stranger's now, the start time is not
    record["members"] = []
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record))
    assert box("down").code == 0
    assert stranger.poll() is None
    assert not path.exists()
    stranger.kill()
    stranger.wait()


@pytest.mark.parametrize(
    "text, words", [("{", "is damaged or of another version"), ('{"format_version": 99}', "is damaged or of another")]
)
def test_a_record_that_cannot_be_read_is_no_reason_to_guess(box, text: str, words: str) -> None:
    path = Path(os.environ["SELFHOST_STATE"]) / "box/running/chat-0.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    ran = box("up", "--wait")
    assert ran.code == 1
    assert words in ran.stderr
    assert str(path) in ran.stderr
    path.unlink()


def test_another_version_of_the_manager_gets_a_sentence(box) -> None:
    """A manager that speaks another protocol: the commands say so, and `down` still ends it."""
    code = (
        "import selfhost.runtime.control as c, selfhost; c.PROTOCOL = '0'; selfhost.__version__ = '0.0.1';"
        "import sys; sys.argv = ['serve', 'box']; from selfhost.runtime import serve; sys.exit(serve.main())"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True)
    wait_for((Path(os.environ["SELFHOST_RUNTIME"]) / "box/control.sock").exists)
    for verb in ("ps", "up", "plan"):
        ran = box(verb)
        assert ran.code == 1
        assert "is selfhost 0.0.1 (control protocol 0) and this is selfhost" in ran.stderr
        assert "hint: selfhost down, then selfhost up" in ran.stderr
    assert box("down").code == 0
    assert other.wait(timeout=10) == 0


def test_logs_show_the_engine_gateway_and_manager(box) -> None:
    assert box("logs").code == 1
    box.up()
    assert "Application startup complete" in box("logs", "chat").stdout
    assert box("logs", "chat/0", "-n", "1").stdout.count("\n") == 1
    assert "listening on" in box("logs", "gateway").stdout
    assert "chat/0 ready" in box("logs", "manager").stdout
    assert "there is no log of 'nope'" in box("logs", "nope").stderr


def test_logs_follow_across_a_restart(box, foreground) -> None:
    box.up()
    follow = foreground("logs", "chat", "--follow", "-n", "0")
    box.group()["server"].kill()
    wait_for(box.ready, seconds=30)
    lines = []
    while not any("Application startup complete" in line for line in lines):
        lines.append(follow.stdout.readline())
    follow.send_signal(signal.SIGINT)
    follow.communicate(timeout=10)
    assert follow.returncode == 130


def test_our_own_logs_are_bounded_and_followed_across_their_rotation(box, foreground) -> None:
    box.up()
    mib = b"x" * (1024**2 - 1) + b"\n"
    logs = {name: own_log("box", name) for name in OWN}
    for log in logs.values():
        with log.open("ab") as file:
            file.write(mib * 47 + b"so far\n")
    follow = foreground("logs", "gateway", "--follow", "-n", "5")
    while follow.stdout.readline() != "so far\n":
        pass
    for log in logs.values():
        with log.open("ab") as file:
            file.write(mib * 2)
        wait_for(lambda log=log: log.stat().st_size < len(mib))
        assert log.with_suffix(".log.1").stat().st_size >= LARGEST_BYTES
    assert box.get("/v1/models")[0] == 200
    while "GET /v1/models 200" not in follow.stdout.readline():
        pass


def test_no_verb_imports_an_engine(box) -> None:
    box.up()
    code = "import sys; from selfhost.cli.main import run; run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    for verb in (
        "check",
        "schema",
        "gpus",
        "plan",
        "ps",
        "health",
        "logs",
        "version",
        "up --wait",
        "engine list",
        "pull",
    ):
        ran = subprocess.run(
            [sys.executable, "-c", code, *verb.split()], cwd=box.folder, capture_output=True, text=True, check=True
        )
        assert not {"torch", "vllm", "ray", "transformers"} & set(ran.stderr.split()), verb
    manager = psutil.Process(box.status()["pid"])
    mapped = " ".join(entry.path for entry in manager.memory_maps())
    assert "torch" not in mapped


def test_a_runtime_folder_too_deep_for_sockets_is_refused_before_anything_starts(box) -> None:
    deep = Path(os.environ["SELFHOST_RUNTIME"]) / ("x" * 60)
    ran = box("up", "--wait", SELFHOST_RUNTIME=str(deep))
    assert ran.code == 1
    assert "is too long for the unix sockets in it" in ran.stderr
    assert "SELFHOST_RUNTIME" in ran.stderr
    assert box("down", SELFHOST_RUNTIME=str(deep)).code == 0
    deep.rmdir()  # which is empty
