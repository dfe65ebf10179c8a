"""What every test gets: homes of its own, no network surprises, and the command line as a function."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from selfhost.cli import main


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
