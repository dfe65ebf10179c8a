"""`selfhost doctor` as people and programs run it, on scripted machines."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pexpect
import psutil
import pytest

from fixtures.command_line import Ran
from fixtures.ports import free_port
from selfhost import demo, state
from selfhost.doctor.registry import CHECKS
from selfhost.engines import environment

SCENARIOS = sorted(path.stem for path in (Path(__file__).parents[1] / "fakes/nvml/scenarios").glob("*.txt"))
GOLDEN = Path(__file__).parents[1] / "golden/doctor"
MANIFEST = "version: 1\nname: box\nmodels: [{name: chat, source: demo-a}]\n"
FILES = {file.name: file.read_bytes() for file in demo.path("demo-a").iterdir() if file.is_file()}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks the real Hub; the `hub` fixture undoes this."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def no_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fixes are those of a machine, also where the tests run in a container that tells so in its environment."""
    for name in ("RUNPOD_POD_ID", "VAST_CONTAINERLABEL", "KUBERNETES_SERVICE_HOST", "container"):
        monkeypatch.delenv(name, raising=False)


PATIENT = ("--timeout", "60")  # on a busy machine everything answers late, and what is tested is the answer


@pytest.fixture
def examine(selfhost, program, monkeypatch):
    """`examine("-f", "models.yaml", **env)`: the exit code, and the findings of each check that is not fine."""
    monkeypatch.chdir(program.folder)

    def run(*args: str, **env: str) -> tuple[int, dict[str, dict]]:
        with monkeypatch.context() as patched:
            for name, value in env.items():
                patched.setenv(name, value)
            return understand(selfhost("doctor", "--json", *PATIENT, *args))

    return run


