"""A whole selfhost with the stand-in engine: real manager, gateway and command line, starts in a second."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from fixtures.ports import free_port
from fixtures.waiting import wait_for
from selfhost.engines import environment

FAKE = Path(__file__).parents[1] / "fakes/engine/vllm.py"
ARGUMENTS = Path(__file__).parents[1] / "data/vllm-0.32.0-arguments.json"


class Box:
    """One manifest on this machine, from outside: the command line, HTTP and signals."""

    def __init__(self, program, home: Path) -> None:
        self._program = program
        self.folder = program.folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._engine = environment.directory("0.32.0", "cpu")
        self._faults = self._engine / "faults.json"
        self.home = home
        self.requests: list[subprocess.Popen] = []
        self._install_stand_in()

    def _install_stand_in(self) -> None:
        binaries = self._engine / "venv/bin"
        binaries.mkdir(parents=True)
        (binaries / "python").symlink_to(sys.executable)
        launcher = binaries / "vllm"
        launcher.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} {self._faults} "$@"\n')
        launcher.chmod(0o755)
        (self._engine / "arguments.json").write_bytes(ARGUMENTS.read_bytes())
        environment.finish(self._engine, vllm_version="0.32.0", variant="cpu", origin="a stand-in", built=0.0)

    def faults(self, **by_model: dict) -> None:
        """What goes wrong in starts from now on, by model."""
        self._faults.write_text(json.dumps(by_model))

    def manifest(self, *models: str, listen: str | None = None, more: str = "") -> None:
        """Write models.yaml; each model is the inside of a YAML flow mapping."""
        entries = "\n".join(f"  - {{{model}}}" for model in models or ("name: chat, source: demo-a",))
        gateway = f"gateway: {{listen: '{listen or f'127.0.0.1:{self.port}'}'}}"
        (self.folder / "models.yaml").write_text(f"version: 1\nname: box\n{gateway}\n{more}\nmodels:\n{entries}\n")

    def __call__(self, *args: str, timeout: float = 50, **env: str):
        return self._program(*args, timeout=timeout, **env)

    def up(self, *args: str):
        """`selfhost up --wait`, which must succeed."""
        ran = self("up", "--wait", *args)
        assert ran.code == 0, ran.stderr
        return ran

    def status(self) -> dict | None:
        """What `selfhost ps --json` says of the manager."""
        return json.loads(self("ps", "--json").stdout)["manager"]

    def replica(self, name: str = "chat/0") -> dict:
        """One replica of it."""
        return next(each for each in self.status()["replicas"] if each["observed"]["replica"]["name"] == name)

    def running(self) -> Path:
        """Where the records of running processes are."""
        return Path(os.environ["SELFHOST_STATE"]) / "box/running"

    def record(self, name: str = "chat-0") -> dict:
        """The record of a running process."""
        return json.loads((self.running() / f"{name}.json").read_text())

    def gateway_record(self) -> dict:
        """The record of the gateway's process, while there is one."""
        (path,) = self.running().glob("gateway-*.json")
        return json.loads(path.read_text())

    def group(self, name: str = "chat-0") -> dict[str, psutil.Process]:
        """The processes of an engine by what they call themselves."""
        leader = self.record(name)["process"]["pid"]
        members = [process for process in psutil.process_iter() if _group_of(process.pid) == leader]
        return {"server" if process.pid == leader else process.name(): process for process in members}

    def ready(self, model: str | None = None) -> bool:
        """What /readyz answers."""
        return self.get(f"/readyz?model={model}" if model else "/readyz")[0] == 200

    def get(self, path: str, **headers: str) -> tuple[int, dict]:
        """GET from the gateway; status 0 when nobody listens."""
        status, text = self._ask("GET", path, None, headers)
        return status, json.loads(text)

    def chat(self, model: str = "chat", **fields: object) -> tuple[int, dict]:
        """One chat completion."""
        body = {"model": model, "messages": [{"role": "user", "content": "Who are you?"}], **fields}
        return self.post("/v1/chat/completions", body)

    def post(self, path: str, body: dict, **headers: str) -> tuple[int, dict]:
        """POST to the gateway."""
        status, text = self._ask("POST", path, body, headers)
        return status, json.loads(text)

    def in_flight(self, model: str = "chat") -> bool:
        """Whether the gateway counts one running request of `model`."""
        lines = self.text("/metrics").splitlines()
        return any(line.endswith(" 1.0") for line in lines if "in_flight" in line and model in line)

    def slow_request(self, tokens: int) -> subprocess.Popen:
        """A completion of so many tokens that is under way; its answer comes from `communicate`."""
        request = json.dumps({"model": "chat", "prompt": "x", "max_tokens": tokens})
        argv = ["curl", "-s", "-d", request, f"{self.url}/v1/completions"]
        curl = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.requests.append(curl)
        wait_for(self.in_flight)
        return curl

    def text(self, path: str) -> str:
        """The body of GET `path`."""
        return self._ask("GET", path, None, {})[1].decode()

    def _ask(self, method: str, path: str, body: dict | None, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (ConnectionRefusedError, ConnectionResetError, http.client.RemoteDisconnected):
            return 0, b"{}"
        finally:
            connection.close()

    def shared_memory(self) -> list[Path]:
        """What the stand-in engines of this box made: they put the name of its folder into theirs."""
        return list(Path("/dev/shm").glob(f"psm_{self.home.name}_*"))

    def leftovers(self) -> list[str]:
        """Everything of this box that is still there: processes, sockets, shared memory, temporary files."""
        names = [os.environ["SELFHOST_RUNTIME"], str(self._faults)]
        processes = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if any(name in word for word in process.cmdline() for name in names):
                    processes.append(" ".join(process.cmdline()))
        runtime = Path(os.environ["SELFHOST_RUNTIME"])
        files = [str(path) for path in runtime.rglob("*")] if runtime.exists() else []
        return processes + files


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@pytest.fixture
def box(program, isolated: Path) -> Iterator[Box]:
    box = Box(program, isolated)
    box.manifest()
    yield box
    box("down", "--now")
    for request in box.requests:
        request.kill()
        request.communicate()
    left = box.leftovers()
    for process in psutil.process_iter():  # a test that failed must not disturb the next one
        with suppress(psutil.Error):
            if any(str(isolated) in word for word in process.cmdline()):
                process.send_signal(signal.SIGKILL)
    memory = box.shared_memory()
    for path in memory:
        path.unlink()
    assert left == []
    assert memory == []


@pytest.fixture
def foreground(box: Box) -> Iterator[Callable[..., subprocess.Popen]]:
    """`foreground("up")`: a selfhost that stays, its output in pipes; ended with the test."""
    running: list[subprocess.Popen] = []

    def start(*args: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "selfhost", *args],
            cwd=box.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()
