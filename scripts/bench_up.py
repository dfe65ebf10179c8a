"""What selfhost adds to a start: `python scripts/bench_up.py [ROUNDS]`.

Interleaved rounds on this machine: the time from the command to the first token of (a) a bare `vllm serve`, asked
directly, and (b) `selfhost up` of the same model, asked through the gateway, with the same environment and flags (the
bare command line is the one that selfhost logged). Prints each round, the median ratio, and the idle manager's cost.
"""

import contextlib
import http.client
import json
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

SELFHOST = Path(sys.executable).parent / "selfhost"
PORT = 8123
MANIFEST = f"""\
version: 1
name: bench
gateway: {{listen: 127.0.0.1:{PORT}}}
models:
  - {{name: chat, source: demo-a, concurrency: 4}}
"""
REQUEST = json.dumps({"model": "chat", "prompt": "Hello", "max_tokens": 1})
LONGEST_SECONDS = 300
IDLE_SECONDS = 30


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("engine", timeout=30)
        self._path = str(path)

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def first_token(connection: http.client.HTTPConnection, key: str) -> bool:
    """Whether a token came back."""
    try:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        connection.request("POST", "/v1/completions", REQUEST, headers)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_for_token(connection: http.client.HTTPConnection, key: str, began: float) -> float:
    """Ask until a token comes back; the seconds since `began`."""
    while not first_token(connection, key):
        if time.perf_counter() - began > LONGEST_SECONDS:
            sys.exit("no token came back")
        time.sleep(0.05)
    return time.perf_counter() - began


def selfhost(folder: Path, env: dict[str, str], *, idle: bool) -> tuple[float, list[str]]:
    """One round of selfhost: seconds to the first token, and the engine's command line."""
    began = time.perf_counter()
    subprocess.run([SELFHOST, "up", "--detach"], cwd=folder, env=env, check=True, capture_output=True)
    seconds = wait_for_token(http.client.HTTPConnection("127.0.0.1", PORT, timeout=30), "", began)
    if idle:
        report_idle(folder, env)
    subprocess.run([SELFHOST, "down"], cwd=folder, env=env, check=True, capture_output=True)
    log = max((Path(env["SELFHOST_STATE"]) / "bench/logs/chat-0").glob("*.log"))
    return seconds, shlex.split(log.read_text().splitlines()[0].removeprefix("$ "))


def report_idle(folder: Path, env: dict[str, str]) -> None:
    """Print what the manager costs while nobody asks for anything."""
    status = subprocess.run([SELFHOST, "ps", "--json"], cwd=folder, env=env, check=True, capture_output=True)
    manager = psutil.Process(json.loads(status.stdout)["manager"]["pid"])
    before = sum(manager.cpu_times()[:2])
    time.sleep(IDLE_SECONDS)
    share = (sum(manager.cpu_times()[:2]) - before) / IDLE_SECONDS
    memory = manager.memory_full_info().pss / 1024**2
    print(f"idle manager: {share:.2%} of a core over {IDLE_SECONDS} s, {memory:.0f} MiB")


def bare(command: list[str], folder: Path, env: dict[str, str]) -> float:
    """One round of a bare `vllm serve`: seconds to the first token."""
    engine_socket = folder / "bare.sock"
    engine_socket.unlink(missing_ok=True)
    argv = [f"--uds={engine_socket}" if word.startswith("--uds=") else word for word in command]
    began = time.perf_counter()
    with (folder / "bare.log").open("wb") as log:
        engine = subprocess.Popen(argv, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        return wait_for_token(UnixConnection(engine_socket), env["VLLM_API_KEY"], began)
    finally:
        engine.terminate()
        engine.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(engine.pid, signal.SIGKILL)


def main() -> None:
    """Run the rounds."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory(prefix="sh-") as name:
        folder = Path(name)
        (folder / "models.yaml").write_text(MANIFEST)
        env = {**os.environ, "SELFHOST_STATE": f"{name}/state", "SELFHOST_RUNTIME": f"{name}/run"}
        subprocess.run([SELFHOST, "engine", "install"], env=env, check=True)
        _, command = selfhost(folder, env, idle=True)  # also warms the disk caches of both
        bare_env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("VLLM")},
            "VLLM_TARGET_DEVICE": "cpu",
            "VLLM_API_KEY": "bench",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        ratios = []
        for number in range(rounds):
            if number % 2:
                ours, theirs = selfhost(folder, env, idle=False)[0], bare(command, folder, bare_env)
            else:
                theirs, ours = bare(command, folder, bare_env), selfhost(folder, env, idle=False)[0]
            ratios.append(ours / theirs)
            print(f"round {number + 1}: vllm serve {theirs:.1f} s, selfhost up {ours:.1f} s, ratio {ours / theirs:.3f}")
        print(f"median ratio {statistics.median(ratios):.3f} (budget 1.1), {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