def understand(ran: Ran) -> tuple[int, dict[str, dict]]:
    assert ran.stdout, ran.stderr
    found = json.loads(ran.stdout)["findings"]
    assert {finding["check"] for finding in found} <= {check.id for check in CHECKS}
    return ran.code, {finding["check"]: finding for finding in reversed(found) if finding["severity"] != "ok"}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_is_said_about_the_gpus_of_a_box(nvml, selfhost, golden, tmp_path, monkeypatch, scenario: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("selfhost.hardware.host.os.geteuid", lambda: 1000)  # whoever runs the tests
    nvml(scenario)
    ran = selfhost("doctor", "--json", *PATIENT)
    of_gpus = [
        each for each in json.loads(ran.stdout)["findings"] if each["check"].startswith(("gpu-", "cuda-", "driver-"))
    ]
    lines = [f"{each['severity']}: {each['sentence']} [{each['check']}]\n{each['fix'] or '-'}\n" for each in of_gpus]
    golden(GOLDEN / f"{scenario}.txt", f"exit code {ran.code}\n" + "".join(lines))


def test_an_entry_that_names_nothing_is_told_also_where_a_card_stands_for_its_mig_devices(nvml, examine) -> None:
    nvml("a100mig")
    said = examine(CUDA_VISIBLE_DEVICES="0,9")[1]["gpu-visibility"]["sentence"]
    assert said.startswith('CUDA_VISIBLE_DEVICES="0,9" shows 3 of 4 devices: "9" names none, or more than one')


@pytest.mark.parametrize(
    "script, words, fix",
    [
        ("802", "(CUDA error 802: CUDA_ERROR_SYSTEM_NOT_READY)", "nvidia-fabricmanager"),
        ("999", "an unknown error (CUDA error 999: CUDA_ERROR_UNKNOWN)", "nvidia_uvm"),
        ("0 1", "CUDA starts with 1 of the 2 GPUs", "/dev/nvidia*"),
        ("hang", "CUDA was still starting after 2.1 s", "nvidia-smi -pm 1"),
        (None, "libcuda.so.1 cannot be loaded", "NVIDIA_DRIVER_CAPABILITIES"),
    ],
)
def test_cuda_is_really_started_and_up_asks_first(
    nvml, nvml_library, examine, program, monkeypatch, script: str | None, words: str, fix: str
) -> None:
    nvml("rtx4090x2")
    if script is None:
        monkeypatch.setenv("LD_LIBRARY_PATH", str(nvml_library))
    else:
        monkeypatch.setenv("FAKE_CUDA", script)
    code, found = examine()
    assert words in found["cuda-init"]["sentence"]
    assert fix in found["cuda-init"]["fix"]
    blocks = found["cuda-init"]["severity"] == "blocking"
    assert code == (4 if blocks else 0)
    program.manifest(f"{MANIFEST}gateway: {{listen: '127.0.0.1:{free_port()}'}}\n")
    ran = program("up", "--wait", UV_OFFLINE="1")
    program("down", "--now")
    assert ran.code == (4 if blocks else 1)  # then it is the engine that cannot be had
    assert (words in ran.stderr) == blocks
    assert ("1 warning: selfhost doctor" in ran.stderr) != blocks


def test_nothing_that_hangs_keeps_it_from_an_answer(nvml, program, black_hole: str) -> None:
    nvml("hang")
    program.manifest("version: 1\nname: box\nmodels: [{name: chat, source: acme/tiny}]\n")
    network = {"HF_ENDPOINT": "http://hub.example", "HTTP_PROXY": black_hole, "NO_PROXY": "", "HF_HUB_OFFLINE": "0"}
    code, found = understand(program("doctor", "--json", FAKE_CUDA="hang", **network))
    assert code == 4
    assert "not answer" in found["gpu-driver"]["sentence"]
    assert found["hub-access"]["sentence"] == (
        "access to the Hub could not be looked at: the Hub did not answer within 2.0 s"
    )
    assert found["plan"]["severity"] == "info" or "not answer" in found["plan"]["sentence"]
    assert [process.cmdline() for process in psutil.process_iter() if _is_query(process)] == []


def test_a_proxy_that_refuses_is_named(examine, program) -> None:
    program.manifest("version: 1\nname: box\nmodels: [{name: chat, source: acme/tiny}]\n")
    nobody = "http://127.0.0.1:9"
    code, found = examine(HF_ENDPOINT="http://hub.example", HTTP_PROXY=nobody, NO_PROXY="", HF_HUB_OFFLINE="0")
    assert code == 0  # weights may be here for all that is known, and `up` says better what is not
    assert "the Hub (http://hub.example) cannot be reached: ConnectError" in found["hub-access"]["sentence"]
    assert "HTTPS_PROXY" in found["hub-access"]["fix"]
    assert "no plan could be made: chat: cannot reach the Hub for acme/tiny" in found["plan"]["sentence"]
    ran = program(
        "doctor", *PATIENT, HF_ENDPOINT="http://hub.example", HTTP_PROXY=nobody, NO_PROXY="", HF_HUB_OFFLINE="0"
    )
    assert re.search(
        r"^this box could serve.*; whether the manifest fits it is not known: selfhost plan$", ran.stderr, re.MULTILINE
    )


def test_each_repository_is_asked_for_before_anything_is_fetched(hub, examine, program) -> None:
    hub.add("acme/tiny", FILES)
    hub.add("acme/gated", FILES, gated=True, allowed=("hf_granted",))
    program.manifest("version: 1\nname: box\nmodels: [{name: a, source: acme/tiny}, {name: b, source: acme/gated}]\n")
    code, found = examine()
    assert code == 4
    assert found["hub-access"]["severity"] == "blocking"
    assert found["hub-access"]["sentence"] == "acme/gated is gated: its owner must grant you access"
    assert "accept its licence at" in found["hub-access"]["fix"]
    code, found = examine(HF_TOKEN="hf_granted")
    assert (code, "hub-access" in found, "clock" in found) == (0, False, False)
    assert not [path for method, path in hub.requests if method == "GET" and "storage" in path and path.count("/") > 9]


def test_two_revisions_of_one_repository_are_asked_for_both(hub, examine, program) -> None:
    hub.add("acme/tiny", FILES)
    models = "{name: a, source: acme/tiny}, {name: b, source: acme/tiny, revision: gone}"
    program.manifest(f"version: 1\nname: box\nmodels: [{models}]\n")
    assert "gone" in examine()[1]["hub-access"]["sentence"]
    program.manifest(
        "version: 1\nname: box\nmodels: [{name: b, source: acme/tiny, revision: gone}, {name: a, source: acme/tiny}]\n"
    )
    assert "gone" in examine()[1]["hub-access"]["sentence"]


def test_a_table_for_people_the_worst_first_each_fix_alone_on_a_line(program, isolated) -> None:
    keys = isolated / "state/box/keys.json"
    keys.parent.mkdir(parents=True)
    keys.parent.chmod(0o700)
    keys.write_text("{}")
    keys.chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        program.manifest(f"{MANIFEST}gateway: {{listen: '127.0.0.1:{port}'}}\n")
        ran = program("doctor", *PATIENT)
    assert ran.code == 4
    lines = ran.stdout.splitlines()
    assert lines[0].startswith(f"blocking  cannot listen on 127.0.0.1:{port}: Address already in use, by python")
    assert lines[0].endswith(" [gateway-port]")
    assert lines[1].strip().startswith(f"ss -ltnp 'sport = :{port}'")
    warning = next(number for number, line in enumerate(lines) if line.startswith("warning") and "keys.json" in line)
    assert lines[warning + 1].strip() == f"chmod 600 {keys}"
    assert re.fullmatch(r"ok        the other \d+ checks", lines[-1])
    assert ran.stderr == "\nthis box will not serve: 1 thing to fix first\n"
    assert [line.split()[0] for line in program("doctor", "--all", *PATIENT).stdout.splitlines()].count("ok") > 3


def test_quiet_says_it_with_the_exit_code_alone(selfhost, nvml) -> None:
    fine, blocked = selfhost("doctor", "--quiet"), (nvml("mismatch"), selfhost("doctor", "--quiet"))[1]
    assert (fine.code, fine.stdout, fine.stderr) == (0, "", "")
    assert (blocked.code, blocked.stdout, blocked.stderr) == (4, "", "")


def test_on_a_terminal_long_sentences_are_wrapped_and_fixes_are_not(program, nvml) -> None:
    nvml("nodriver")
    screen = pexpect.spawn(
        sys.executable, ["-m", "selfhost", "doctor"], cwd=str(program.folder), dimensions=(40, 60), encoding="utf-8"
    )
    shown = re.sub(r"\x1b\[[0-9;]*m", "", screen.read())
    assert "\x1b" not in shown
    lines = shown.replace("\r", "").splitlines()
    assert lines[0] == "blocking  the NVIDIA driver is not loaded [gpu-driver]"
    sudo = "" if os.geteuid() == 0 else "sudo "
    assert f"`{sudo}modprobe nvidia`; if that fails, install the driver" in shown.replace("\r\n", "")


def test_the_list_names_every_check_and_looks_at_nothing(selfhost) -> None:
    shown = selfhost("doctor", "--list").stdout.splitlines()
    assert [line.split()[0] for line in shown[1:]] == [check.id for check in CHECKS]


def test_without_a_manifest_the_box_alone_is_looked_at(program) -> None:
    ran = program("doctor", *PATIENT)
    assert ran.code == 0
    assert ran.stderr == "\nthis box (no models.yaml here) will serve\n"
    named = program("doctor", "-f", "other.yaml", *PATIENT)
    assert named.code == 4
    assert "other.yaml: there is no such file" in named.stdout


def test_a_manifest_that_is_wrong_is_a_finding_among_others(program, examine) -> None:
    program.manifest("version: 2\nmodels: []\n")
    code, found = examine()
    assert code == 4
    assert "models.yaml:1: version: should be 1" in found["manifest"]["sentence"]
    assert "plan" not in found
    assert program("doctor", "-f", "-").code == 2


def test_a_key_in_the_manifest_is_told_by_its_line(program, examine) -> None:
    program.manifest(f"{MANIFEST}# hf_{'a' * 30}\n")
    code, found = examine()
    assert code == 0
    assert "in line 4" in found["secrets-in-manifest"]["sentence"]


def test_what_crashed_work_left_is_told_with_its_size_and_what_removes_it(program, examine, isolated) -> None:
    gone = state.RunRecord(
        name="chat/0", process=state.ProcessIdentity(pid=1 << 22, start_ticks=1, boot_id="x"), started=0.0, log="/x"
    )
    state.write_record("old", gone)
    half = isolated / "hf_home/hub/models--acme--tiny/blobs/abc.incomplete"
    half.parent.mkdir(parents=True)
    half.write_bytes(bytes(1 << 20))
    engine = environment.directory("0.32.0", "cpu") / "venv"
    engine.mkdir(parents=True)
    (engine / "rest").write_bytes(bytes(1 << 20))
    with half.open("rb"):  # somebody is fetching it
        assert "unfinished-downloads" not in examine()[1]
    code, found = examine()
    assert code == 0
    assert found["crashed-runs"]["sentence"] == "'old' has no manager, and the record of chat/0 is left"
    assert "take 1 MiB" in found["unfinished-downloads"]["sentence"].replace("takes", "take")
    assert found["unfinished-downloads"]["fix"] == f"rm -f -- {half}"
    assert "takes 1 MiB" in found["unfinished-engines"]["sentence"]
    for check in ("crashed-runs", "unfinished-engines"):
        ran = program(*found[check]["fix"].split()[1:])
        assert ran.code == 0, ran.stderr
    half.unlink()
    assert not examine()[1].keys() & {"crashed-runs", "unfinished-engines", "unfinished-downloads"}


def test_a_program_that_others_can_reach_is_told(examine, tmp_path: Path) -> None:
    server = tmp_path / "vllm"
    server.write_text("import socket, sys; s = socket.create_server(('0.0.0.0', 0)); print('up'); sys.stdin.read()")
    public = pexpect.spawn(sys.executable, [str(server)])
    public.expect("up")
    assert f"vllm (pid {public.pid}) on 0.0.0.0:" in examine()[1]["public-listeners"]["sentence"]
    public.close(force=True)
    assert "public-listeners" not in examine()[1]


def test_an_engine_with_known_holes_is_told(examine) -> None:
    path = environment.directory("0.29.0", "cpu")
    binaries = path / "venv/bin"
    binaries.mkdir(parents=True)
    for name in ("python", "vllm"):
        (binaries / name).touch()
    environment.finish(path, vllm_version="0.29.0", variant="cpu", origin="a test", built=0.0)
    found = examine()[1]["engine-holes"]
    assert "CVE-2026-114053" in found["sentence"]
    assert found["fix"] == "selfhost engine remove 0.29.0"


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A proxy that takes connections and never says a word."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


def _is_query(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.environ().get("SELFHOST_HOME") == os.environ["SELFHOST_HOME"] and process.status() != "zombie"
    return False


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e300"])
def test_a_timeout_that_is_no_time_is_a_wrong_use(selfhost, seconds: str) -> None:
    ran = selfhost("doctor", "--timeout", seconds)
    assert (ran.code, "--timeout" in ran.stderr) == (2, True)


@pytest.mark.parametrize("ends", ["exit(0);", 'puts("[1]"); exit(0);', "abort();"])
def test_a_libcuda_that_ends_its_process_is_no_defect_of_ours(nvml, examine, tmp_path, monkeypatch, ends: str) -> None:
    nvml("l4")
    source = tmp_path / "cuda.c"
    source.write_text(f"#include <stdio.h>\n#include <stdlib.h>\nint cuInit(unsigned flags) {{ {ends} return 0; }}\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", source], check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path), prepend=":")
    code, findings = examine()
    assert (code, findings["cuda-init"]["severity"]) == (0, "info")
    assert "a child process ended with" in findings["cuda-init"]["sentence"]


