"""What every test gets: homes and a machine of its own, no network surprises."""

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest_plugins = [
    "fixtures.clone",
    "fixtures.command_line",
    "fixtures.hub",
    "fixtures.machine",
    "fixtures.parallel",
    "fixtures.torch",
    "fixtures.vllm",
]


# A shell's `&` hands down that Ctrl-C is ignored; what the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
    yield root
    shutil.rmtree(root, ignore_errors=True)
