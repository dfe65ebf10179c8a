"""What every test gets: homes of its own, no network surprises, and the command line as a function."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
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


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Point every directory of selfhost into a short private folder (unix sockets have 107 bytes for their path)."""
    root = Path(tempfile.mkdtemp(prefix="sh-"))
    for variable in ("SELFHOST_HOME", "SELFHOST_STATE", "SELFHOST_RUNTIME", "HF_HOME"):
        monkeypatch.setenv(variable, str(root / variable.removeprefix("SELFHOST_").lower()))
    for variable in ("SELFHOST_DEBUG", "NO_COLOR", "HF_TOKEN", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)
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
