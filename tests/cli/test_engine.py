import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from selfhost.engines import environment, prerequisites
from selfhost.planner.plan import Variant
from selfhost.progress import Progress
from selfhost.units import format_bytes


@pytest.fixture
def installed():
    """An environment as a build leaves it, without what is in it."""
    directory = environment.directory("0.32.0", "cpu")
    for path in (environment.python_in(directory), environment.executable_in(directory)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x" * 5000)
    return environment.finish(directory, vllm_version="0.32.0", variant="cpu", origin="the test", built=1e9)


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
        "variant": "cpu",
        "python": f"{installed.directory}/venv/bin/python",
        "executable": f"{installed.directory}/venv/bin/vllm",
        "arguments": f"{installed.directory}/arguments.json",
        "origin": "the test",
        "size_bytes": installed.size_bytes,
        "built": 1e9,
        "python_version": platform.python_version(),
        "packages_sha256": None,
        "directory": str(installed.directory),
    }


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setattr(prerequisites, "DISK_BYTES", dict.fromkeys(Variant, 0))


@pytest.mark.usefixtures("offline")
def test_install_tells_each_step(selfhost) -> None:
    ran = selfhost("engine", "install", "--no-compiler")
    assert ran.code == 1
    assert ran.stderr.splitlines()[:4] == [
        "checking: what this machine has",
        "checking: which package indexes answer",
        "resolving: which packages vLLM 0.32.0 needs",
        "error: no installable vLLM 0.32.0 (cpu) was found:",
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


@pytest.mark.parametrize(
    ("scenario", "code", "message"),
    [
        ("h100x8", 1, "error: no installable vLLM 0.32.0 (cu130) was found:"),
        ("l4", 1, "error: no installable vLLM 0.32.0 (cu129) was found:"),  # its driver is older
        ("v100", 4, "error: vLLM 0.32.0 has no kernels for GPU 0, 1, 2, 3 (Tesla V100-SXM2-16GB, compute capability"),
        ("nodriver", 4, "error: no GPU can be used: the NVIDIA driver"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_the_build_for_this_box_is_chosen_by_its_driver_and_gpus(nvml, selfhost, scenario, code, message) -> None:
    nvml(scenario)
    ran = selfhost("engine", "install")
    assert ran.code == code
    assert message in ran.stderr


@pytest.mark.usefixtures("offline")
def test_a_variant_that_was_asked_for_is_built_whatever_the_box_has(selfhost) -> None:
    ran = selfhost("engine", "install", "--variant", "cu129")
    assert ran.stderr.splitlines()[3:] == [
        "error: no installable vLLM 0.32.0 (cu129) was found:",
        "  vLLM's own cu129 index: not asked: the configuration says to stay off the network",
        "  PyTorch's cu129 index: not asked: the configuration says to stay off the network",
        *ran.stderr.splitlines()[6:],
    ]


def test_a_wheelhouse_brings_its_own_list(selfhost) -> None:
    ran = selfhost("engine", "install", "--wheelhouse", "w", "--packages", "p")
    assert (ran.code, "a wheelhouse brings its own list" in ran.stderr) == (2, True)


def test_list(selfhost, installed) -> None:
    ran = selfhost("engine", "list")
    header, row = ran.stdout.splitlines()
    assert header.split() == ["VLLM", "VARIANT", "SIZE", "BUILT", "PATH", "ORIGIN"]
    assert row.startswith(f"0.32.0  cpu      {format_bytes(installed.size_bytes)}  2001-09-")
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


@pytest.mark.usefixtures("installed")
def test_remove_of_one_variant_leaves_the_others(selfhost, isolated: Path) -> None:
    other = isolated / "home/engines/vllm-0.32.0-cu130"
    other.mkdir()
    ran = selfhost("engine", "remove", "0.32.0", "--variant", "cu129")
    assert (ran.code, ran.stderr.splitlines()[0]) == (1, "error: vLLM 0.32.0 (cu129) is not installed")
    assert selfhost("engine", "remove", "0.32.0", "--variant", "cu130").code == 0
    assert not other.exists()
    assert len(environment.installed()) == 1
    assert selfhost("engine", "remove", "--all", "--variant", "cpu").code == 2


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
