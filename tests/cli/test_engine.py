import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from selfhost.engines import environment, prerequisites
from selfhost.progress import Progress
from selfhost.units import format_bytes


@pytest.fixture
def installed():
    """An environment as a build leaves it, without what is in it."""
    directory = environment.directory("0.32.0", "cpu")
    for path in (environment.python_in(directory), environment.executable_in(directory)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x" * 5000)
    return environment.finish(directory, vllm_version="0.32.0", platform="cpu", origin="the test", built=1e9)


def test_install_says_at_once_that_it_is_there(selfhost, installed) -> None:
    ran = selfhost("engine", "install")
    assert (ran.code, ran.stdout) == (0, "")
    assert ran.stderr == (
        "vLLM 0.32.0 (cpu) is already there:\n"
        f"  {format_bytes(installed.size_bytes)} in {installed.directory}\n"
        "  from the test\n"
        "hint: selfhost up\n"
    )


def test_install_as_json_ends_with_the_environment(selfhost, installed) -> None:
    ran = selfhost("engine", "install", "--vllm", "0.32.0", "--json")
    assert json.loads(ran.stdout) == {
        "format_version": 1,
        "vllm_version": "0.32.0",
        "platform": "cpu",
        "python": f"{installed.directory}/venv/bin/python",
        "executable": f"{installed.directory}/venv/bin/vllm",
        "arguments": f"{installed.directory}/arguments.json",
        "origin": "the test",
        "size_bytes": installed.size_bytes,
        "built": 1e9,
        "directory": str(installed.directory),
    }


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setattr(prerequisites, "DISK_BYTES", 0)


@pytest.mark.usefixtures("offline")
def test_install_tells_each_step(selfhost) -> None:
    ran = selfhost("engine", "install", "--no-compiler")
    assert ran.code == 1
    assert ran.stderr.splitlines()[:4] == [
        "checking: what this machine has",
        "checking: which package indexes answer",
        "resolving: which packages vLLM 0.32.0 needs",
        "error: no installable vLLM 0.32.0 for CPU was found:",
    ]


@pytest.mark.usefixtures("offline")
def test_install_tells_each_step_as_json(selfhost) -> None:
    ran = selfhost("engine", "install", "--no-compiler", "--json")
    assert [Progress.from_json(line).phase for line in ran.stdout.splitlines()][:2] == ["checking", "checking"]
    assert ran.stderr.startswith("error: no installable vLLM")


def test_an_old_version_is_blocked(selfhost) -> None:
    ran = selfhost("engine", "install", "--vllm", "0.31.0")
    assert ran.code == 4
    assert ran.stderr == (
        "error: vLLM 0.31.0 has known security holes that a request can reach\nhint: use 0.32.0 or newer\n"
    )


def test_list(selfhost, installed) -> None:
    ran = selfhost("engine", "list")
    header, row = ran.stdout.splitlines()
    assert header.split() == ["VLLM", "PLATFORM", "SIZE", "BUILT", "PATH", "ORIGIN"]
    assert row.startswith(f"0.32.0  cpu       {format_bytes(installed.size_bytes)}  2001-09-")
    assert row.endswith(f"{installed.directory}  the test")


def test_list_as_json(selfhost, installed) -> None:
    document = json.loads(selfhost("engine", "list", "--json").stdout)
    assert [each["directory"] for each in document["engines"]] == [str(installed.directory)]


def test_list_of_nothing(selfhost) -> None:
    ran = selfhost("engine", "list")
    assert (ran.code, ran.stdout) == (0, "")
    assert ran.stderr == "no engine environment is installed\nhint: selfhost engine install\n"
    assert json.loads(selfhost("engine", "list", "--json").stdout) == {"format_version": 1, "engines": []}


@pytest.mark.usefixtures("installed")
def test_remove(selfhost) -> None:
    ran = selfhost("engine", "remove", "0.32.0")
    assert ran.code == 0
    assert re.fullmatch(r"removing vllm-0\.32\.0-cpu\n  \d+ KiB freed\n", ran.stderr)
    assert environment.installed() == ()


def test_remove_all_takes_unfinished_ones_and_downloads_along(selfhost, isolated: Path) -> None:
    (isolated / "home/engines/vllm-0.99.0-cpu/venv").mkdir(parents=True)
    (isolated / "home/cache/uv/archive").mkdir(parents=True)
    assert selfhost("engine", "remove", "--all").stderr == (
        "removing vllm-0.99.0-cpu\n  0 B freed\nremoving what was downloaded\n  0 B freed\n"
    )
    assert not (isolated / "home/cache/uv").exists()


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["0.32.0"], 1, "error: vLLM 0.32.0 is not installed\nhint: selfhost engine list\n"),
        (["--all"], 1, "error: no engine environment is installed\nhint: selfhost engine list\n"),
        ([], 2, "Error: name one version, or say --all\n"),
        (["0.32.0", "--all"], 2, "Error: name one version, or say --all\n"),
    ],
)
def test_remove_of_nothing(selfhost, args: list[str], code: int, message: str) -> None:
    ran = selfhost("engine", "remove", *args)
    assert ran.code == code
    assert ran.stderr.endswith(message)


@pytest.mark.parametrize("verb", ["install", "list", "remove"])
def test_every_verb_has_examples(selfhost, verb: str) -> None:
    assert f"selfhost engine {verb}" in selfhost("engine", verb, "--help").stdout.partition("Examples:")[2]


def test_no_verb_imports_an_engine() -> None:
    code = "import sys; from selfhost.cli.main import run; run(['engine', 'list']); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(ran.stdout.split()) & {"torch", "vllm", "uv", "urllib.request", "ctypes"}