@pytest.mark.parametrize("home", [None, "/nowhere"])
def test_a_user_without_a_home_gets_a_sentence(isolated: Path, home: str | None) -> None:
    if subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine has no user namespaces")
    without = ["HOME", "SELFHOST_HOME", "SELFHOST_STATE"]
    argv = [
        "env",
        *(f"-u{name}" for name in without),
        *([f"HOME={home}"] if home else []),
        sys.executable,
        "-m",
        "selfhost",
    ]
    for verb in (["gpus"], ["doctor"], ["engine", "list"]):
        become = ["unshare", "--user", "--map-user=4242", "--map-group=4242", "--"]
        ran = subprocess.run([*become, *argv, *verb], cwd=isolated, capture_output=True, text=True, check=False)
        assert ran.returncode == (0 if home else 1), ran.stderr
        assert bool(home) or "this user has no home directory" in ran.stderr


def test_state_that_cannot_be_looked_into_or_waits_is_told(examine, isolated: Path, monkeypatch) -> None:
    running = isolated / "state/box/running"
    running.mkdir(parents=True)
    os.mkfifo(running / "chat-0.json")
    _, findings = examine()
    assert "chat-0.json: it is a named pipe, not a file" in findings["crashed-runs"]["sentence"]
    monkeypatch.setenv("SELFHOST_STATE", f"/{'x' * 300}")
    _, findings = examine()
    assert "File name too long" in findings["crashed-runs"]["sentence"]


def test_with_standard_output_closed_the_exit_code_still_says_it(isolated: Path) -> None:
    argv = ["sh", "-c", f"exec {sys.executable} -m selfhost doctor --all >&-"]
    ran = subprocess.run(argv, cwd=isolated, capture_output=True, text=True, check=False)
    assert (ran.returncode, "internal error" in ran.stderr) == (0, False), ran.stderr


def test_a_reader_that_has_seen_enough_is_no_failure(isolated: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    argv = [sys.executable, "-m", "selfhost", "doctor", "--list"]
    ran = subprocess.run(argv, cwd=isolated, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (0, "")
