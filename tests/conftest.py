"""What every test gets: homes and a machine of its own, no network surprises, and the command line as a function."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from selfhost import paths
from selfhost.cli import main
from selfhost.engines import environment, versions
from selfhost.engines.environment import EngineEnvironment

ENGINE_TIMEOUT_SECONDS = 900  # of a test that may have to download and build vLLM first


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "engine_home" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(ENGINE_TIMEOUT_SECONDS))


sys.path.insert(0, str(Path(__file__).parent))  # for `fakes`: test folders are no packages
from fakes.hub import Hub

NVML = Path(__file__).parent / "fakes/nvml"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what is now into the golden files")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """`golden(path, text)`: the file at `path` holds exactly `text`; --update-golden makes it so."""

    def check(path: Path, text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.write_text(text)
        assert text == path.read_text(), f"{path} differs; if it should, run again with --update-golden"

    return check


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Point every directory of selfhost into a short private folder (unix sockets have 107 bytes for their path)."""
    root = Path(tempfile.mkdtemp(prefix="sh-"))
    for variable in ("SELFHOST_HOME", "SELFHOST_STATE", "SELFHOST_RUNTIME", "SELFHOST_HOST_ROOT", "HF_HOME"):
        monkeypatch.setenv(variable, str(root / variable.removeprefix("SELFHOST_").lower()))
    for variable in ("SELFHOST_DEBUG", "NO_COLOR", "HF_TOKEN", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)
    Machine(root / "host_root").build()
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def engine_home() -> Path:
    """The home with the one real vLLM that all tests of all runs share: this user's, or $SELFHOST_TEST_ENGINES."""
    home = Path(os.environ.get("SELFHOST_TEST_ENGINES") or paths.home_dir()).absolute()
    subprocess.run(
        [sys.executable, "-m", "selfhost", "engine", "install", "--no-compiler"],  # all tests run --enforce-eager
        env={**os.environ, "SELFHOST_HOME": str(home)},
        check=True,
    )
    return home


@pytest.fixture
def engine_environment(engine_home: Path, monkeypatch: pytest.MonkeyPatch) -> EngineEnvironment:
    """The real vLLM; the test's $SELFHOST_HOME is the shared one, so that what it starts finds it too."""
    monkeypatch.setenv("SELFHOST_HOME", str(engine_home))
    found = environment.find_built(versions.DEFAULT, "cpu")
    assert found
    return found


@dataclass(frozen=True)
class Machine:
    """What selfhost sees of the machine: the real host with its limits, but only the accelerators of the test."""

    root: Path

    def build(self) -> None:
        """A machine without accelerators."""
        for real in ("proc/self", "sys/fs/cgroup"):
            link = self.root / real
            link.parent.mkdir(parents=True)
            link.symlink_to(f"/{real}")

    def plug_in(self, address: str, *, class_code: int = 0x030200, vendor: int = 0x10DE) -> None:
        """Put a function on the PCI bus; by default an NVIDIA GPU."""
        device = self.root / "sys/bus/pci/devices" / address
        device.mkdir(parents=True)
        (device / "class").write_text(f"{class_code:#08x}\n")
        (device / "vendor").write_text(f"{vendor:#06x}\n")


@pytest.fixture
def machine(isolated: Path) -> Machine:
    return Machine(isolated / "host_root")


@dataclass(frozen=True)
class Scenario:
    """What the scripted NVML pretends; changes take effect at the next call, in whatever process."""

    path: Path

    def become(self, text: str) -> None:
        """Pretend `text` (tests/fakes/nvml/README.md) from now on."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)  # at once: a reader never sees half of it

    def error(self, function: str, code: int, *, gpu: int | str = "*", delay_ms: int = 0) -> None:
        """Let calls of `function` take `delay_ms` and fail with `code` from now on; counts before older rules."""
        self.become(f"error={function} {gpu} {code} {delay_ms}\n{self.path.read_text()}")


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the scripted libnvidia-ml.so.1."""
    folder = tmp_path_factory.mktemp("nvml")
    build = ["gcc", "-O1", "-Wall", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run([*build, "-o", folder / "libnvidia-ml.so.1", *sorted(NVML.glob("*.c"))], check=True)
    return folder


@pytest.fixture
def nvml(
    nvml_library: Path, machine: Machine, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Scenario]:
    """`nvml("h100x8")`: from here on, this test and the processes it starts are on a machine with eight H100s."""

    def pretend(scenario: str) -> Scenario:
        text = scenario if "\n" in scenario else (NVML / f"scenarios/{scenario}.txt").read_text()
        pretended = Scenario(isolated / "nvml.txt")
        pretended.become(text)
        monkeypatch.setenv("FAKE_NVML", str(pretended.path))
        monkeypatch.setenv("LD_LIBRARY_PATH", str(nvml_library), prepend=":")
        for address in re.findall(r"^pci_bus_id=0000(\S+)$", text, re.MULTILINE):
            machine.plug_in(address.lower())
        return pretended

    return pretend


@dataclass(frozen=True)
class Ran:
    """What a command line said and how it ended."""

    code: int
    stdout: str
    stderr: str


class CommandLine:
    """`selfhost ARGS...` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: str | Path) -> Ran:
        self._capsys.readouterr()
        code = main.run([str(arg) for arg in args])
        stdout, stderr = self._capsys.readouterr()
        return Ran(int(code), stdout, stderr)


@pytest.fixture
def selfhost(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub of this test, empty; the processes that the test starts talk to it (the client reads it at import)."""
    with Hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_HUB_DISABLE_UPDATE_CHECK", "1")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.delenv("HF_HUB_CACHE", raising=False)
        yield served


class Program:
    """`selfhost ARGS...` in a process of its own, in the folder of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *args: str | Path, timeout: float = 50, **env: str) -> Ran:
        argv = [sys.executable, "-m", "selfhost", *map(str, args)]
        ran = subprocess.run(
            argv,
            cwd=self.folder,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def manifest(self, text: str) -> Path:
        """Write models.yaml."""
        path = self.folder / "models.yaml"
        path.write_text(textwrap.dedent(text))
        return path


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)
